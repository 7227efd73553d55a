// What somebody should look at, derived from what is known: pure, tested, and with the command that helps.

import { isConnected, isSeen, issued, isWithdrawn, lifeLeft, listAtBrokers, presence, served, signingGeneration, sourceOf } from './model.js';

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
/** The broker has a new list in seconds. */
const LOAD_WITHIN = 3 * MINUTE;
/** Who is here and there in turn within this time has not moved. */
const MOVES_WITHIN = 60 * MINUTE;

const RESOURCES = { RootCA: 'rootca', MqttBroker: 'mqttbroker', Dashboard: 'dashboard', IotDevice: 'iotdevice' };

/** All findings at `now`, loudest first: `{ id, rule, severity, name, href?, values, detail?, command }`. */
export function findings(store, now) {
  const root = signing(store);
  const found = [...[...store.holders.values()].flatMap((holder) => ofHolder(store, holder, now)), ...[...store.devices.values()].flatMap((device) => ofDevice(store, device, root, now))];
  return found
    .map((finding) => ({ ...finding, id: idOf(finding), href: finding.kind === 'IotDevice' ? `/devices/${encodeURIComponent(finding.name)}` : undefined }))
    .sort((a, b) => SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity) || a.id.localeCompare(b.id));
}

/** `of` tells apart what one rule finds more than once of the same; what grew worse is another finding, drawn anew. */
const idOf = ({ severity, rule, kind, name, of }) => [severity, rule, kind, name, of].filter(Boolean).join('/');

function ofHolder(store, holder, now) {
  const { kind, name, state, ready, troubles = [] } = holder;
  const about = (rule, severity, values, command = describe(store, kind, name)) => ({ rule, severity, kind, name, values: { name, ...values }, command });
  const found = [];
  const [certificate] = holder.certificates;
  const ended = certificate && certificate.notAfter < now;
  const withdrawn = isWithdrawn(holder);
  // Then the conditions say why, and are no problem of their own.
  const overdue = state === 'RenewalOverdue';
  const detail = overdue ? reasons(holder) : undefined;
  if (!withdrawn) {
    if (kind !== 'RootCA' && (ended || state === 'Expired')) found.push({ ...about('expired', 'critical', { at: certificate?.notAfter }), detail });
    else if (isLate(holder, now)) found.push({ ...about('overdue', 'warning', { at: certificate?.renewalTime }, renew(store, kind, name)), detail });
    else if (ready?.status === 'False') found.push(about('notReady', 'warning', { message: ready.message }));
  }
  for (const { type, reason, message } of troubles) {
    if (overdue || !message || message === ready?.message || (withdrawn && type === 'RenewalOverdue')) continue;
    found.push({ ...about('degraded', 'warning', { message }), of: `${type}/${reason}` });
  }
  if (holder.keyAlgorithm === 'Rsa2048') found.push(about('weakKey', 'notice', {}, patch(store, kind, name, { keyAlgorithm: 'EcdsaP256' })));
  if (kind === 'MqttBroker' || kind === 'Dashboard') found.push(...ofServer(store, holder, now, about));
  if (kind === 'RootCA') found.push(...ofRoot(store, holder, now, about));
  return found;
}

/** Why it is as it is, each reason once. */
const reasons = ({ ready, troubles = [] }) => [...new Set([...troubles.map(({ message }) => message), ready?.status === 'False' && ready.message].filter(Boolean))].join(' · ');

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
  if (certificate && seen && seen.serialNumber !== certificate.serialNumber && now - issued(certificate) > SWITCH_WITHIN) found.push(about('otherServed', 'warning', {}, restart));
  return found;
}

function ofRoot(store, holder, now, about) {
  const { name, root } = holder;
  const found = [];
  const active = signingGeneration(holder);
  if (active && !root.rotation && lifeLeft(active, now) < ROOT_LEFT) {
    found.push(about('rootEnding', active.notAfter < now ? 'critical' : 'warning', { at: active.notAfter }, rotate(store, name)));
  }
  const list = root.crl;
  if (!list) return found;
  const left = (list.nextUpdate - now) / (list.nextUpdate - list.signedAt);
  if (left < LIST_LEFT) found.push(about('listEnding', left < 0 ? 'critical' : 'warning', { at: list.nextUpdate }));
  const behind = listAtBrokers(store, holder).filter(({ loaded }) => !loaded);
  if (now - list.signedAt > LOAD_WITHIN) for (const { broker } of behind) found.push({ ...about('listNotLoaded', 'warning', { number: list.number, root: name }, describe(store, 'MqttBroker', broker.name)), name: broker.name, kind: 'MqttBroker', of: name });
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
    if (here && sourceOf(store, 'api').health === 'up') found.push(about('unregistered', 'warning', {}, `${kubectl(store)} get iotdevices`));
    return found;
  }
  if (isConnected(device, now) && isWithdrawn(holder)) found.push(about('barred', 'critical', {}, describe(store, 'IotDevice', name)));
  const [certificate] = holder.certificates;
  const old = certificate && device.inUse && device.inUse.serialNumber !== certificate.serialNumber;
  if (here && old && now - issued(certificate) > SWITCH_WITHIN) {
    const command = holder.device?.simulated ? `${kubectl(store)} rollout restart deployment/iotdevice-${name}` : `${kubectl(store)} get secret ${certificate.secretName} -o jsonpath='{.data.tls\\.crt}' | base64 -d > tls.crt`;
    found.push(about('oldCertificate', 'warning', {}, command));
  }
  if (here && Math.abs(device.clockAhead ?? 0) > CLOCK_WITHIN) found.push(about('clock', 'warning', { ahead: device.clockAhead }, 'timedatectl set-ntp true'));
  if (here && root && certificate?.generation === root.generation && device.inUse?.roots && !device.inUse.roots.includes(root.fingerprint)) found.push(about('untrusting', 'warning', { generation: root.generation }, holder.device?.simulated ? `${kubectl(store)} rollout restart deployment/iotdevice-${name}` : `${kubectl(store)} get secret ${certificate?.secretName} -o jsonpath='{.data.ca\\.crt}' | base64 -d > ca.crt`));
  const turns = inTurn(device.addresses ?? [], now);
  if (turns.length) {
    const addresses = turns.join(', ');
    // With a signing request of its own, a renewal certifies the very key that was copied.
    const csr = holder.device?.csr;
    const command = isWithdrawn(holder) ? describe(store, 'IotDevice', name) : csr ? revoke(store, name) : renew(store, 'IotDevice', name);
    found.push(csr ? about('twoAddressesCsr', 'warning', { addresses }, command) : about('twoAddresses', 'warning', { addresses }, command));
  }
  const told = holder.device?.simulated ? `${kubectl(store)} logs deployment/iotdevice-${name} --tail 50` : describe(store, 'IotDevice', name);
  if (device.malformed > 0) found.push(about('malformed', 'notice', { count: device.malformed }, told));
  if (device.lost > 0) found.push(about('lost', 'notice', { count: device.lost }, told));
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
  return roots.length === 1 ? signingGeneration(roots[0]) : undefined;
}

/** `kubectl` with the namespace, `default` too: the reader's own default may be another one. */
export const kubectl = ({ namespace }) => `kubectl -n ${namespace}`;

/** State and events of a resource. */
export const describe = (store, kind, name) => `${kubectl(store)} describe ${RESOURCES[kind]} ${name}`;

/** Changes the spec of a resource. */
export const patch = (store, kind, name, spec) => `${kubectl(store)} patch ${RESOURCES[kind]} ${name} --type merge -p '${JSON.stringify({ spec })}'`;

/** Every new value of a trigger starts what it stands for once. */
const trigger = (store, kind, name, field) => `${kubectl(store)} patch ${RESOURCES[kind]} ${name} --type merge -p "{\\"spec\\":{\\"${field}\\":{\\"trigger\\":\\"$(date -u +%FT%TZ)\\"}}}"`;

/** Renews at once, with a new key where the operator makes it. */
export const renew = (store, kind, name) => trigger(store, kind, name, 'renewal');

/** Replaces a root, step by step. */
export const rotate = (store, name) => trigger(store, 'RootCA', name, 'rotation');

/** Revokes a device for good: its key was stolen. */
export const revoke = (store, name) => patch(store, 'IotDevice', name, { revoked: { reason: 'keyCompromise' } });
