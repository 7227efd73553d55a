// Building the page. Text from anywhere goes in as text nodes, so no name, topic or payload can be markup.

const SVG = 'http://www.w3.org/2000/svg';
const SVG_TAGS = new Set(['svg', 'path', 'circle', 'rect', 'line', 'g']);

/** An element with attributes, listeners (`onclick`, …) and children; absent ones are left out. */
export function h(tag, attributes, ...children) {
  const element = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

/** Sets text only when it differs, so that a page at rest costs nothing. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets or removes an attribute, only when it differs. */
export function setAttribute(element, name, value) {
  if (value === undefined || value === null || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, value);
  }
}

/** Draws anew only when what it is drawn from changed: selections and focus survive. */
export function drawOnce(parent, from, draw) {
  const shown = JSON.stringify(from);
  if (parent.dataset.shown === shown) return;
  parent.dataset.shown = shown;
  parent.replaceChildren(...draw());
}

/**
 * A list that keeps the element of each item: `create(item)` gives `{ element, update(item) }`.
 * Elements are moved only when the order changed, so focus and selection survive.
 */
export function keyedList(parent, key, create) {
  const parts = new Map();
  return function render(items) {
    const wanted = new Set();
    let next = parent.firstElementChild;
    for (const item of items) {
      const id = key(item);
      wanted.add(id);
      let part = parts.get(id);
      if (!part) {
        part = create(item);
        parts.set(id, part);
      }
      if (part.element === next) next = next.nextElementSibling;
      else parent.insertBefore(part.element, next);
      part.update(item);
    }
    for (const [id, part] of parts) {
      if (wanted.has(id)) continue;
      part.element.remove();
      parts.delete(id);
    }
  };
}
