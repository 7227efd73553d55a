// The replacement of a root: where it is, how far, who is waited for.

import { patch, rotate } from '../audit.js';
import { drawOnce, h, keyedList } from '../dom.js';
import { eventHistory } from '../events.js';
import { integer, moment } from '../format.js';
import { t, word } from '../i18n.js';
import { icon } from '../icons.js';
import { code, emptiness, empty, stateChip, timeText, updateTimes } from '../parts.js';
import { store } from '../store.js';

const PHASES = ['Distributing', 'SwitchingServers', 'Reissuing', 'Draining', 'Retiring'];

export function rotation(root) {
  const none = h('div');
  const panels = h('div');
  /** Of each root, by name. */
  const histories = new Map();
  root.append(none, panels);
  const render = keyedList(panels, ({ name }) => name, ({ name }) => rootPanel(name, history(name)));

  function history(name) {
    if (!histories.has(name)) histories.set(name, eventHistory('RootCA', name));
    return histories.get(name);
  }

  function update(changed) {
    for (const { update } of histories.values()) update();
    if (!['all', 'holders', 'tick'].some((field) => changed.has(field))) return;
    const roots = [...store.holders.values()].filter((holder) => holder.kind === 'RootCA');
    render(roots);
    emptiness(none, roots.length === 0, () => empty(t('empty.roots'), t('empty.roots.text')));
    updateTimes(panels);
  }
  update(new Set(['all']));
  return {
    title: t('nav.rotation'),
    update,
    close() {
      for (const { close } of histories.values()) close();
    },
  };
}

/** Each part is drawn anew only with what it shows, so that the focus on a copy button outlives the progress above it. */
function rootPanel(name, history) {
  const [head, state, commands] = [h('div', { class: 'panel-head' }), h('div'), h('div', { class: 'part commands' })];
  return {
    element: h('div', { class: 'panel' }, head, state, h('div', { class: 'part' }, h('h3', {}, t('events.title')), history.element), commands),
    update({ certificates, root }) {
      const { subject, rotation, paused } = root;
      const [tone, mark, words] = !rotation ? ['ok', 'check', 'rotation.none'] : paused ? ['warn', 'pause', 'rotation.paused'] : ['info', 'refresh', 'rotation.running'];
      drawOnce(head, [subject, words], () => [h('h2', {}, name), h('span', { class: 'panel-note' }, subject), h('span', { class: 'chip', 'data-tone': tone }, icon(mark), t(words))]);
      drawOnce(state, [certificates, rotation], () => [rotation && progress(rotation), h('ul', { class: 'list' }, certificates.map(generation)), certificates.length > 0 && safety(certificates, rotation)].filter(Boolean));
      const todo = orders(name, root);
      drawOnce(commands, todo, () => todo.map(([key, text]) => h('div', {}, h('h3', {}, t(key)), code(text, t('copy.command')))));
    },
  };
}

/** What can be done about it now, by hand. */
function orders(name, { rotation, paused }) {
  if (!rotation) return [['command.rotate', rotate(store, name)]];
  return [[paused ? 'command.continue' : 'command.pause', patch(store, 'RootCA', name, { rotation: { paused: !paused } })]];
}

function safety(certificates, rotation) {
  const safe = safeToRemove(certificates, rotation);
  const text = safe ? 'rotation.safe' : certificates.length > 1 ? 'rotation.unsafe' : 'rotation.single';
  return h('p', { class: 'safety', 'data-tone': safe ? 'ok' : certificates.length > 1 ? 'warn' : 'quiet' }, icon(safe ? 'check' : 'cross'), h('strong', {}, `${t('rotation.removable')} ${t(safe ? 'answer.yes' : 'answer.no')}`), h('span', {}, t(text)));
}

/** Once everybody uses the new root, the operator takes the old one out; before that nobody should. */
function safeToRemove(certificates, rotation) {
  return certificates.length > 1 && rotation?.phase === 'Retiring';
}

function generation(certificate) {
  const chip = stateChip('state');
  chip.update(certificate.generationState);
  return h(
    'li',
    { class: 'list-row generation' },
    h('strong', {}, t('certificate.generation', { number: certificate.generation })),
    chip.element,
    timeText('overview.expires', certificate.notAfter, { class: 'list-end', title: moment(certificate.notAfter) }),
  );
}

function progress({ phase, reason, startedAt, trusting, reissued, total, laggards }) {
  const current = PHASES.indexOf(phase);
  return h(
    'div',
    { class: 'rotation' },
    h(
      'ol',
      { class: 'phases' },
      PHASES.map((name, index) =>
        h('li', { class: 'phase', 'data-at': index < current ? 'done' : index === current ? 'now' : 'later', 'aria-current': index === current && 'step' }, icon(index < current ? 'check' : index === current ? 'refresh' : 'wait'), h('span', {}, word('phase', name))),
      ),
    ),
    h('p', { class: 'fine' }, reason, reason && startedAt && ' · ', startedAt && timeText('rotation.since', startedAt)),
    count(t('rotation.trusting'), trusting, total),
    count(t('rotation.reissued'), reissued, total),
    laggards.length > 0 && h('p', { class: 'fine' }, t('rotation.laggards'), ' ', laggards.flatMap((name, index) => [index ? ', ' : '', h('a', { class: 'link', href: `/devices/${encodeURIComponent(name)}` }, name)])),
  );
}

function count(label, done, total) {
  const fill = h('span', { class: 'life-fill' });
  fill.style.width = `${total ? (done / total) * 100 : 100}%`;
  return h('div', { class: 'progress' }, h('span', {}, label), h('span', { class: 'life', 'data-tone': done === total ? 'ok' : 'info', 'aria-hidden': 'true' }, fill), h('span', { class: 'list-end' }, t('rotation.of', { done: integer(done), total: integer(total) })));
}
