// The replacement of a root: where it is, how far, who is waited for.

import { kubectl, patch } from '../audit.js';
import { h } from '../dom.js';
import { eventHistory } from '../events.js';
import { integer, moment, relative } from '../format.js';
import { t, word } from '../i18n.js';
import { icon } from '../icons.js';
import { code, empty, stateChip } from '../parts.js';
import { now, store } from '../store.js';

const PHASES = ['Distributing', 'SwitchingServers', 'Reissuing', 'Draining', 'Retiring'];

export function rotation(root) {
  /** Of each root, by name. */
  const histories = new Map();

  function history(name) {
    if (!histories.has(name)) histories.set(name, eventHistory('RootCA', name));
    return histories.get(name);
  }

  function update(changed) {
    for (const { update } of histories.values()) update();
    if (!['all', 'holders', 'tick'].some((field) => changed.has(field))) return;
    const roots = [...store.holders.values()].filter((holder) => holder.kind === 'RootCA');
    const minute = Math.floor(now() / 60_000);
    const shown = JSON.stringify([roots, minute]);
    if (root.dataset.shown === shown) return;
    root.dataset.shown = shown;
    root.replaceChildren(...(roots.length ? roots.map((holder) => rootPanel(holder, history(holder.name))) : [empty(t('empty.roots'), t('empty.roots.text'))]));
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

function rootPanel({ name, certificates, root }, history) {
  const { rotation, paused } = root;
  return h(
    'div',
    { class: 'panel' },
    h('div', { class: 'panel-head' }, h('h2', {}, name), h('span', { class: 'panel-note' }, root.subject), h('span', { class: 'chip', 'data-tone': rotation ? (paused ? 'warn' : 'info') : 'ok' }, icon(rotation ? (paused ? 'pause' : 'refresh') : 'check'), t(rotation ? (paused ? 'rotation.paused' : 'rotation.running') : 'rotation.none'))),
    rotation && progress(rotation),
    h('ul', { class: 'list' }, certificates.map(generation)),
    safety(certificates, rotation),
    h('div', { class: 'part' }, h('h3', {}, t('events.title')), history.element),
    h('div', { class: 'part commands' }, orders(name, root).map(([key, text]) => h('div', {}, h('h3', {}, t(key)), code(text, t('copy.command'))))),
  );
}

/** What can be done about it now, by hand. */
function orders(name, { rotation, paused }) {
  if (!rotation) return [['command.rotate', `${kubectl(store)} patch rootca ${name} --type merge -p "{\\"spec\\":{\\"rotation\\":{\\"trigger\\":\\"$(date -u +%FT%TZ)\\"}}}"`]];
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
    h('span', { class: 'list-end', title: moment(certificate.notAfter) }, t('overview.expires', { when: relative(certificate.notAfter, now()) })),
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
    h('p', { class: 'fine' }, [reason, startedAt && t('rotation.since', { when: relative(startedAt, now()) })].filter(Boolean).join(' · ')),
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
