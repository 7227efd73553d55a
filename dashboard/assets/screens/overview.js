// The state of the fleet at a glance.

import { h, keyedList, setAttribute, setText } from '../dom.js';
import { celsius, clock, duration, integer, rate, relative } from '../format.js';
import { t, word } from '../i18n.js';
import { brokerText, byName, certificateRows, isBrokerEvent, isClusterKnown, isWithdrawn, needsAttention, nextDue, presence, PRESENCES, signingGeneration, withdrawnButHere } from '../model.js';
import { empty, emptiness, firstDevice, holderName, lifeBar, noteOf, section, stateChip } from '../parts.js';
import { icon, STATE_ICONS } from '../icons.js';
import { sparkline } from '../spark.js';
import { now, sourceNow, store } from '../store.js';

const CARDS = 24;
const DUE = 6;
const EVENTS = 7;

export function overview(root) {
  const tiles = { devices: devicesTile(), messages: messagesTile(), certificates: certificatesTile(), due: dueTile(), list: revocationTile(), barred: barredTile(), broker: brokerTile(), rotation: rotationTile() };
  const cards = h('ul', { class: 'cards' });
  const more = h('p', { class: 'more' });
  const none = h('div');
  const due = h('ul', { class: 'list' });
  const events = h('ul', { class: 'list events' });
  const silence = h('p', { class: 'list quiet' }, t('overview.noEvents'));
  root.append(
    h('div', { class: 'tiles' }, ...Object.values(tiles).map((tile) => tile.element)),
    section(t('overview.temperatures'), cards, more, none),
    h('div', { class: 'columns' }, section(t('overview.due'), due), section(t('overview.events'), events, silence)),
  );
  const renderCards = keyedList(cards, (device) => device.name, card);
  const renderDue = keyedList(due, (row) => row.id, dueItem);
  const renderEvents = keyedList(events, (line) => line.id, eventItem);

  let shown = [];

  function devices() {
    const all = [...store.devices.values()];
    shown = choose(all, now());
    renderCards(shown);
    const hidden = all.length - shown.length;
    more.hidden = hidden === 0;
    if (hidden) more.replaceChildren(t('overview.more', { count: integer(hidden) }), ' ', h('a', { href: '/devices' }, t('overview.all')));
    emptiness(none, all.length === 0, () => empty(t('empty.devices'), t('empty.devices.text'), firstDevice(store.namespace)));
  }

  function drawEvents() {
    const lines = brokerEvents();
    renderEvents(lines);
    events.hidden = lines.length === 0;
    silence.hidden = lines.length > 0;
  }

  function update(changed) {
    // Values move at once; which devices are shown, their order and the counts once a second.
    const once = ['all', 'tick'].some((field) => changed.has(field));
    if (once) devices();
    else if (changed.has('readings')) renderCards(shown);
    if (changed.has('log')) drawEvents();
    if (!once) return;
    const rows = certificateRows(store);
    renderDue(nextDue(rows, DUE));
    for (const tile of Object.values(tiles)) tile.update(rows);
  }
  update(new Set(['all', 'log']));
  return { title: t('nav.overview'), update };
}

/** "There is none", where that is known. */
const missing = (key) => t(isClusterKnown(store) ? key : 'health.unknown');

/** With few devices all of them, by name, so that nothing jumps. With many those that have something to show, and of them those in trouble first. */
function choose(devices, at) {
  if (devices.length <= CARDS) return devices.sort(byName);
  const rank = { offline: 0, stale: 1, online: 2 };
  return devices.filter((device) => presence(device, at) !== 'waiting').sort((a, b) => rank[presence(a, at)] - rank[presence(b, at)] || byName(a, b)).slice(0, CARDS);
}

/** Who came, who went, what was refused; that a socket opened or a cipher was chosen stands in the log. */
function brokerEvents() {
  return store.log.filter((line) => isBrokerEvent(line) && !/^(New connection from|Client \S+ negotiated) /.test(brokerText(line.payload))).slice(-EVENTS).reverse();
}

function card(device) {
  const chip = stateChip('presence');
  const value = h('span', { class: 'card-value' });
  const unit = h('span', { class: 'unit' }, '°C');
  const note = h('span', { class: 'card-note' });
  const range = h('span', { class: 'card-note' });
  const spark = sparkline();
  const element = h(
    'li',
    { class: 'card' },
    h('div', { class: 'card-head' }, h('a', { href: `/devices/${encodeURIComponent(device.name)}`, class: 'card-name' }, device.name), chip.element),
    h('div', { class: 'card-body' }, h('p', { class: 'card-temperature' }, value, unit), spark.element),
    h('div', { class: 'card-foot' }, note, range),
  );
  return {
    element,
    update() {
      const current = store.devices.get(device.name);
      if (!current) return;
      const at = now();
      const state = presence(current, at);
      chip.update(state);
      setAttribute(element, 'data-presence', state);
      setText(value, current.latest ? celsius(current.latest[2]) : '–');
      unit.hidden = !current.latest;
      setText(note, noteOf(current, state, at));
      const known = current.spark.values.filter((one) => one !== null);
      // One that is silent says since when: that takes the room.
      setText(range, state === 'online' && known.length > 1 ? t('overview.range', { min: celsius(Math.min(...known)), max: celsius(Math.max(...known)) }) : '');
      spark.draw(current, at);
    },
  };
}

function tile(label, href) {
  const value = h('p', { class: 'tile-value' });
  const note = h('p', { class: 'tile-note' });
  const head = h('p', { class: 'tile-label' }, href ? h('a', { href }, label) : label);
  return { element: h('div', { class: 'tile' }, head, value, note), value, note };
}

function devicesTile() {
  const { element, value, note } = tile(t('tile.devices'), '/devices');
  const parts = PRESENCES.map((state) => {
    const count = h('span');
    return { state, count, element: h('span', { class: 'count', 'data-tone': toneOf(state) }, icon(STATE_ICONS[state]), count) };
  });
  note.append(...parts.map((part) => part.element));
  note.classList.add('counts');
  return {
    element,
    update() {
      const at = now();
      const counts = Object.fromEntries(PRESENCES.map((state) => [state, 0]));
      for (const device of store.devices.values()) counts[presence(device, at)] += 1;
      setText(value, store.devices.size || isClusterKnown(store) ? integer(store.devices.size) : '–');
      for (const part of parts) {
        part.element.hidden = part.state !== 'online' && counts[part.state] === 0;
        setText(part.count, `${integer(counts[part.state])} ${t(`presence.${part.state}`)}`);
      }
    },
  };
}

function toneOf(state) {
  return { online: 'ok', stale: 'warn', offline: 'bad', waiting: 'quiet' }[state];
}

function messagesTile() {
  const { element, value, note } = tile(t('tile.messages'), '/log');
  return {
    element,
    update() {
      value.replaceChildren(rate(store.rate.perSecond), h('span', { class: 'unit' }, t('tile.perSecond')));
      setText(note, t('tile.total', { count: integer(store.rate.total) }));
    },
  };
}

function certificatesTile() {
  const { element, value, note } = tile(t('tile.certificates'), '/certificates');
  return {
    element,
    update(rows) {
      const at = now();
      const bad = rows.filter((row) => needsAttention(row, at)).length;
      const known = rows.length > 0 || isClusterKnown(store);
      setText(value, known ? integer(rows.filter((row) => row.certificate).length) : '–');
      const [tone, mark] = bad ? ['bad', 'warn'] : known ? ['ok', 'check'] : ['quiet', 'wait'];
      note.replaceChildren(h('span', { class: 'count', 'data-tone': tone }, icon(mark), bad ? t('tile.attention', { count: integer(bad) }) : t(known ? 'tile.inOrder' : 'health.unknown')));
    },
  };
}

function dueTile() {
  const { element, value, note } = tile(t('tile.due'), '/certificates');
  return {
    element,
    update(rows) {
      const at = now();
      const [next] = nextDue(rows, 1);
      setText(value, next ? (next.due > at ? duration(next.due - at) : at - next.due < 60_000 ? t('tile.now') : t('tile.overdue')) : '–');
      setText(note, next ? next.holder.name : missing('tile.noCertificate'));
      setAttribute(value, 'data-tone', next && at - next.due >= 60_000 ? 'warn' : undefined);
    },
  };
}

function revocationTile() {
  const { element, value, note } = tile(t('tile.crl'), '/certificates');
  return {
    element,
    update() {
      const at = now();
      const lists = [...store.holders.values()].flatMap((holder) => (holder.root?.crl ? [holder.root.crl] : []));
      const oldest = lists.sort((a, b) => a.nextUpdate - b.nextUpdate)[0];
      setText(value, oldest ? duration(at - oldest.signedAt) : '–');
      setText(note, oldest ? t('tile.crlNote', { revoked: integer(lists.reduce((sum, list) => sum + list.revoked, 0)), duration: duration(oldest.nextUpdate - at) }) : missing('tile.noCrl'));
      setAttribute(value, 'data-tone', oldest && oldest.nextUpdate < at ? 'bad' : undefined);
    },
  };
}

function brokerTile() {
  const { element, value, note } = tile(t('tile.broker'));
  return {
    element,
    update() {
      const { health, since } = sourceNow('broker');
      setText(value, t(`health.${health}`));
      setAttribute(value, 'data-tone', health === 'down' ? 'bad' : undefined);
      const { version, clients } = store.broker;
      const facts = [version?.replace(/^mosquitto version /, 'Mosquitto '), clients === undefined || clients === null ? undefined : t('tile.clients', { count: integer(clients) })];
      setText(note, health === 'up' ? facts.filter(Boolean).join(' · ') : t('time.sinceClock', { clock: clock(since) }));
    },
  };
}

function barredTile() {
  const { element, value, note } = tile(t('tile.barred'), '/audit?severity=critical');
  return {
    element,
    update() {
      const known = sourceNow('broker').health === 'up' && isClusterKnown(store);
      const here = withdrawnButHere(store, now()).length;
      const all = [...store.holders.values()].filter(isWithdrawn).length;
      setText(value, known ? integer(here) : '–');
      setAttribute(value, 'data-tone', known && here ? 'bad' : undefined);
      setText(note, all ? t('tile.barredNote', { count: integer(all) }) : missing('tile.nobodyBarred'));
    },
  };
}

function rotationTile() {
  const { element, value, note } = tile(t('nav.rotation'), '/rotation');
  return {
    element,
    update() {
      const roots = [...store.holders.values()].filter(({ root }) => root);
      const running = roots.find(({ root }) => root.rotation);
      const { rotation, paused } = running?.root ?? {};
      setText(value, rotation ? word('phase', rotation.phase) : roots.length ? t('tile.noRotation') : '–');
      setAttribute(value, 'data-tone', paused && rotation ? 'warn' : undefined);
      const active = roots.map(signingGeneration).find(Boolean);
      if (rotation) setText(note, t(paused ? 'rotation.paused' : 'tile.rotationNote', { done: integer(rotation.reissued), total: integer(rotation.total) }));
      else setText(note, active ? t('certificate.generation', { number: active.generation }) : missing('tile.noRoot'));
    },
  };
}

function dueItem(row) {
  const bar = lifeBar();
  const text = h('span', { class: 'list-end' });
  const detail = row.certificate.generationState ? t('certificate.generation', { number: row.certificate.generation }) : undefined;
  const href = row.holder.kind === 'IotDevice' ? `/devices/${encodeURIComponent(row.holder.name)}` : undefined;
  return {
    element: h('li', { class: 'list-row due' }, holderName(row.holder, detail, href), bar.element, text),
    update({ certificate, due, renews }) {
      const at = now();
      bar.update(certificate, at);
      setText(text, dueText(due, renews, certificate.notAfter, at));
    },
  };
}

/** A renewal that is due takes seconds; one that is not done a minute later is late. */
function dueText(due, renews, notAfter, at) {
  if (notAfter < at) return t('overview.expired', { when: relative(notAfter, at) });
  if (!renews) return t('overview.expires', { when: relative(due, at) });
  if (due > at) return t('overview.renews', { when: relative(due, at) });
  return at - due < 60_000 ? t('overview.dueNow') : t('overview.overdue', { duration: duration(at - due) });
}

function eventItem(line) {
  const element = h('li', { class: 'list-row event' }, h('time', { class: 'event-time' }, clock(line.at)), h('span', { class: 'event-text' }, brokerText(line.payload)));
  return { element, update() {} };
}
