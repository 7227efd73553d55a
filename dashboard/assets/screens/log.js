// The MQTT log as it runs, broker events mixed in.

import { h, setAttribute, setText } from '../dom.js';
import { clock, integer, moment } from '../format.js';
import { t } from '../i18n.js';
import { icon } from '../icons.js';
import { brokerText, isBrokerEvent } from '../model.js';
import { empty } from '../parts.js';
import { LOG_MESSAGES, store } from '../store.js';
import { selects } from '../topics.js';

const LINES = 400;
const KINDS = ['all', 'messages', 'events'];
/** Nearer to the end than this, the view follows it. */
const FOLLOW = 40;

export function log(root, { query, setQuery }) {
  const topic = h('input', { type: 'search', 'aria-keyshortcuts': '/', class: 'mono', placeholder: 'devices/+/telemetry', 'aria-label': t('log.topic'), value: query.get('topic') ?? '' });
  const text = h('input', { type: 'search', placeholder: t('log.search'), 'aria-label': t('log.search'), value: query.get('q') ?? '' });
  const kinds = KINDS.map((kind) => h('button', { type: 'button', class: 'filter', onclick: () => choose(kind) }, t(`log.${kind}`)));
  const pause = h('button', { type: 'button', class: 'button', onclick: togglePause });
  const lines = h('ol', { class: 'log-lines' });
  const view = h('div', { class: 'log', tabindex: '0', role: 'log', 'aria-live': 'off', 'aria-label': t('nav.log') }, lines);
  const none = h('div');
  const count = h('p', { class: 'toolbar-note' });
  // Says that it was held or goes on; the count beside it would be said with each message.
  const voice = h('p', { class: 'sr', role: 'status' });
  root.append(
    h('div', { class: 'toolbar' }, h('label', { class: 'search' }, icon('search'), topic, h('kbd', { 'aria-hidden': 'true' }, '/')), h('label', { class: 'search narrow' }, icon('search'), text), h('div', { class: 'filters', role: 'group', 'aria-label': t('log.kind') }, kinds), pause, count, voice),
    view,
    none,
  );
  let paused;
  let last = 0;

  for (const [input, key] of [[topic, 'topic'], [text, 'q']]) {
    input.addEventListener('input', () => {
      setQuery({ [key]: input.value });
      restart();
    });
  }

  function choose(kind) {
    setQuery({ kind: kind === 'all' ? '' : kind });
    restart();
  }

  function togglePause() {
    paused = paused ? undefined : { lastId: store.log.at(-1)?.id ?? 0 };
    setText(voice, t(paused ? 'log.paused' : 'log.resumed'));
    if (!paused) restart();
    update(new Set(['log']));
  }

  const kind = () => (KINDS.includes(query.get('kind')) ? query.get('kind') : 'all');

  function wanted(line) {
    const event = isBrokerEvent(line);
    if (kind() === 'messages' && event) return false;
    if (kind() === 'events' && !event) return false;
    const needle = (query.get('q') ?? '').toLowerCase();
    return selects(query.get('topic') ?? '', line.topic) && (!needle || line.payload.toLowerCase().includes(needle));
  }

  function restart() {
    last = 0;
    lines.replaceChildren();
    update(new Set(['log']));
  }

  function update(changed) {
    // Everything was loaded anew, perhaps from a server that counts its lines from one again.
    if (changed.has('all')) {
      last = 0;
      if (paused) paused.lastId = store.log.at(-1)?.id ?? 0;
      else lines.replaceChildren();
    }
    kinds.forEach((button, index) => setAttribute(button, 'aria-pressed', String(KINDS[index] === kind())));
    if (pause.dataset.paused !== String(Boolean(paused))) {
      pause.dataset.paused = String(Boolean(paused));
      pause.replaceChildren(icon(paused ? 'play' : 'pause'), t(paused ? 'log.resume' : 'log.pause'));
      setAttribute(pause, 'aria-pressed', String(Boolean(paused)));
    }
    if (!changed.has('log') && !changed.has('all')) return;
    const waiting = paused ? store.log.filter((line) => line.id > paused.lastId && wanted(line)).length : 0;
    setText(count, paused ? t('log.waiting', { count: waiting < LOG_MESSAGES ? integer(waiting) : `${integer(LOG_MESSAGES)}+` }) : '');
    const upTo = paused?.lastId ?? Infinity;
    const fresh = store.log.filter((line) => line.id > last && line.id <= upTo && wanted(line)).slice(-LINES);
    const follows = view.scrollHeight - view.scrollTop - view.clientHeight < FOLLOW;
    if (fresh.length) {
      last = fresh.at(-1).id;
      lines.append(...fresh.flatMap(lineElements));
      while (lines.childElementCount > LINES) lines.firstElementChild.remove();
      if (follows) view.scrollTop = view.scrollHeight;
    }
    const why = lines.firstElementChild ? '' : store.log.length ? 'filtered' : 'none';
    view.hidden = why !== '';
    if (none.dataset.why !== why) {
      none.dataset.why = why;
      none.replaceChildren(...(why ? [empty(t(`empty.log.${why}`), t(`empty.log.${why}.text`))] : []));
    }
  }
  update(new Set(['log']));
  return {
    title: t('nav.log'),
    update,
    opened() {
      view.scrollTop = view.scrollHeight;
    },
  };
}

function lineElements(line) {
  const event = isBrokerEvent(line);
  const element = h(
    'li',
    { class: `log-line ${event ? 'event' : ''} ${line.topic === '$SYS/broker/log/E' ? 'error' : ''}` },
    h('time', { title: moment(line.at) }, clock(line.at)),
    h('span', { class: 'log-topic', title: line.topic }, event ? t(level(line.topic)) : line.topic),
    h('span', { class: 'log-payload' }, event ? brokerText(line.payload) : line.payload, line.truncated && ' …'),
    line.retained && h('span', { class: 'mark', title: t('log.retained') }, 'R'),
  );
  return line.skipped ? [element, h('li', { class: 'log-gap' }, t('log.skipped', { count: integer(line.skipped) }))] : [element];
}

/** `$SYS/broker/log/N`: the letter is Mosquitto's log level. */
function level(topic) {
  const letter = topic.split('/')[3];
  return { E: 'log.level.error', W: 'log.level.warning' }[letter] ?? 'log.level.notice';
}
