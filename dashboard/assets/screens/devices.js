// Every device: search, chips and order are in the address, so that a view can be sent to somebody.

import { h, setAttribute, setText } from '../dom.js';
import { celsius, integer, relative } from '../format.js';
import { t } from '../i18n.js';
import { icon, STATE_ICONS } from '../icons.js';
import { isUnregistered, lifeLeft, presence, PRESENCES } from '../model.js';
import { empty, emptiness, firstDevice, lifeBar, stateChip } from '../parts.js';
import { sparkline } from '../spark.js';
import { now, store } from '../store.js';
import { table } from '../table.js';

const ROW = 52;
const RANK = { offline: 0, stale: 1, waiting: 2, online: 3 };

export function devices(root, { query, setQuery }) {
  const search = h('input', { type: 'search', 'aria-keyshortcuts': '/', placeholder: t('devices.search'), 'aria-label': t('devices.search'), value: query.get('q') ?? '' });
  const chips = ['all', ...PRESENCES].map(filterChip);
  const shown = h('p', { class: 'toolbar-note', role: 'status' });
  const none = h('div');
  const filtered = h('div', {}, empty(t('empty.filtered'), t('empty.filtered.text')));
  const rows = table({
    label: t('nav.devices'),
    height: ROW,
    sort: { id: query.get('sort') ?? 'name', descending: query.get('order') === 'descending' },
    onsort: ({ id, descending }) => setQuery({ sort: id === 'name' && !descending ? '' : id, order: descending ? 'descending' : '' }),
    key: (item) => item.device.name,
    create: row,
    columns: [
      { id: 'name', title: t('device.name'), sort: by((item) => item.device.name) },
      { id: 'temperature', title: t('device.temperature'), sort: byNumber((item) => item.device.latest?.[2]) },
      { id: 'presence', title: t('device.connection'), sort: byNumber((item) => RANK[item.presence]) },
      { id: 'seen', title: t('device.lastSeen'), sort: byNumber((item) => item.device.latest?.[1]) },
      { id: 'state', title: t('certificate.state'), sort: by((item) => item.holder?.state ?? '') },
      { id: 'life', title: t('certificate.life'), sort: byNumber((item) => item.certificate && lifeLeft(item.certificate, now())) },
      { id: 'generation', title: t('certificate.rootGeneration'), sort: byNumber((item) => item.certificate?.generation), class: 'number' },
      { id: 'lost', title: t('device.lost'), sort: byNumber((item) => item.device.lost), class: 'number' },
    ],
  });
  rows.element.classList.add('devices-table');
  root.append(
    h('div', { class: 'toolbar' }, h('label', { class: 'search' }, icon('search'), search, h('kbd', { 'aria-hidden': 'true' }, '/')), h('div', { class: 'filters', role: 'group', 'aria-label': t('device.connection') }, chips.map((chip) => chip.element)), shown),
    rows.element,
    none,
    filtered,
  );
  search.addEventListener('input', () => {
    setQuery({ q: search.value });
    render();
  });

  function filterChip(state) {
    const count = h('span', { class: 'filter-count' });
    const element = h(
      'button',
      {
        type: 'button',
        class: 'filter',
        onclick() {
          setQuery({ state: state === 'all' ? '' : state });
          render();
        },
      },
      state !== 'all' && icon(STATE_ICONS[state]),
      t(state === 'all' ? 'filter.all' : `presence.${state}`),
      count,
    );
    return { state, element, count };
  }

  function render() {
    const at = now();
    const text = (query.get('q') ?? '').toLowerCase();
    const wanted = query.get('state') || 'all';
    const counts = Object.fromEntries(PRESENCES.map((state) => [state, 0]));
    const items = [];
    let found = 0;
    for (const device of store.devices.values()) {
      if (text && !device.name.toLowerCase().includes(text)) continue;
      const state = presence(device, at);
      counts[state] += 1;
      found += 1;
      if (wanted !== 'all' && wanted !== state) continue;
      const holder = store.holders.get(`IotDevice/${device.name}`);
      items.push({ device, presence: state, holder, certificate: holder?.certificates[0] });
    }
    for (const chip of chips) {
      setText(chip.count, integer(chip.state === 'all' ? found : counts[chip.state]));
      setAttribute(chip.element, 'aria-pressed', String(chip.state === wanted));
    }
    rows.render(items);
    setText(shown, items.length === store.devices.size ? '' : t('devices.shown', { shown: integer(items.length), all: integer(store.devices.size) }));
    rows.element.hidden = items.length === 0;
    filtered.hidden = items.length > 0 || store.devices.size === 0;
    emptiness(none, store.devices.size === 0, () => empty(t('empty.devices'), t('empty.devices.text'), firstDevice(store.namespace)));
  }
  render();

  let drawn = 0;
  return {
    title: t('nav.devices'),
    update(changed) {
      // Sorting 5 000 rows at every reading would be for nothing: what is in view changes at once, the order once a second.
      const structure = ['all', 'devices', 'holders', 'tick'].some((field) => changed.has(field));
      if (structure && Date.now() - drawn > 900) {
        drawn = Date.now();
        render();
      } else rows.draw();
    },
    close: rows.close,
  };
}

function row({ device: { name } }) {
  const value = h('span', { class: 'cell-value' });
  const spark = sparkline();
  const chip = stateChip('presence');
  const seen = h('span');
  const state = stateChip('state');
  const bar = lifeBar();
  const left = h('span', { class: 'cell-note' });
  const generation = h('span');
  const lost = h('span');
  const unregistered = h('span', { class: 'name-sub' }, t('device.unregisteredShort'));
  const label = h('span', { class: 'name-text' }, h('a', { href: `/devices/${encodeURIComponent(name)}`, class: 'name-main row-link' }, name), unregistered);
  const cells = [label, h('span', { class: 'cell-temperature' }, value, spark.element), chip.element, seen, state.element, h('span', { class: 'cell-life' }, bar.element, left), generation, lost];
  return {
    cells,
    update() {
      // As it is now: an item is as old as the order of the rows.
      const device = store.devices.get(name);
      if (!device) return;
      const holder = store.holders.get(`IotDevice/${name}`);
      const certificate = holder?.certificates[0];
      const at = now();
      const present = presence(device, at);
      setAttribute(this.element, 'data-presence', present);
      unregistered.hidden = !isUnregistered(store, device);
      setText(value, device.latest ? `${celsius(device.latest[2])} °C` : '–');
      spark.draw(device, at);
      chip.update(present);
      setText(seen, device.latest ? relative(device.latest[1], at) : '–');
      state.element.hidden = !holder;
      if (holder) state.update(holder.state ?? 'Pending');
      bar.element.hidden = !certificate;
      if (certificate) bar.update(certificate, at);
      setText(left, certificate ? relative(certificate.notAfter, at) : '–');
      setText(generation, certificate ? String(certificate.generation) : '–');
      setText(lost, integer(device.lost));
    },
  };
}

function by(text) {
  const collator = new Intl.Collator(undefined, { numeric: true });
  return (a, b) => collator.compare(text(a), text(b)) || collator.compare(a.device.name, b.device.name);
}

/** What is not known comes last. */
function byNumber(number) {
  const name = by((item) => item.device.name);
  return (a, b) => (number(a) ?? Infinity) - (number(b) ?? Infinity) || name(a, b);
}
