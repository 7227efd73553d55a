// The state of the page: loaded once, then kept by one stream. Screens are told at most once per animation frame.

import { isBrokerEvent, sourceOf } from './model.js';
import { join } from './stream.js';

/** Messages that are kept; what the broker says of itself comes on top. */
export const LOG_MESSAGES = 2_000;
const LOG_EVENTS = 200;
const SPARK_SLOTS = 60;
const SPARK_SLOT = 5_000;
/** At most this long until the next try, at random, so that many tabs do not come back at once. */
const RETRY = [250, 1_000, 2_000, 5_000];

export const store = {
  loaded: false,
  namespace: '',
  version: '',
  devices: new Map(),
  holders: new Map(),
  log: [],
  rate: { perSecond: 0, total: 0 },
  sources: undefined,
  broker: {},
  ownCertificate: undefined,
  /** What the broker presented when it was looked at last. */
  handshake: undefined,
  /** Rises when a holder, or what is known of its certificate's use, changed. */
  revision: 0,
  /** How often everything was loaded. */
  loads: 0,
  /** How often something happened to a resource, by its id. */
  eventsOf: new Map(),
  /** Whether this page hears from the server, and since when. */
  stream: { health: 'connecting', since: Date.now() },
  /** Server clock minus ours. */
  clockOffset: 0,
};

/** The server's clock, by which everything is judged. */
export const now = () => Date.now() + store.clockOffset;

/** See `sourceOf` in model.js. */
export const sourceNow = (name) => sourceOf(store, name);

const listeners = new Set();
let changed = new Set();
let scheduled = false;

/** Calls `listener(changed)` with the names of the fields that changed. Returns how to stop. */
export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tell(...fields) {
  for (const field of fields) changed.add(field);
  if (scheduled) return;
  scheduled = true;
  // A hidden page gets no animation frames: it draws when it is looked at again.
  requestAnimationFrame(() => {
    scheduled = false;
    const fields = changed;
    changed = new Set();
    for (const listener of listeners) listener(fields);
  });
}

let speak;
let attempt = 0;
let loading = false;

/** Loads everything and follows it from there; after any failure again, by itself. */
export async function connect() {
  if (loading) return;
  loading = true;
  try {
    speak ??= await join(hear);
    const response = await fetch('/api/v1/state', { signal: AbortSignal.timeout(30_000) });
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    const snapshot = await response.json();
    keepUp(snapshot.assets);
    take(snapshot);
    loading = false;
    speak({ type: 'follow', after: snapshot.event });
  } catch {
    loading = false;
    health('lost');
    again();
  }
}

/**
 * Loads the page anew where the server has other files than this page is made of: once for each version, because a cache
 * that gives the old page again, or two versions side by side, would make it do so for ever.
 */
function keepUp(assets) {
  const done = `assets ${assets}`;
  if (!assets || assets === document.querySelector('meta[name=assets]')?.content || sessionStorage.getItem(done)) return;
  sessionStorage.setItem(done, 'loaded');
  location.reload();
}

function again() {
  const wait = RETRY[Math.min(attempt, RETRY.length - 1)];
  attempt += 1;
  setTimeout(connect, wait * Math.random());
}

/** What the hub says, see hub.js. */
function hear({ type, value, data }) {
  if (type === 'health') health(value);
  if (type === 'reset') again();
  if (type !== 'changes') return;
  attempt = 0;
  health('live');
  apply(JSON.parse(data));
  speak({ type: 'taken' });
}

function health(value) {
  if (store.stream.health === value) return;
  store.stream = { health: value, since: now() };
  store.revision += 1;
  tell('stream');
}

function take(snapshot) {
  const slot = Math.floor(snapshot.now / SPARK_SLOT);
  for (const device of snapshot.devices) device.spark = { slot, values: device.spark };
  Object.assign(store, {
    loaded: true,
    revision: store.revision + 1,
    loads: store.loads + 1,
    eventsOf: new Map(),
    namespace: snapshot.namespace,
    version: snapshot.version,
    clockOffset: snapshot.now - Date.now(),
    devices: new Map(snapshot.devices.map((device) => [device.name, device])),
    holders: new Map(snapshot.holders.map((holder) => [holder.id, holder])),
    log: snapshot.log,
    rate: snapshot.rate,
    sources: snapshot.sources,
    broker: snapshot.broker,
    ownCertificate: snapshot.ownCertificate ?? undefined,
    handshake: snapshot.handshake ?? undefined,
  });
  tell('all', 'devices', 'readings', 'holders', 'log', 'rate', 'sources', 'broker', 'own');
}

function apply(changes) {
  store.clockOffset = changes.now - Date.now();
  for (const name of changes.removedDevices ?? []) store.devices.delete(name);
  for (const device of changes.devices ?? []) {
    const before = store.devices.get(device.name);
    device.spark = before?.spark ?? { slot: 0, values: new Array(SPARK_SLOTS).fill(null) };
    store.devices.set(device.name, device);
    if (device.latest) spark(device);
  }
  for (const [name, at, received, celsius] of changes.readings ?? []) {
    const device = store.devices.get(name);
    if (!device) continue;
    device.latest = [at, received, celsius];
    spark(device);
  }
  for (const id of changes.removedHolders ?? []) store.holders.delete(id);
  for (const holder of changes.holders ?? []) store.holders.set(holder.id, holder);
  for (const id of changes.eventsOf ?? []) store.eventsOf.set(id, (store.eventsOf.get(id) ?? 0) + 1);
  if (changes.log || changes.logSkipped) extendLog(changes.log ?? [], changes.logSkipped ?? 0);
  if (changes.sources) store.sources = changes.sources;
  if (changes.broker) store.broker = changes.broker;
  if (changes.ownCertificate) store.ownCertificate = changes.ownCertificate;
  if (changes.handshake) store.handshake = changes.handshake;
  if (changes.rate) store.rate = changes.rate;
  if (changes.devices || changes.holders || changes.removedHolders || changes.sources || changes.ownCertificate || changes.handshake) store.revision += 1;
  tell(
    ...(changes.readings ? ['readings'] : []),
    ...(changes.devices || changes.removedDevices ? ['devices', 'readings'] : []),
    ...(changes.holders || changes.removedHolders ? ['holders'] : []),
    ...(changes.eventsOf ? ['events'] : []),
    ...(changes.log || changes.logSkipped ? ['log'] : []),
    ...(changes.sources ? ['sources'] : []),
    ...(changes.broker ? ['broker'] : []),
    ...(changes.ownCertificate || changes.handshake ? ['own'] : []),
    ...(changes.rate ? ['rate'] : []),
  );
}

/** Frames overlap with the snapshot they follow; a line is taken once. */
function extendLog(lines, skipped) {
  const last = store.log.at(-1)?.id ?? 0;
  const fresh = lines.filter((line) => line.id > last);
  if (skipped && fresh.length) fresh.at(-1).skipped = skipped;
  store.log.push(...fresh);
  if (store.log.length > LOG_MESSAGES + 2 * LOG_EVENTS) trimLog();
}

/** As on the server: no flood of messages pushes out what the broker said. */
function trimLog() {
  const events = store.log.filter(isBrokerEvent).slice(-LOG_EVENTS);
  const messages = store.log.filter((line) => !isBrokerEvent(line)).slice(-LOG_MESSAGES);
  store.log = [...messages, ...events].sort((a, b) => a.id - b.id);
}

function spark(device) {
  const [at, , celsius] = device.latest;
  const { spark } = device;
  const slot = Math.floor(at / SPARK_SLOT);
  const steps = slot - spark.slot;
  if (steps >= SPARK_SLOTS) spark.values.fill(null);
  else for (let step = 0; step < steps; step += 1) spark.values.push(null), spark.values.shift();
  if (steps > 0) spark.slot = slot;
  const index = SPARK_SLOTS - 1 - (spark.slot - slot);
  if (index >= 0) spark.values[index] = celsius;
}
