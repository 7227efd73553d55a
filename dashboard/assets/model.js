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

/** Share of a certificate's life that is left, 0 to 1. */
export function lifeLeft({ notBefore, notAfter }, now) {
  const life = notAfter - notBefore;
  return life > 0 ? Math.min(1, Math.max(0, (notAfter - now) / life)) : 0;
}

/** How a certificate's life has to be judged: by its renewal time and its end, not by fixed days. */
export function lifeTone(certificate, now) {
  if (now > certificate.notAfter) return 'bad';
  if (certificate.renewalTime && now > certificate.renewalTime + MARGIN) return 'warn';
  return 'ok';
}

const collator = new Intl.Collator(undefined, { numeric: true });

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
      return store.ownCertificate?.name === `${holder.name}.dashboard` ? { serialNumber: store.ownCertificate.serialNumber, how: 'session' } : undefined;
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

/** Whether the owner does not want the device to be let in. */
export const isBarred = (holder) => Boolean(holder?.device?.revoked || holder?.device?.suspended || holder?.state === 'Revoked' || holder?.state === 'Suspended');

/** Whether a device has a session, as far as is known: it sends, or the broker did not say that it went. */
export const isConnected = (device, now) => device.connection?.state === 'online' || presence(device, now) === 'online';

/** Devices that should not be let in and are connected all the same; there must be none. */
export function barredButHere(store, now) {
  return [...store.devices.values()].filter((device) => isBarred(store.holders.get(`IotDevice/${device.name}`)) && isConnected(device, now));
}

/** Whether a row needs somebody: its state, its dates, or its holder's conditions say so. */
export function needsAttention({ state, certificate, holder }, now) {
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
    .filter((row) => row.certificate)
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
