// What somebody should look at: what it is, why it matters, and the command that helps.

import { findings, SEVERITIES } from '../audit.js';
import { h, keyedList, setAttribute, setText } from '../dom.js';
import { duration, integer, moment } from '../format.js';
import { t } from '../i18n.js';
import { icon } from '../icons.js';
import { code, empty } from '../parts.js';
import { now, sourceNow, store } from '../store.js';

const ICONS = { critical: 'cross', warning: 'warn', notice: 'clock' };
export const SEVERITY_TONES = { critical: 'bad', warning: 'warn', notice: 'info' };
/** More of the same rule than this are counted, not listed. */
const SHOWN = 100;

export function audit(root, { query, setQuery }) {
  const chips = ['all', ...SEVERITIES].map((severity) => {
    const count = h('span', { class: 'filter-count' });
    const element = h('button', { type: 'button', class: 'filter', onclick: () => choose(severity) }, severity !== 'all' && icon(ICONS[severity]), t(severity === 'all' ? 'filter.all' : `severity.${severity}`), count);
    return { severity, element, count };
  });
  const list = h('ul', { class: 'findings' });
  const none = h('div');
  const more = h('p', { class: 'more' });
  root.append(h('div', { class: 'toolbar' }, h('div', { class: 'filters', role: 'group', 'aria-label': t('audit.severity') }, chips.map((chip) => chip.element))), list, more, none);
  const render = keyedList(list, (finding) => finding.id, findingItem);

  function choose(severity) {
    setQuery({ severity: severity === 'all' ? '' : severity });
    update(new Set(['tick']));
  }

  function update(changed) {
    if (!['all', 'tick'].some((field) => changed.has(field))) return;
    const all = findings(store, now());
    const wanted = query.get('severity') || 'all';
    const shown = all.filter((finding) => wanted === 'all' || finding.severity === wanted);
    for (const chip of chips) {
      setText(chip.count, integer(chip.severity === 'all' ? all.length : all.filter(({ severity }) => severity === chip.severity).length));
      setAttribute(chip.element, 'aria-pressed', String(chip.severity === wanted));
    }
    render(shown.slice(0, SHOWN));
    list.hidden = shown.length === 0;
    more.hidden = shown.length <= SHOWN;
    setText(more, t('audit.more', { count: integer(shown.length - SHOWN) }));
    const why = all.length === 0 ? allClear() : shown.length === 0 ? 'filtered' : '';
    if (none.dataset.why !== why) {
      none.dataset.why = why;
      none.replaceChildren(...(why ? [empty(t(`empty.audit.${why}`), t(`empty.audit.${why}.text`))] : []));
    }
  }
  update(new Set(['all']));
  return { title: t('nav.audit'), update };
}

/** Nothing found means that all is in order only where all can be seen. */
function allClear() {
  const [api, broker] = ['api', 'broker'].map((name) => sourceNow(name).health === 'up');
  if (api && broker) return 'none';
  return api ? 'noBroker' : broker ? 'noApi' : 'neither';
}

function findingItem({ rule, severity, name, href, command }) {
  const title = h('span');
  const because = h('p', { class: 'finding-because' });
  const chip = h('span', { class: 'chip', 'data-tone': SEVERITY_TONES[severity] }, icon(ICONS[severity]), t(`severity.${severity}`));
  return {
    element: h(
      'li',
      { class: 'finding' },
      h('div', { class: 'finding-head' }, chip, h('strong', {}, href ? h('a', { href }, name) : name), title),
      because,
      h('p', { class: 'finding-why' }, t(`audit.${rule}.why`)),
      code(command, t('copy.command')),
    ),
    update({ values, detail }) {
      setText(title, t(`audit.${rule}`, readable(values)));
      because.hidden = !detail;
      setText(because, detail ?? '');
    },
  };
}

/** Times and lengths as people write them. */
function readable({ at, ahead, count, ...rest }) {
  return { ...rest, at: at ? moment(at) : '–', ahead: ahead ? duration(ahead) : '', count: count === undefined ? '' : integer(count) };
}
