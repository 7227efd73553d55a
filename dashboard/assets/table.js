// A table that draws only the rows in view, so that 5 000 scroll like fifty. The page scrolls, not the table.

import { h, setAttribute } from './dom.js';
import { icon } from './icons.js';

const OVERSCAN = 6;

/**
 * `columns`: `{ id, title, sort?(a, b), class? }`; `create(item)` gives `{ cells, update(item) }`;
 * `key(item)` names a row. `height` is that of a row in pixels, as the style has it.
 */
export function table({ label, columns, key, create, height, sort, onsort }) {
  const head = h('div', { role: 'row', class: 'tr th' });
  const body = h('div', { role: 'rowgroup', class: 'tbody' });
  const element = h('div', { role: 'table', class: 'table', 'aria-label': label }, h('div', { role: 'rowgroup', class: 'thead' }, head), body);
  const rows = new Map();
  let items = [];
  let order = sort;

  const headers = columns.map((column) => {
    const attributes = { role: 'columnheader', class: `td ${column.class ?? ''}` };
    if (!column.sort) return h('div', attributes, h('span', { class: 'th-text' }, column.title));
    const button = h('button', { type: 'button', class: 'sort', onclick: () => sortBy(column.id) }, column.title, icon('chevron'));
    return h('div', attributes, button);
  });
  head.append(...headers);

  function sortBy(id) {
    order = { id, descending: order?.id === id ? !order.descending : false };
    onsort?.(order);
    render(items);
  }

  function markOrder() {
    columns.forEach(({ id }, index) => {
      const direction = order?.id !== id ? undefined : order.descending ? 'descending' : 'ascending';
      setAttribute(headers[index], 'aria-sort', direction);
    });
  }

  function render(next) {
    const by = columns.find(({ id }) => id === order?.id)?.sort;
    items = by ? next.toSorted((a, b) => (order.descending ? by(b, a) : by(a, b))) : next;
    setAttribute(element, 'aria-rowcount', items.length + 1);
    body.style.height = `${items.length * height}px`;
    markOrder();
    draw();
  }

  /** Draws what is in view. While scrolling, rows that were drawn already are left as they are. */
  function draw(scrolling = false) {
    const top = body.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(-top / height) - OVERSCAN);
    const last = Math.min(items.length, Math.ceil((innerHeight - top) / height) + OVERSCAN);
    const wanted = new Set();
    let moved = false;
    for (let index = first; index < last; index += 1) {
      const item = items[index];
      const id = key(item);
      wanted.add(id);
      let row = rows.get(id);
      const fresh = !row;
      if (fresh) {
        row = create(item);
        row.element = h('div', { role: 'row', class: 'tr' }, row.cells.map((cell, at) => h('div', { role: 'cell', class: `td ${columns[at].class ?? ''}` }, cell)));
        rows.set(id, row);
      }
      if (row.index !== index) {
        row.index = index;
        moved = true;
        row.element.style.transform = `translateY(${index * height}px)`;
        setAttribute(row.element, 'aria-rowindex', index + 2);
      }
      if (fresh || !scrolling) row.update(item);
    }
    for (const [id, row] of rows) {
      // A row that has the focus stays until the focus goes.
      if (wanted.has(id) || row.element.contains(document.activeElement)) continue;
      row.element.remove();
      rows.delete(id);
    }
    if (moved) arrange();
  }

  /** Tab and a reader go by the order of the elements: that is the order seen. A row that is moved loses the focus, so the others go around the one that has it. */
  function arrange() {
    const elements = [...rows.values()].sort((a, b) => a.index - b.index).map((row) => row.element);
    const focused = elements.findIndex((element) => element.contains(document.activeElement));
    const still = focused >= 0 ? focused : Math.max(0, elements.findIndex((element) => element.parentNode));
    if (!elements[still].parentNode) body.append(elements[still]);
    for (let index = still - 1; index >= 0; index -= 1) {
      if (elements[index].nextElementSibling !== elements[index + 1]) elements[index + 1].before(elements[index]);
    }
    for (let index = still + 1; index < elements.length; index += 1) {
      if (elements[index].previousElementSibling !== elements[index - 1]) elements[index - 1].after(elements[index]);
    }
  }

  let scheduled = false;
  function scrolled() {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => {
      scheduled = false;
      draw(true);
    });
  }
  addEventListener('scroll', scrolled, { passive: true });
  addEventListener('resize', scrolled, { passive: true });

  return {
    element,
    render,
    draw: () => draw(),
    close() {
      removeEventListener('scroll', scrolled);
      removeEventListener('resize', scrolled);
    },
  };
}
