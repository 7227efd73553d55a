// One device: its temperature over time, its certificate, its connection, and what to do with it.

import { describe, kubectl, patch, renew } from '../audit.js';
import { temperatureChart } from '../chart.js';
import { eventHistory } from '../events.js';
import { h, setAttribute, setText } from '../dom.js';
import { celsius, clock, date, duration, integer, moment, octets, relative } from '../format.js';
import { t } from '../i18n.js';
import { lifeLeft, lifeTone, presence } from '../model.js';
import { code, copyButton, empty, noteOf, section, stateChip } from '../parts.js';
import { now, store } from '../store.js';

const WINDOWS = ['5m', '1h', '24h'];
const RELOAD = { '5m': 10_000, '1h': 15_000, '24h': 60_000 };
const MESSAGES = 8;

export function device(root, { query, setQuery, name }) {
  const chip = stateChip('presence');
  const value = h('span', { class: 'hero-number' });
  const note = h('p', { class: 'hero-note' });
  const hero = h('div', { class: 'hero' }, h('p', { class: 'hero-value' }, value, h('span', { class: 'unit' }, '°C')), h('div', {}, chip.element, note));
  const tabs = WINDOWS.map((window) =>
    h('button', { type: 'button', class: 'filter', onclick: () => choose(window) }, t(`window.${window}`)),
  );
  const area = h('div', { class: 'chart' });
  const facts = h('dl', { class: 'facts wide' });
  const certificate = h('div');
  const messages = h('ul', { class: 'list events' });
  const events = eventHistory('IotDevice', name);
  const orders = h('div');
  const body = h(
    'div',
    {},
    hero,
    h('section', { class: 'panel' }, h('div', { class: 'panel-head' }, h('h2', {}, t('device.temperature')), h('div', { class: 'filters', role: 'group', 'aria-label': t('window.label') }, tabs)), area, h('p', { class: 'fine' }, t('chart.memory'))),
    section(t('device.certificate'), certificate),
    section(t('device.connection'), facts),
    section(t('events.title'), events.element),
    section(t('device.messages'), messages),
    section(t('device.commands'), orders),
  );
  const missing = h('div');
  root.append(missing, body);

  const chart = temperatureChart(area);
  let points = [];
  let loadedAt = 0;
  let loading;

  const window = () => (WINDOWS.includes(query.get('window')) ? query.get('window') : '5m');

  function choose(next) {
    setQuery({ window: next === '5m' ? '' : next });
    points = [];
    loadedAt = 0;
    load();
  }

  /** Ranges come from the server now and then; in between the live readings extend the shortest one. */
  async function load() {
    if (!store.devices.has(name)) return;
    loadedAt = Date.now();
    loading?.abort();
    loading = new AbortController();
    const asked = window();
    try {
      const response = await fetch(`/api/v1/devices/${encodeURIComponent(name)}/history?window=${asked}`, { signal: loading.signal });
      if (response.ok && asked === window()) points = (await response.json()).points;
    } catch {
      // The banner says what is down; the chart keeps what it has.
    }
    update(new Set(['readings']));
  }

  function update(changed) {
    const at = now();
    const current = store.devices.get(name);
    const holder = store.holders.get(`IotDevice/${name}`);
    body.hidden = !current;
    if (!current && !missing.firstChild) missing.append(empty(t('empty.device', { name }), t('empty.device.text')));
    if (current) missing.replaceChildren();
    if (!current) return;
    const state = presence(current, at);
    chip.update(state);
    setAttribute(hero, 'data-presence', state);
    setText(value, current.latest ? celsius(current.latest[2]) : '–');
    setText(note, noteOf(current, state, at));
    tabs.forEach((tab, index) => setAttribute(tab, 'aria-pressed', String(WINDOWS[index] === window())));
    if (changed.has('tick') && Date.now() - loadedAt > RELOAD[window()]) load();
    extend(current);
    chart.show(window(), points, current, at);
    drawFacts(facts, current, holder, at);
    drawCertificate(certificate, current, holder, at);
    drawCommands(orders, name, holder);
    events.update();
    if (changed.has('log') || changed.has('all') || !messages.firstChild) drawMessages(messages, name);
  }

  function extend(current) {
    if (window() !== '5m' || !current.latest) return;
    const [at, , celsius] = current.latest;
    if (points.length === 0 || points.at(-1)[0] < at) points.push([at, celsius, celsius, celsius]);
  }

  update(new Set(['all']));
  load();
  return {
    title: name,
    crumb: { href: '/devices', text: t('nav.devices') },
    update,
    close() {
      loading?.abort();
      chart.close();
      events.close();
    },
  };
}

function drawFacts(parent, device, holder, at) {
  const skew = device.clockAhead;
  const last = device.addresses?.at(-1);
  const entries = [
    ['device.session', device.connection ? `${t(`presence.${device.connection.state}`)} · ${relative(device.connection.since, at)}` : t('device.unknown')],
    ['device.lastSeen', device.latest ? relative(device.latest[1], at) : t('device.unknown')],
    ['device.interval', device.interval ? duration(device.interval) : t('device.unknown')],
    ['device.staleAfter', duration(device.staleAfter)],
    ['device.lost', integer(device.lost)],
    ['device.restarts', integer(device.restarts)],
    ['device.malformed', integer(device.malformed)],
    ['device.clock', skew === null || skew === undefined ? t('device.unknown') : Math.abs(skew) < 2_000 ? t('device.clockRight') : t(skew > 0 ? 'device.clockAhead' : 'device.clockBehind', { duration: duration(skew) })],
    ...(holder?.device?.revoked ? [['device.revoked', [holder.device.revoked, holder.device.revokedMessage].filter(Boolean).join(': ')]] : []),
    ...barred(holder?.device?.barred, at),
    ...(last ? [['device.address', t('device.addressAt', { address: last.address, when: relative(last.at, at) })]] : []),
    ...(device.inUse?.roots ? [['device.roots', rootsOf(device.inUse.roots)]] : []),
    ['device.kind', holder ? t(holder.device?.simulated ? 'device.simulated' : holder.device?.csr ? 'device.csr' : 'device.physical') : t('device.unregisteredShort')],
  ];
  drawOnce(parent, entries, () => entries.map(([key, text]) => h('div', { class: 'fact' }, h('dt', {}, t(key)), h('dd', {}, text))));
}

/** What is confirmed of a device that is to be kept out, and what is still to come. */
function barred(steps, at) {
  if (!steps) return [];
  const told = (time) => (time === null ? t('device.barredAwaited') : relative(time, at));
  const listed = steps.listedAt === null ? told(null) : t('device.barredListed', { number: steps.crlNumber, when: told(steps.listedAt) });
  return [
    ['device.listed', listed],
    ['device.loaded', told(steps.loadedAt)],
    ['device.cut', told(steps.sessionCutAt)],
  ];
}

/** The generations whose certificates a device holds, by their fingerprints. */
function rootsOf(fingerprints) {
  const all = [...store.holders.values()].filter(({ kind }) => kind === 'RootCA').flatMap(({ certificates }) => certificates);
  const known = all.filter(({ fingerprint }) => fingerprints.includes(fingerprint));
  const others = fingerprints.length - known.length;
  return [known.length && t('device.rootsOf', { numbers: known.map(({ generation }) => generation).sort((a, b) => a - b).join(' + ') }), others > 0 && t('device.rootsOther', { count: integer(others) })].filter(Boolean).join(' · ') || '–';
}

function drawCertificate(parent, device, holder, at) {
  const certificate = holder?.certificates[0];
  if (!certificate) {
    const message = holder?.ready?.message ?? '';
    drawOnce(parent, ['none', message, Boolean(holder)], () => [
      holder ? empty(t('empty.certificate'), message || t('empty.certificate.text')) : empty(t('device.unregisteredShort'), t('device.unregistered')),
    ]);
    return;
  }
  const inUse = device.inUse?.serialNumber;
  const use = inUse === undefined ? 'unknown' : inUse === certificate.serialNumber ? 'yes' : 'no';
  const shownTimes = [relative(certificate.renewalTime, at), relative(certificate.notAfter, at), lifeLeft(certificate, at).toFixed(3)];
  drawOnce(parent, [certificate, holder.state, holder.ready, use, holder.superseded, shownTimes], () => {
    const chip = stateChip('state');
    chip.update(holder.state ?? 'Pending');
    const facts = [
      ['certificate.serial', octets(certificate.serialNumber), true],
      ['certificate.fingerprint', octets(certificate.fingerprint), true],
      ['certificate.names', [holder.name, ...(holder.altNames ?? [])].join(', ')],
      ['certificate.key', holder.keyAlgorithm],
      ['certificate.rootGeneration', String(certificate.generation)],
      ['certificate.secret', certificate.secretName ?? '–'],
      ['certificate.inUse', use === 'unknown' ? t('use.unknown') : use === 'yes' ? t('served.acknowledged') : `${t('use.other', { how: t('served.acknowledged') })} (${octets(inUse)})`],
      ['certificate.superseded', integer(holder.superseded)],
    ];
    return [
      h('div', { class: 'panel' },
        h('div', { class: 'panel-head' }, chip.element, h('span', { class: 'panel-note' }, holder.ready?.message ?? '')),
        timeline(certificate, at),
        h('dl', { class: 'facts wide' }, facts.map(([key, text, mono]) => h('div', { class: mono ? 'fact long' : 'fact' }, h('dt', {}, t(key)), h('dd', { class: mono && 'mono' }, text, mono && copyButton(() => text, t('copy.value')))))),
      ),
    ];
  });
}

/** issued → renews → expires, and where in it we are. */
function timeline(certificate, at) {
  const { notBefore, renewalTime, notAfter } = certificate;
  const part = (millis) => 1 - lifeLeft(certificate, millis);
  const done = h('span', { class: 'timeline-done' });
  done.style.width = `${(part(at) * 100).toFixed(2)}%`;
  const here = h('span', { class: 'timeline-here' });
  here.style.left = `${(part(at) * 100).toFixed(2)}%`;
  const mark = h('span', { class: 'timeline-mark' });
  const renews = h('span', { class: 'timeline-label' }, h('b', {}, t('certificate.renews')), h('span', { title: moment(renewalTime) }, `${date(renewalTime, at)} · ${relative(renewalTime, at)}`));
  const place = Math.min(75, Math.max(25, part(renewalTime) * 100));
  mark.style.left = `${(part(renewalTime) * 100).toFixed(2)}%`;
  renews.style.left = `${place.toFixed(2)}%`;
  return h(
    'div',
    { class: 'timeline', 'data-tone': lifeTone(certificate, at) },
    h('div', { class: 'timeline-track' }, done, mark, here),
    h(
      'div',
      { class: 'timeline-labels' },
      h('span', { class: 'timeline-label first' }, h('b', {}, t('certificate.issued')), h('span', { title: moment(notBefore) }, date(notBefore, at))),
      renews,
      h('span', { class: 'timeline-label last' }, h('b', {}, t('certificate.expires')), h('span', { title: moment(notAfter) }, `${date(notAfter, at)} · ${relative(notAfter, at)}`)),
    ),
  );
}

function drawMessages(parent, name) {
  const lines = store.log.filter((line) => line.topic.startsWith(`devices/${name}/`)).slice(-MESSAGES).reverse();
  drawOnce(parent, lines.map((line) => line.id), () =>
    lines.length
      ? lines.map((line) => h('li', { class: 'list-row event' }, h('time', { class: 'event-time' }, clock(line.at)), h('span', { class: 'event-topic' }, line.topic.slice(`devices/${name}/`.length)), h('span', { class: 'event-text mono' }, line.payload)))
      : [h('li', { class: 'list-row quiet' }, t('log.none'))],
  );
}

/** Those that make sense as it is now. */
function drawCommands(parent, name, holder) {
  const all = [['command.describe', describe(store, 'IotDevice', name)]];
  if (holder) {
    const suspended = holder.device?.suspended || holder.state === 'Suspended';
    const revoked = holder.device?.revoked || holder.state === 'Revoked';
    const order = (key, spec) => all.push([key, patch(store, 'IotDevice', name, spec)]);
    if (!revoked && !suspended) all.push(['command.renew', renew(store, 'IotDevice', name)]);
    const secret = holder.certificates[0]?.secretName;
    if (secret) all.push(['command.show', `${kubectl(store)} get secret ${secret} -o jsonpath='{.data.tls\\.crt}' | base64 -d | openssl x509 -noout -text`]);
    if (!revoked) order(suspended ? 'command.resume' : 'command.suspend', { suspended: !suspended });
    if (revoked) order('command.enrol', { revoked: null });
    else order('command.revoke', { revoked: { reason: 'keyCompromise' } });
  }
  drawOnce(parent, all, () => [h('div', { class: 'commands' }, all.map(([key, text]) => h('div', {}, h('h3', {}, t(key)), code(text, t('copy.command')))))]);
}

/** Draws anew only when what it is drawn from changed: selections and focus survive. */
function drawOnce(parent, from, draw) {
  const shown = JSON.stringify(from);
  if (parent.dataset.shown === shown) return;
  parent.dataset.shown = shown;
  parent.replaceChildren(...draw());
}
