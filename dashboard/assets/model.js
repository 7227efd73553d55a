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

/** Serial number of the certificate that is really used: as a handshake or the holder itself told; roots have none. */
export function served(store, holder) {
  switch (holder.kind) {
    case 'IotDevice':
      return store.devices.get(holder.name)?.inUse?.serialNumber;
    case 'MqttBroker':
      return holder.broker?.loaded?.serialNumber;
    case 'Dashboard':
      return store.ownCertificate?.name === `${holder.name}.dashboard` ? store.ownCertificate.serialNumber : undefined;
    default:
      return undefined;
  }
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
  const serial = served(store, holder);
  return serial === undefined ? 'unknown' : serial === certificate.serialNumber ? 'yes' : 'no';
}

/** Whether the owner does not want the device to be let in. */
export const isBarred = (holder) => Boolean(holder?.device?.revoked || holder?.device?.suspended);

/** Devices that should not be let in and still send; there must be none. */
export function barredButHere(store, now) {
  return [...store.devices.values()].filter((device) => isBarred(store.holders.get(`IotDevice/${device.name}`)) && presence(device, now) === 'online');
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
