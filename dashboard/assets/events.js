// What happened to a resource, as the cluster tells it: loaded when it is looked at, and whenever something happens.

import { h } from './dom.js';
import { date, integer, moment } from './format.js';
import { t } from './i18n.js';
import { icon } from './icons.js';
import { isClusterKnown } from './model.js';
import { now, store } from './store.js';

/** A list for the resource; `update()` with each change, `close()` at the end. */
export function eventHistory(kind, name) {
  const element = h('ul', { class: 'list events' });
  const id = `${kind}/${name}`;
  const abort = new AbortController();
  let loaded;
  let shown;

  async function load(revision) {
    loaded = revision;
    try {
      const response = await fetch(`/api/v1/events/${kind}/${encodeURIComponent(name)}`, { signal: abort.signal });
      if (response.ok) draw(await response.json());
      else if (response.status === 404) draw({ events: [], problem: null });
    } catch {
      // The banner says what is down; with the next news, or when everything is loaded anew, it is tried again.
      loaded = undefined;
    }
  }

  function draw({ events, problem }) {
    const latest = JSON.stringify([events, problem]);
    if (latest === shown) return;
    shown = latest;
    const rows = events.toReversed().map(row);
    if (problem) rows.unshift(h('li', { class: 'list-row quiet' }, t('events.problem', { problem })));
    element.replaceChildren(...(rows.length ? rows : [h('li', { class: 'list-row quiet' }, t('events.none'))]));
  }

  return {
    element,
    update() {
      // Nothing is noted of what is not in the cluster.
      if (!store.holders.has(id)) return draw({ events: [], problem: isClusterKnown(store) ? null : t('empty.unknown') });
      const revision = `${store.loads}/${store.eventsOf.get(id) ?? 0}`;
      if (revision !== loaded) load(revision);
    },
    close: () => abort.abort(),
  };
}

function row({ at, warning, reason, message, count }) {
  return h(
    'li',
    { class: 'list-row happened', 'data-tone': warning ? 'warn' : 'ok' },
    icon(warning ? 'warn' : 'check'),
    h('time', { class: 'event-time', title: moment(at) }, date(at, now())),
    h('span', { class: 'happened-reason' }, reason, count > 1 && h('span', { class: 'mark' }, t('events.count', { count: integer(count) }))),
    h('span', { class: 'event-text' }, message),
  );
}
