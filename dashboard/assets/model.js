// What follows from the state: pure, and the same rules as the server's (state/device.rs).

/** The words for how a device is, best first. */
export const PRESENCES = ['online', 'stale', 'offline', 'waiting'];

/** How loud a state has to be said. */
export const TONES = {
  online: 'ok',
  stale: 'warn',
  offline: 'bad',
  waiting: 'quiet',
  Valid: 'ok',
  Active: 'ok',
  Prepared: 'info',
  Retiring: 'info',
  Renewing: 'info',
  Pending: 'quiet',
  RenewalOverdue: 'warn',
  Suspended: 'warn',
  Expired: 'bad',
  Revoked: 'bad',
  Failed: 'bad',
};

const KIND_ORDER = { RootCA: 0, MqttBroker: 1, Dashboard: 2, IotDevice: 3 };
const MARGIN = 60_000;

/** Connected and fresh, connected and silent, gone, or never heard. */
export function presence(device, now) {
  if (device.connection?.state === 'offline') return 'offline';
  if (!device.latest) return 'waiting';
  return now - device.latest[1] > device.staleAfter ? 'stale' : 'online';
}

/** When a certificate was signed. `notBefore` is earlier, for clocks that are behind; of imported roots nothing else is known. */
export const issued = ({ issuedAt, notBefore }) => issuedAt ?? notBefore;

/** Share of a certificate's life that is left, 0 to 1. */
export function lifeLeft(certificate, now) {
  const life = certificate.notAfter - issued(certificate);
  return life > 0 ? Math.min(1, Math.max(0, (certificate.notAfter - now) / life)) : 0;
}

/** How a certificate's life has to be judged: by its renewal time and its end, not by fixed days. */
export function lifeTone(certificate, now) {
  if (now > certificate.notAfter) return 'bad';
  if (certificate.renewalTime && now > certificate.renewalTime + MARGIN) return 'warn';
  return 'ok';
}

const collator = new Intl.Collator(undefined, { numeric: true });

/** How a source is, `api` or `broker`; nobody knows while the page hears nothing. */
export function sourceOf({ stream, sources }, name) {
  if (stream?.health === 'lost') return { health: 'unknown', since: stream.since };
  return sources?.[name] ?? { health: 'connecting', since: stream?.since };
}

/** Whether the cluster ever answered: before, that something is missing is not known. */
export const isClusterKnown = ({ sources }) => Boolean(sources?.api.everUp);

/** Whether it is known that there is no IotDevice for who sends as this device. */
export const isUnregistered = (store, device) => !device.registered && isClusterKnown(store);

/** By name, as people count: `device9` before `device10`. */
export const byName = (a, b) => collator.compare(a.name, b.name);

let cached = { revision: undefined, rows: [] };

/** Every certificate there is, one row each: roots, brokers, dashboards, devices. Made anew only when one changed. */
export function certificateRows(store) {
  if (store.revision === undefined || cached.revision !== store.revision) cached = { revision: store.revision, rows: makeRows(store) };
  return cached.rows;
}

function makeRows(store) {
  const rows = [];
  for (const holder of store.holders.values()) {
    for (const certificate of holder.certificates) rows.push(row(store, holder, certificate));
    if (holder.certificates.length === 0) rows.push(row(store, holder, undefined));
  }
  return rows.sort(
    (a, b) =>
      KIND_ORDER[a.holder.kind] - KIND_ORDER[b.holder.kind] ||
      byName(a.holder, b.holder) ||
      (b.certificate?.generation ?? 0) - (a.certificate?.generation ?? 0),
  );
}

function row(store, holder, certificate) {
  const state = certificate?.generationState ?? holder.state ?? 'Pending';
  return {
    id: certificate?.generationState ? `${holder.id}/${certificate.generation}` : holder.id,
    holder,
    certificate,
    state,
    use: certificate ? use(store, holder, certificate) : 'unknown',
    served: served(store, holder),
  };
}

/**
 * The certificate that is really used, `{ serialNumber, how, at }`, where somebody saw it; roots have none. `how` is the
 * `handshake` that this dashboard made, its own `session`, what the broker's sidecar `proved`, or what the device
 * `acknowledged`.
 */
export function served(store, holder) {
  switch (holder.kind) {
    case 'IotDevice': {
      const inUse = store.devices.get(holder.name)?.inUse;
      return inUse ? { serialNumber: inUse.serialNumber, how: 'acknowledged' } : undefined;
    }
    case 'MqttBroker': {
      if (isSeen(store, holder)) return { serialNumber: store.handshake.serialNumber, how: 'handshake', at: store.handshake.at };
      const loaded = holder.broker?.loaded;
      return loaded ? { serialNumber: loaded.serialNumber, how: 'proved', at: loaded.loadedAt } : undefined;
    }
    case 'Dashboard':
      return store.ownCertificate?.name === `${holder.name}.dashboard` && sourceOf(store, 'broker').health === 'up' ? { serialNumber: store.ownCertificate.serialNumber, how: 'session' } : undefined;
    default:
      return undefined;
  }
}

/** Whether `holder` is the broker whose handshake was seen: by its endpoint, or because there is no other. */
export function isSeen(store, holder) {
  if (!store.handshake) return false;
  const brokers = [...store.holders.values()].filter(({ kind }) => kind === 'MqttBroker');
  const named = brokers.find(({ broker }) => broker?.endpoint === store.handshake.endpoint);
  return named ? named.id === holder.id : brokers.length === 1;
}

/**
 * Wanted against served: whether the certificate of the Secret is the one that is really used. `yes`, `no`, or
 * `unknown` when nobody reported it.
 */
function use(store, holder, certificate) {
  if (holder.kind === 'RootCA') {
    const loaded = [...store.holders.values()].flatMap((other) => (other.broker?.loaded ? [other.broker.loaded.roots] : []));
    if (loaded.length === 0) return 'unknown';
    return loaded.every((roots) => roots.includes(certificate.fingerprint)) ? 'yes' : 'no';
  }
  const seen = served(store, holder);
  return seen === undefined ? 'unknown' : seen.serialNumber === certificate.serialNumber ? 'yes' : 'no';
}

/** The generation of a root that signs now. */
export const signingGeneration = ({ certificates }) => certificates.find((one) => one.generationState === 'Active') ?? (certificates.length === 1 ? certificates[0] : undefined);

/** The brokers that trust what a root signs now, each with whether it has loaded the root's newest list: `{ broker, loaded }`. */
export function listAtBrokers(store, root) {
  const fingerprint = signingGeneration(root)?.fingerprint;
  return [...store.holders.values()]
    .filter(({ broker }) => broker?.loaded?.roots.includes(fingerprint))
    .map((holder) => ({ broker: holder, loaded: holder.broker.loaded.crls.some((list) => list.root === fingerprint && list.number >= root.root.crl.number) }));
}

/** Whether its owner took a device out on purpose, for good or for now. What follows from that is no alarm. */
export const isWithdrawn = (holder) => Boolean(holder?.device?.revoked || holder?.device?.suspended || holder?.state === 'Revoked' || holder?.state === 'Suspended');

/** Whether a device has a session, as far as is known: it sends, or the broker did not say that it went. */
export const isConnected = (device, now) => device.connection?.state === 'online' || presence(device, now) === 'online';

/** Devices that should not be let in and are connected all the same; there must be none. */
export function withdrawnButHere(store, now) {
  return [...store.devices.values()].filter((device) => isWithdrawn(store.holders.get(`IotDevice/${device.name}`)) && isConnected(device, now));
}

/** Whether a row needs somebody: its state, its dates, or its holder's conditions say so. */
export function needsAttention({ state, certificate, holder }, now) {
  if (isWithdrawn(holder)) return false;
  const tone = TONES[state] ?? 'quiet';
  return (
    tone === 'warn' ||
    tone === 'bad' ||
    (certificate !== undefined && lifeTone(certificate, now) !== 'ok') ||
    holder.ready?.status === 'False' ||
    holder.troubles?.length > 0
  );
}

/** The certificates that are renewed or end next, soonest first. */
export function nextDue(rows, count) {
  return rows
    .filter((row) => row.certificate && !isWithdrawn(row.holder))
    .map((row) => ({ ...row, due: row.certificate.renewalTime ?? row.certificate.notAfter, renews: row.certificate.renewalTime !== null }))
    .sort((a, b) => a.due - b.due)
    .slice(0, count);
}

/** Whether the broker speaks in this line of itself. */
export const isBrokerEvent = (line) => line.topic.startsWith('$SYS/broker/log/');

/** A line of Mosquitto's log without the timestamp that stands before it. */
export function brokerText(payload) {
  return payload.replace(/^\d{9,}: /, '');
}

/** A chart in numbers: `{ min, max, gaps }` of the points since `from`; a step longer than `reach` is a gap. */
export function summary(points, reach, from) {
  const seen = points.filter(([at]) => at >= from);
  if (seen.length === 0) return undefined;
  return {
    min: Math.min(...seen.map(([, , min]) => min)),
    max: Math.max(...seen.map(([, , , max]) => max)),
    gaps: seen.filter(([at], index) => index > 0 && at - seen[index - 1][0] > reach).length,
  };
}
