// The rules of the page that need no browser.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';

import { findings } from '../assets/audit.js';
import { brokerText, certificateRows, lifeLeft, lifeTone, needsAttention, nextDue, presence } from '../assets/model.js';
import { matches, selects } from '../assets/topics.js';

describe('a topic filter', () => {
  for (const [filter, topic, wanted] of [
    ['devices/+/telemetry', 'devices/a/telemetry', true],
    ['devices/+/telemetry', 'devices/a/b/telemetry', false],
    ['devices/#', 'devices', true],
    ['devices/#', 'devices/a/telemetry', true],
    ['#', 'devices/a', true],
    ['#', '$SYS/broker/log/N', false],
    ['+/broker/log/N', '$SYS/broker/log/N', false],
    ['$SYS/#', '$SYS/broker/log/N', true],
    ['devices/a', 'devices/ab', false],
    ['+', 'a/b', false],
    ['+/+', 'a/b', true],
    ['a/#/b', 'a/x/b', false],
  ]) {
    test(`${filter} ${wanted ? 'selects' : 'leaves out'} ${topic}`, () => assert.equal(matches(filter, topic), wanted));
  }

  test('without wildcards is a part of the topic', () => {
    assert.equal(selects('device001', 'devices/device001/status'), true);
    assert.equal(selects('', 'anything'), true);
  });
});

describe('a device', () => {
  const device = { latest: [0, 1_000, 20], staleAfter: 15_000 };
  test('is stale after its limit and not before', () => {
    assert.equal(presence(device, 16_000), 'online');
    assert.equal(presence(device, 16_001), 'stale');
  });
  test('that said goodbye is offline, whatever it said last', () => {
    assert.equal(presence({ ...device, connection: { state: 'offline' } }, 1_000), 'offline');
  });
  test('never heard is waiting', () => {
    assert.equal(presence({ latest: null, staleAfter: 1 }, 0), 'waiting');
  });
});

describe('a certificate', () => {
  const certificate = { serialNumber: '0a', fingerprint: 'ff', notBefore: 0, notAfter: 900_000, renewalTime: 600_000 };
  const holder = { id: 'IotDevice/a', kind: 'IotDevice', name: 'a', state: 'Valid', certificates: [certificate], ready: { status: 'True' }, troubles: [] };
  const store = (more = {}) => ({ holders: new Map([[holder.id, holder]]), devices: new Map(), ...more });

  test('is judged by its own dates', () => {
    assert.equal(lifeLeft(certificate, 450_000), 0.5);
    assert.equal(lifeTone(certificate, 600_000), 'ok');
    assert.equal(lifeTone(certificate, 700_000), 'warn');
    assert.equal(lifeTone(certificate, 900_001), 'bad');
  });

  test('that the device does not use yet is told apart from the one it uses', () => {
    const using = (serialNumber) => store({ devices: new Map([['a', { inUse: { serialNumber } }]]) });
    assert.equal(certificateRows(store())[0].use, 'unknown');
    assert.equal(certificateRows(using('0a'))[0].use, 'yes');
    assert.equal(certificateRows(using('0b'))[0].use, 'no');
  });

  test('of a holder that is not ready needs somebody', () => {
    const [row] = certificateRows(store());
    assert.equal(needsAttention(row, 0), false);
    assert.equal(needsAttention({ ...row, holder: { ...holder, ready: { status: 'False' } } }, 0), true);
    assert.equal(needsAttention({ ...row, state: 'Revoked' }, 0), true);
  });

  test('that is due soonest is named first', () => {
    const rows = [300, 100, 200].map((renewalTime) => ({ id: String(renewalTime), certificate: { ...certificate, renewalTime } }));
    assert.deepEqual(nextDue(rows, 2).map((row) => row.due), [100, 200]);
  });
});

test("the broker's own timestamp is left out, since the line has one", () => {
  assert.equal(brokerText('1795495165: New client connected'), 'New client connected');
  assert.equal(brokerText('12: not a timestamp'), '12: not a timestamp');
});

describe('the audit', () => {
  const NOW = 1_000_000_000;
  const HOUR = 3_600_000;
  const certificate = { serialNumber: '0a', fingerprint: 'ff', notBefore: NOW - HOUR, notAfter: NOW + HOUR, renewalTime: NOW + HOUR / 2, secretName: 'iotdevice-a' };
  const device = { name: 'a', latest: [NOW, NOW, 20], staleAfter: 15_000, inUse: { serialNumber: '0a' }, clockAhead: 0, lost: 0 };
  const holder = { id: 'IotDevice/a', kind: 'IotDevice', name: 'a', state: 'Valid', keyAlgorithm: 'EcdsaP256', certificates: [certificate], ready: { status: 'True' }, troubles: [], device: {} };
  const list = { number: 3, thisUpdate: NOW - HOUR, nextUpdate: NOW + 3 * HOUR };
  const root = { id: 'RootCA/r', kind: 'RootCA', name: 'r', state: 'Active', certificates: [{ ...certificate, generationState: 'Active', notAfter: NOW + 10 * HOUR }], ready: { status: 'True' }, root: { crl: list } };
  const broker = { id: 'MqttBroker/m', kind: 'MqttBroker', name: 'm', state: 'Valid', certificates: [certificate], ready: { status: 'True' }, broker: { loaded: { crlNumbers: [3], roots: ['ff'], serialNumber: '0a' } } };

  /** Rules and severities found in a site that is in order but for `changes`. */
  function audit({ devices = [device], holders = [holder, root, broker], log = [], api = 'up', namespace = 'default' } = {}) {
    const store = { namespace, log, sources: { api: { health: api } }, devices: new Map(devices.map((one) => [one.name, one])), holders: new Map(holders.map((one) => [one.id, one])) };
    return findings(store, NOW);
  }
  const rules = (changes) => audit(changes).map(({ rule, severity }) => `${severity} ${rule}`);

  test('finds nothing where all is in order', () => assert.deepEqual(rules(), []));
  test('finds a revoked device that is connected, loudest of all', () => {
    const lost = { ...device, lost: 2 };
    assert.deepEqual(rules({ devices: [lost], holders: [{ ...holder, state: 'Revoked', device: { revoked: 'keyCompromise' } }, root, broker] }), ['critical barred', 'notice lost']);
  });
  test('says nothing of a revoked device that is gone', () => {
    assert.deepEqual(rules({ devices: [{ ...device, connection: { state: 'offline' } }], holders: [{ ...holder, state: 'Revoked', ready: { status: 'False' }, device: { revoked: 'keyCompromise' } }] }), []);
  });
  test('finds who talks without being registered, unless nobody can know', () => {
    assert.deepEqual(rules({ holders: [root] }), ['warning unregistered']);
    assert.deepEqual(rules({ holders: [root], api: 'down' }), []);
  });
  test('finds an expired certificate and a late renewal', () => {
    assert.deepEqual(rules({ holders: [{ ...holder, certificates: [{ ...certificate, notAfter: NOW - 1 }] }] }), ['critical expired']);
    assert.deepEqual(rules({ holders: [{ ...holder, state: 'RenewalOverdue' }] }), ['warning overdue']);
    assert.deepEqual(rules({ holders: [{ ...holder, certificates: [{ ...certificate, renewalTime: NOW - 3 * 60_000 }] }] }), ['warning overdue'], 'also when the operator says nothing');
  });
  test('finds a device that stays with its old certificate', () => {
    assert.deepEqual(rules({ devices: [{ ...device, inUse: { serialNumber: '0b' } }] }), ['warning oldCertificate']);
    const fresh = { ...holder, certificates: [{ ...certificate, notBefore: NOW - 60_000 }] };
    assert.deepEqual(rules({ devices: [{ ...device, inUse: { serialNumber: '0b' } }], holders: [fresh] }), [], 'it has a few minutes');
  });
  test('finds a list near its end, past it, and one that the broker lacks', () => {
    const withList = (crl) => ({ holders: [{ ...root, root: { crl } }, broker, holder] });
    assert.deepEqual(rules(withList({ ...list, nextUpdate: NOW + HOUR / 4 })), ['warning listEnding']);
    assert.deepEqual(rules(withList({ ...list, nextUpdate: NOW - 1 })), ['critical listEnding']);
    assert.deepEqual(rules(withList({ ...list, number: 4 })), ['warning listNotLoaded']);
    assert.deepEqual(rules(withList({ ...list, number: 4, thisUpdate: NOW - 1_000 })), [], 'the broker has a few minutes');
  });
  test('finds a root near its end', () => {
    const ending = { ...root, certificates: [{ ...certificate, generationState: 'Active', notBefore: NOW - 10 * HOUR }] };
    assert.deepEqual(rules({ holders: [ending, holder] }), ['warning rootEnding']);
  });
  test('finds a clock that is wrong', () => assert.deepEqual(rules({ devices: [{ ...device, clockAhead: -HOUR }] }), ['warning clock']));
  test('finds one identity at two addresses, and not a device that moved', () => {
    const seen = (...addresses) => ({ devices: [{ ...device, addresses: addresses.map((address, index) => ({ address, at: NOW - 60_000 + index })) }] });
    assert.deepEqual(rules(seen('10.0.0.1', '10.0.0.2', '10.0.0.1')), ['warning twoAddresses']);
    assert.deepEqual(rules(seen('10.0.0.1', '10.0.0.2')), []);
    assert.deepEqual(rules(seen('10.0.0.1', '10.0.0.2', '10.0.0.3')), [], 'it travels');
    const longAgo = { ...device, addresses: ['10.0.0.1', '10.0.0.2', '10.0.0.1'].map((address, index) => ({ address, at: NOW - (3 - index) * HOUR })) };
    assert.deepEqual(rules({ devices: [longAgo] }), [], 'it commutes');
  });
  test('finds a revoked device that is connected and says nothing', () => {
    const silent = { ...device, latest: [0, 0, 20], connection: { state: 'online' } };
    const revoked = { ...holder, state: 'Revoked', device: { revoked: 'keyCompromise' } };
    assert.deepEqual(rules({ devices: [silent], holders: [revoked, root, broker] }), ['critical barred']);
  });
  test('finds a broker that presents another certificate, and one that nobody believes', () => {
    const old = { ...broker, certificates: [{ ...certificate, secretName: 'mqttbroker-m' }] };
    const seen = (more) => findings({ namespace: 'default', log: [], sources: { api: { health: 'up' } }, devices: new Map(), holders: new Map([[old.id, old]]), handshake: { endpoint: 'x', serialNumber: '0a', at: NOW, ...more } }, NOW).map(({ rule, severity }) => `${severity} ${rule}`);
    assert.deepEqual(seen({}), []);
    assert.deepEqual(seen({ serialNumber: '0b' }), ['warning otherServed']);
    assert.deepEqual(seen({ distrust: 'UnknownIssuer' }), ['critical distrusted']);
  });
  test('finds a device that does not trust the root that signs', () => {
    const trusting = (roots) => ({ devices: [{ ...device, inUse: { serialNumber: '0a', roots } }], holders: [{ ...holder, certificates: [{ ...certificate, generation: 1 }] }, { ...root, certificates: [{ ...root.certificates[0], generation: 1 }] }, broker] });
    assert.deepEqual(rules(trusting(['ff'])), []);
    assert.deepEqual(rules(trusting(['ee'])), ['warning untrusting']);
  });
  test('finds trouble that does not stop a holder, once', () => {
    const trouble = { type: 'Degraded', status: 'True', message: 'half of it' };
    assert.deepEqual(rules({ holders: [{ ...holder, troubles: [trouble] }, root, broker] }), ['warning degraded']);
    assert.deepEqual(rules({ holders: [{ ...holder, ready: { status: 'False', message: 'half of it' }, troubles: [trouble] }, root, broker] }), ['warning notReady']);
  });
  test('finds a weak key, a full list and messages that nobody understands', () => {
    assert.deepEqual(rules({ holders: [{ ...holder, keyAlgorithm: 'Rsa2048' }, root, broker] }), ['notice weakKey']);
    assert.deepEqual(rules({ holders: [holder, { ...root, root: { crl: { ...list, revoked: 13_000 } } }, broker] }), ['warning listFull']);
    assert.deepEqual(rules({ devices: [{ ...device, malformed: 3 }] }), ['notice malformed']);
  });
  test('says of each rule in words what it found and why that matters', async () => {
    const script = await readFile(new URL('../assets/audit.js', import.meta.url), 'utf8');
    const found = [...script.matchAll(/about\('(\w+)'/g)].map(([, rule]) => rule);
    assert.ok(found.length > 15, `the search finds only ${found}`);
    const texts = JSON.parse(await readFile(new URL('../assets/i18n/en.json', import.meta.url), 'utf8'));
    for (const rule of found) assert.ok(texts[`audit.${rule}`] && texts[`audit.${rule}.why`], rule);
  });
  test('gives a command for the right namespace', () => {
    assert.equal(audit({ namespace: 'plant', holders: [{ ...holder, state: 'RenewalOverdue' }] })[0].command.split(' patch')[0], 'kubectl -n plant');
  });
});
