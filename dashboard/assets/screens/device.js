// One device: its temperature over time, its certificate, its connection, and what to do with it.

import { describe, kubectl, patch, renew, revoke } from '../audit.js';
import { temperatureChart } from '../chart.js';
import { eventHistory } from '../events.js';
import { drawOnce, h, keyedList, setAttribute, setText } from '../dom.js';
import { celsius, clock, date, duration, integer, moment, octets, relative } from '../format.js';
import { t } from '../i18n.js';
import { issued, isUnregistered, isWithdrawn, lifeLeft, lifeTone, presence } from '../model.js';
import { code, copyButton, emptiness, empty, noteOf, section, stateChip } from '../parts.js';
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
  const drawFacts = keyedList(facts, ([key]) => key, factItem);
  const certificate = certificateCard();
  const messages = h('ul', { class: 'list events' });
  const events = eventHistory('IotDevice', name);
  const orders = h('div');
  const body = h(
    'div',
    {},
    hero,
    h('section', { class: 'panel' }, h('div', { class: 'panel-head' }, h('h2', {}, t('device.temperature')), h('div', { class: 'filters', role: 'group', 'aria-label': t('window.label') }, tabs)), area, h('p', { class: 'fine' }, t('chart.memory'))),
    section(t('device.certificate'), certificate.element),
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
    emptiness(missing, !current, () => empty(t('empty.device', { name }), t('empty.device.text')));
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
    drawFacts(factsOf(current, holder, at));
    certificate.update(current, holder, at);
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

/** Names of texts and what is told of each. */
function factsOf(device, holder, at) {
  const skew = device.clockAhead;
  const last = device.addresses?.at(-1);
  return [
    ['device.session', sessionOf(device, at)],
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
    ['device.kind', holder ? t(holder.device?.simulated ? 'device.simulated' : holder.device?.csr ? 'device.csr' : 'device.physical') : t(isUnregistered(store, device) ? 'device.unregisteredShort' : 'device.unknown')],
  ];
}

function factItem([key]) {
  const value = h('dd');
  return { element: h('div', { class: 'fact' }, h('dt', {}, t(key)), value), update: ([, text]) => setText(value, text) };
}

/** Since when is not known of what the broker kept from before; then the last reading tells at least something. */
function sessionOf({ connection, latest }, at) {
  if (!connection) return t('device.unknown');
  const state = t(`presence.${connection.state}`);
  if (connection.since !== null) return `${state} · ${relative(connection.since, at)}`;
  return latest ? t('device.sessionLast', { state, when: relative(latest[1], at) }) : state;
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

/** The certificate that the cluster has for a device. With time only its dates move: the focus on a copy button stays. */
function certificateCard() {
  const element = h('div');
  let line;

  function update(device, holder, at) {
    const certificate = holder?.certificates[0];
    if (!holder) return emptiness(element, true, () => empty(t('device.unregisteredShort'), t('device.unregistered')));
    if (!certificate) return drawOnce(element, ['none', holder.ready?.message], () => [empty(t('empty.certificate'), holder.ready?.message || t('empty.certificate.text'))]);
    const inUse = device.inUse?.serialNumber;
    drawOnce(element, [certificate, holder, inUse], () => {
      line = timeline(certificate);
      return [card(certificate, holder, inUse, line.element)];
    });
    line.update(at);
  }
  return { element, update };
}

function card(certificate, holder, inUse, line) {
  const chip = stateChip('state');
  chip.update(holder.state ?? 'Pending');
  const acknowledged = t('served.acknowledged');
  const facts = [
    ['certificate.serial', octets(certificate.serialNumber), true],
    ['certificate.fingerprint', octets(certificate.fingerprint), true],
    ['certificate.names', [holder.name, ...(holder.altNames ?? [])].join(', ')],
    ['certificate.key', holder.keyAlgorithm ?? '–'],
    ['certificate.rootGeneration', String(certificate.generation)],
    ['certificate.secret', certificate.secretName ?? '–'],
    ['certificate.inUse', !inUse ? t('use.unknown') : inUse === certificate.serialNumber ? acknowledged : `${t('use.other', { how: acknowledged })} (${octets(inUse)})`],
    ['certificate.superseded', integer(holder.superseded)],
  ];
  return h('div', { class: 'panel' },
    h('div', { class: 'panel-head' }, chip.element, h('span', { class: 'panel-note' }, holder.ready?.message ?? '')),
    line,
    h('dl', { class: 'facts wide' }, facts.map(([key, text, mono]) => h('div', { class: mono ? 'fact long' : 'fact' }, h('dt', {}, t(key)), h('dd', { class: mono && 'mono' }, text, mono && copyButton(() => text, t('copy.value')))))),
  );
}

/** issued → renews → expires, and where in it we are. */
function timeline(certificate) {
  const { renewalTime, notAfter } = certificate;
  const percent = (millis) => (1 - lifeLeft(certificate, millis)) * 100;
  const done = h('span', { class: 'timeline-done' });
  const here = h('span', { class: 'timeline-here' });
  const mark = h('span', { class: 'timeline-mark' });
  const [first, middle, last] = [issued(certificate), renewalTime, notAfter].map((millis) => h('span', { title: moment(millis) }));
  const renews = h('span', { class: 'timeline-label' }, h('b', {}, t('certificate.renews')), middle);
  mark.style.left = `${percent(renewalTime).toFixed(2)}%`;
  renews.style.left = `${Math.min(75, Math.max(25, percent(renewalTime))).toFixed(2)}%`;
  const element = h(
    'div',
    { class: 'timeline' },
    h('div', { class: 'timeline-track' }, done, mark, here),
    h(
      'div',
      { class: 'timeline-labels' },
      h('span', { class: 'timeline-label first' }, h('b', {}, t('certificate.issued')), first),
      renews,
      h('span', { class: 'timeline-label last' }, h('b', {}, t('certificate.expires')), last),
    ),
  );
  return {
    element,
    update(at) {
      setAttribute(element, 'data-tone', lifeTone(certificate, at));
      done.style.width = here.style.left = `${percent(at).toFixed(2)}%`;
      setText(first, date(issued(certificate), at));
      setText(middle, `${date(renewalTime, at)} · ${relative(renewalTime, at)}`);
      setText(last, `${date(notAfter, at)} · ${relative(notAfter, at)}`);
    },
  };
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
    if (!isWithdrawn(holder)) all.push([holder.device?.csr ? 'command.renewCsr' : 'command.renew', renew(store, 'IotDevice', name)]);
    const secret = holder.certificates[0]?.secretName;
    if (secret) all.push(['command.show', `${kubectl(store)} get secret ${secret} -o jsonpath='{.data.tls\\.crt}' | base64 -d | openssl x509 -noout -text`]);
    if (!revoked) order(suspended ? 'command.resume' : 'command.suspend', { suspended: !suspended });
    if (revoked) order('command.enrol', { revoked: null });
    else all.push(['command.revoke', revoke(store, name)]);
  }
  drawOnce(parent, all, () => [h('div', { class: 'commands' }, all.map(([key, text]) => h('div', {}, h('h3', {}, t(key)), code(text, t('copy.command')))))]);
}
