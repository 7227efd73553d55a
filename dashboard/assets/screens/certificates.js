// Every certificate there is: what the cluster wants, and what is really used.

import { h, setAttribute, setText } from '../dom.js';
import { date, integer, moment, octets, relative, shortHex } from '../format.js';
import { t } from '../i18n.js';
import { icon } from '../icons.js';
import { byName, certificateRows, lifeLeft, listAtBrokers, needsAttention } from '../model.js';
import { copyButton, emptiness, empty, holderName, lifeBar, section, stateChip, when } from '../parts.js';
import { now, store } from '../store.js';
import { table } from '../table.js';

const ROW = 60;

export function certificates(root, { query, setQuery }) {
  const search = h('input', { type: 'search', 'aria-keyshortcuts': '/', placeholder: t('certificates.search'), 'aria-label': t('certificates.search'), value: query.get('q') ?? '' });
  const attention = h('button', { type: 'button', class: 'filter', onclick: toggle }, icon('warn'), t('certificates.attention'), h('span', { class: 'filter-count' }));
  const none = h('div');
  const filtered = h('div', {}, empty(t('empty.certificates.filtered'), t('empty.certificates.filtered.text')));
  const noLists = h('div');
  const lists = h('div', { class: 'lists' });
  const rows = table({
    label: t('nav.certificates'),
    height: ROW,
    sort: { id: query.get('sort') ?? '', descending: query.get('order') === 'descending' },
    onsort: ({ id, descending }) => setQuery({ sort: id, order: descending ? 'descending' : '' }),
    key: (row) => row.id,
    create: certificateRow,
    columns: [
      { id: 'name', title: t('certificate.holder'), sort: (a, b) => byName(a.holder, b.holder) },
      { id: 'state', title: t('certificate.state'), sort: (a, b) => a.state.localeCompare(b.state) },
      { id: 'life', title: t('certificate.life'), sort: (a, b) => left(a) - left(b) },
      { id: 'expires', title: t('certificate.expires'), sort: (a, b) => (a.certificate?.notAfter ?? 0) - (b.certificate?.notAfter ?? 0) },
      { id: 'renews', title: t('certificate.renews'), sort: (a, b) => (a.certificate?.renewalTime ?? Infinity) - (b.certificate?.renewalTime ?? Infinity) },
      { id: 'use', title: t('certificate.inUse') },
      { id: 'serial', title: t('certificate.serial') },
    ],
  });
  rows.element.classList.add('certificates-table');
  root.append(
    h(
      'div',
      { class: 'toolbar' },
      h('label', { class: 'search' }, icon('search'), search, h('kbd', { 'aria-hidden': 'true' }, '/')),
      h('div', { class: 'filters' }, attention),
      h('a', { class: 'button', href: '/api/v1/certificates.csv', download: 'certificates.csv' }, icon('download'), 'CSV'),
    ),
    rows.element,
    none,
    filtered,
    section(t('crl.title'), lists, noLists),
  );
  search.addEventListener('input', () => {
    setQuery({ q: search.value });
    render();
  });

  function toggle() {
    setQuery({ attention: query.get('attention') ? '' : '1' });
    render();
  }

  let drawn = 0;

  function render() {
    drawn = Date.now();
    const at = now();
    const all = certificateRows(store);
    const text = (query.get('q') ?? '').toLowerCase().replaceAll(':', '');
    const bad = all.filter((row) => needsAttention(row, at));
    const only = query.get('attention') === '1';
    const items = (only ? bad : all).filter(
      (row) => !text || row.holder.name.toLowerCase().includes(text) || row.certificate?.serialNumber.startsWith(text) || row.certificate?.fingerprint.startsWith(text),
    );
    setText(attention.querySelector('.filter-count'), integer(bad.length));
    setAttribute(attention, 'aria-pressed', String(only));
    rows.render(items);
    rows.element.hidden = items.length === 0;
    filtered.hidden = items.length > 0 || all.length === 0;
    emptiness(none, all.length === 0, () => empty(t('empty.certificates.none'), t('empty.certificates.none.text')));
    renderLists(lists, noLists);
  }
  render();
  return {
    title: t('nav.certificates'),
    update(changed) {
      // Devices change all the time, and little of it is about certificates.
      const soon = ['devices', 'tick'].some((field) => changed.has(field)) && Date.now() - drawn > 900;
      if (soon || ['all', 'holders', 'own', 'sources', 'stream'].some((field) => changed.has(field))) render();
    },
    close: rows.close,
  };
}

function left({ certificate }) {
  return certificate ? lifeLeft(certificate, now()) : -1;
}

function certificateRow({ holder, certificate }) {
  const chip = stateChip('state');
  const bar = lifeBar();
  const percent = h('span', { class: 'cell-note' });
  const expires = when();
  const renews = when();
  const use = h('span', { class: 'use' });
  const seenSerial = h('span', { class: 'mono cell-note' });
  const serial = h('span', { class: 'mono' });
  const why = h('span', { class: 'why' });
  let current = certificate;
  const copy = copyButton(() => octets(current?.serialNumber ?? ''), t('copy.serial'));
  const detail = certificate?.generationState ? t('certificate.generation', { number: certificate.generation }) : undefined;
  const href = holder.kind === 'IotDevice' ? `/devices/${encodeURIComponent(holder.name)}` : undefined;
  let shownUse;
  return {
    cells: [
      holderName(holder, detail, href),
      h('span', { class: 'state-cell' }, chip.element, why),
      h('span', { class: 'cell-life' }, bar.element, percent),
      expires.element,
      renews.element,
      h('span', { class: 'state-cell' }, use, seenSerial),
      h('span', { class: 'serial' }, serial, copy),
    ],
    update(row) {
      const at = now();
      current = row.certificate;
      chip.update(row.state);
      const ready = row.holder.ready;
      const trouble = ready?.status === 'False' ? ready.message : (row.holder.troubles?.[0]?.message ?? '');
      setText(why, trouble);
      setAttribute(why, 'title', trouble || undefined);
      bar.element.hidden = !current;
      copy.hidden = !current;
      if (current) bar.update(current, at);
      setText(percent, current ? `${Math.round(lifeLeft(current, at) * 100)} %` : '');
      expires.update(current?.notAfter, at);
      renews.update(current?.renewalTime, at);
      setText(serial, current ? shortHex(octets(current.serialNumber).slice(0, 17)) : '–');
      setAttribute(serial, 'title', current && octets(current.serialNumber));
      const seen = current ? row.served : undefined;
      const other = seen ? octets(seen.serialNumber) : '';
      setText(seenSerial, other && shortHex(other.slice(0, 17)));
      setAttribute(seenSerial, 'title', other || undefined);
      const label = useLabel(row, seen, at);
      if (label !== shownUse) {
        shownUse = label;
        setAttribute(use, 'data-tone', { yes: 'ok', no: 'warn', unknown: 'quiet' }[row.use]);
        setAttribute(use, 'title', seen && t(`served.${seen.how}.title`, { moment: moment(seen.at ?? at) }));
        use.replaceChildren(icon({ yes: 'check', no: 'warn', unknown: 'wait' }[row.use]), label);
      }
    },
  };
}

/** How it is known what is really used; for roots, whether the broker trusts them. */
function useLabel({ holder, use }, seen, at) {
  if (holder.kind === 'RootCA') return t(`use.root.${use}`);
  if (!seen) return t('use.unknown');
  const how = t(`served.${seen.how}`, { when: seen.at ? date(seen.at, at) : '' });
  return use === 'no' ? t('use.other', { how }) : how;
}

/** Few by nature: one for each root. Drawn anew only when something in it changed. */
function renderLists(parent, none) {
  const at = now();
  const lines = [...store.holders.values()]
    .filter((holder) => holder.root?.crl)
    .map((holder) => {
      const { crl } = holder.root;
      const brokers = listAtBrokers(store, holder);
      const loaded = brokers.length === 0 ? 'unknown' : brokers.every((one) => one.loaded) ? 'yes' : 'no';
      return { name: holder.name, crl, loaded, relative: [relative(crl.signedAt, at), relative(crl.nextUpdate, at)] };
    });
  emptiness(none, lines.length === 0, () => empty(t('empty.crl'), t('empty.crl.text')));
  const shown = JSON.stringify(lines);
  if (parent.dataset.shown === shown) return;
  parent.dataset.shown = shown;
  parent.replaceChildren(
    ...lines.map(({ name, crl, loaded, relative: [signed, ends] }) =>
      h(
        'dl',
        { class: 'facts' },
        fact(t('crl.of'), name),
        fact(t('crl.number'), `#${crl.number}`),
        fact(t('crl.signed'), signed, moment(crl.signedAt)),
        fact(t('crl.ends'), ends, moment(crl.nextUpdate)),
        fact(t('crl.revoked'), integer(crl.revoked)),
        fact(t('crl.loaded'), h('span', { class: 'use', 'data-tone': { yes: 'ok', no: 'warn', unknown: 'quiet' }[loaded] }, icon({ yes: 'check', no: 'warn', unknown: 'wait' }[loaded]), t(`crl.loaded.${loaded}`))),
      ),
    ),
  );
}

function fact(label, value, title) {
  return h('div', { class: 'fact' }, h('dt', {}, label), h('dd', { title }, value));
}
