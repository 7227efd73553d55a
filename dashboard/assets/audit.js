// What somebody should look at, derived from what is known: pure, tested, and with the command that helps.

import { isBarred, isConnected, isSeen, lifeLeft, presence, served } from './model.js';

/** Loudest first. */
export const SEVERITIES = ['critical', 'warning', 'notice'];

const MINUTE = 60_000;
/** A device that was away fetches its new certificate when it is back; one that is here has it in seconds. */
const SWITCH_WITHIN = 5 * MINUTE;
/** A renewal takes seconds. */
const RENEW_WITHIN = 2 * MINUTE;
/** Beyond this, dates in certificates are judged wrongly at their edges: they are backdated by five minutes. */
const CLOCK_WITHIN = 4 * MINUTE;
/** Roots are replaced when half of their life is over; at a quarter somebody should ask why they were not. */
const ROOT_LEFT = 0.25;
/** Lists are signed anew at half of their life. */
const LIST_LEFT = 0.25;
/** Entries that a Secret has room for, and the share of them at which there is still time to think. */
const LIST_ROOM = 16_000;
const LIST_FULL = 0.8;
/** Who is here and there in turn within this time has not moved. */
const MOVES_WITHIN = 60 * MINUTE;

const RESOURCES = { RootCA: 'rootca', MqttBroker: 'mqttbroker', Dashboard: 'dashboard', IotDevice: 'iotdevice' };

/** All findings at `now`, loudest first: `{ id, rule, severity, name, href?, values, command }`. */
export function findings(store, now) {
  const root = signing(store);
  const found = [...[...store.holders.values()].flatMap((holder) => ofHolder(store, holder, now)), ...[...store.devices.values()].flatMap((device) => ofDevice(store, device, root, now))];
  return found
    .map((finding) => ({ ...finding, id: `${finding.rule}/${finding.kind}/${finding.name}`, href: finding.kind === 'IotDevice' ? `/devices/${encodeURIComponent(finding.name)}` : undefined }))
    .sort((a, b) => SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity) || a.id.localeCompare(b.id));
}

function ofHolder(store, holder, now) {
  const { kind, name, state, ready } = holder;
  const about = (rule, severity, values, command = describe(store, kind, name)) => ({ rule, severity, kind, name, values: { name, ...values }, command });
  const found = [];
  const [certificate] = holder.certificates;
  const ended = certificate && certificate.notAfter < now;
  if (kind !== 'RootCA' && (ended || state === 'Expired')) found.push(about('expired', 'critical', { at: certificate?.notAfter }));
  else if (isLate(holder, now)) found.push(about('overdue', 'warning', { at: certificate?.renewalTime }, renew(store, kind, name)));
  else if (ready?.status === 'False' && !['Suspended', 'Revoked'].includes(state)) found.push(about('notReady', 'warning', { message: ready.message }));
  for (const { message } of holder.troubles ?? []) if (message && message !== ready?.message && state !== 'RenewalOverdue') found.push(about('degraded', 'warning', { message }));
  if (holder.keyAlgorithm === 'Rsa2048') found.push(about('weakKey', 'notice', {}));
  if (kind === 'MqttBroker' || kind === 'Dashboard') found.push(...ofServer(store, holder, now, about));
  if (kind === 'RootCA') found.push(...ofRoot(store, holder, now, about));
  return found;
}

/** The operator says so, or is itself away and says nothing. */
function isLate({ state, certificates: [certificate] }, now) {
  return state === 'RenewalOverdue' || (state === 'Valid' && certificate?.renewalTime && now - certificate.renewalTime > RENEW_WITHIN);
}

/** Whether broker and dashboard really use what is in their Secrets. */
function ofServer(store, holder, now, about) {
  const { kind, name, certificates: [certificate] } = holder;
  const restart = `${kubectl(store)} rollout restart deployment/${RESOURCES[kind]}-${name}`;
  const found = [];
  if (kind === 'MqttBroker' && isSeen(store, holder) && store.handshake.distrust) found.push(about('distrusted', 'critical', { message: store.handshake.distrust }));
  const seen = served(store, holder);
  if (certificate && seen && seen.serialNumber !== certificate.serialNumber && now - certificate.notBefore > SWITCH_WITHIN * 2) found.push(about('otherServed', 'warning', {}, restart));
  return found;
}

function ofRoot(store, { name, root, certificates }, now, about) {
  const found = [];
  const active = certificates.find((certificate) => certificate.generationState === 'Active');
  if (active && !root.rotation && lifeLeft(active, now) < ROOT_LEFT) {
    found.push(about('rootEnding', active.notAfter < now ? 'critical' : 'warning', { at: active.notAfter }));
  }
  const list = root.crl;
  if (!list) return found;
  const left = (list.nextUpdate - now) / (list.nextUpdate - list.thisUpdate);
  if (left < LIST_LEFT) found.push(about('listEnding', left < 0 ? 'critical' : 'warning', { at: list.nextUpdate }));
  if (list.revoked >= LIST_ROOM * LIST_FULL) found.push(about('listFull', 'warning', { count: list.revoked }));
  const behind = [...store.holders.values()].filter(({ broker }) => broker?.loaded && !broker.loaded.crlNumbers.includes(list.number));
  if (now - list.thisUpdate > MINUTE * 3) for (const broker of behind) found.push({ ...about('listNotLoaded', 'warning', { broker: broker.name, number: list.number }, describe(store, 'MqttBroker', broker.name)), name: broker.name, kind: 'MqttBroker' });
  return found;
}

function ofDevice(store, device, root, now) {
  const { name } = device;
  const about = (rule, severity, values, command) => ({ rule, severity, kind: 'IotDevice', name, values: { name, ...values }, command });
  const holder = store.holders.get(`IotDevice/${name}`);
  const here = presence(device, now) === 'online';
  const found = [];
  if (!holder) {
    // Without an answer from the API nobody knows who is registered.
    if (here && store.sources?.api.health === 'up') found.push(about('unregistered', 'warning', {}, `${kubectl(store)} get iotdevice ${name}`));
    return found;
  }
  if (isConnected(device, now) && isBarred(holder)) found.push(about('barred', 'critical', {}, describe(store, 'IotDevice', name)));
  const [certificate] = holder.certificates;
  const old = certificate && device.inUse && device.inUse.serialNumber !== certificate.serialNumber;
  if (here && old && now - certificate.notBefore > SWITCH_WITHIN * 2) {
    const command = holder.device?.simulated ? `${kubectl(store)} rollout restart deployment/iotdevice-${name}` : `${kubectl(store)} get secret ${certificate.secretName} -o jsonpath='{.data.tls\\.crt}' | base64 -d > tls.crt`;
    found.push(about('oldCertificate', 'warning', {}, command));
  }
  if (here && Math.abs(device.clockAhead ?? 0) > CLOCK_WITHIN) found.push(about('clock', 'warning', { ahead: device.clockAhead }, 'timedatectl status'));
  if (here && root && certificate?.generation === root.generation && device.inUse?.roots && !device.inUse.roots.includes(root.fingerprint)) found.push(about('untrusting', 'warning', { generation: root.generation }, holder.device?.simulated ? `${kubectl(store)} rollout restart deployment/iotdevice-${name}` : `${kubectl(store)} get secret ${certificate?.secretName} -o jsonpath='{.data.ca\\.crt}' | base64 -d > ca.crt`));
  const turns = inTurn(device.addresses ?? [], now);
  if (turns.length) found.push(about('twoAddresses', 'warning', { addresses: turns.join(', ') }, renew(store, 'IotDevice', name)));
  if (device.malformed > 0) found.push(about('malformed', 'notice', { count: device.malformed }, `${kubectl(store)} logs deployment/iotdevice-${name} --tail 50`));
  if (device.lost > 0) found.push(about('lost', 'notice', { count: device.lost }, `${kubectl(store)} logs deployment/iotdevice-${name} --tail 50`));
  return found;
}

/** Addresses that it came from in turn, there and back again: two hold the same key. */
function inTurn(addresses, now) {
  const recent = addresses.filter(({ at }) => now - at < MOVES_WITHIN).map(({ address }) => address);
  const different = new Set(recent);
  return recent.length >= 3 && different.size < recent.length ? [...different] : [];
}

/** The generation that signs, where there is only one root to ask. */
function signing(store) {
  const roots = [...store.holders.values()].filter(({ kind }) => kind === 'RootCA');
  return roots.length === 1 ? roots[0].certificates.find((one) => one.generationState === 'Active') : undefined;
}

/** `kubectl`, with the namespace where it is not the default one. */
export const kubectl = ({ namespace }) => (namespace === 'default' ? 'kubectl' : `kubectl -n ${namespace}`);

/** State and events of a resource. */
export const describe = (store, kind, name) => `${kubectl(store)} describe ${RESOURCES[kind]} ${name}`;

/** Changes the spec of a resource. */
export const patch = (store, kind, name, spec) => `${kubectl(store)} patch ${RESOURCES[kind]} ${name} --type merge -p '${JSON.stringify({ spec })}'`;

/** Renews at once with a new key; every new value of the trigger does so once. */
export const renew = (store, kind, name) => `${kubectl(store)} patch ${RESOURCES[kind]} ${name} --type merge -p "{\\"spec\\":{\\"renewal\\":{\\"trigger\\":\\"$(date -u +%FT%TZ)\\"}}}"`;
