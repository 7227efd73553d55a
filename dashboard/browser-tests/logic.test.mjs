// The rules of the page that need no browser.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';

import { findings } from '../assets/audit.js';
import { brokerText, certificateRows, isClusterKnown, isUnregistered, lifeLeft, lifeTone, listAtBrokers, needsAttention, nextDue, presence, sourceOf, summary } from '../assets/model.js';
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
  test('is as old as its signature, not as the start of its dates', () => {
    assert.equal(lifeLeft({ ...certificate, issuedAt: 300_000 }, 600_000), 0.5);
    assert.equal(lifeLeft({ ...certificate, issuedAt: null }, 450_000), 0.5, 'an imported root');
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
    assert.equal(needsAttention({ ...row, state: 'Failed' }, 0), true);
  });

  test('of a device that was taken out on purpose needs nobody, and is not due', () => {
    for (const out of [{ state: 'Revoked' }, { state: 'Suspended' }, { device: { revoked: 'keyCompromise' } }, { device: { suspended: true } }]) {
      const withdrawn = { ...holder, ready: { status: 'False' }, troubles: [{ type: 'RenewalOverdue' }], ...out };
      const [row] = certificateRows({ holders: new Map([[withdrawn.id, withdrawn]]), devices: new Map() });
      assert.equal(needsAttention(row, 1_000_000), false, JSON.stringify(out));
      assert.deepEqual(nextDue([row], 1), []);
    }
  });

  test('of this dashboard is known to be used only while it has a session', () => {
    const own = { ...holder, id: 'Dashboard/d', kind: 'Dashboard', name: 'd' };
    const seen = (more) => certificateRows({ holders: new Map([[own.id, own]]), devices: new Map(), ownCertificate: { name: 'd.dashboard', serialNumber: '0a' }, ...more })[0].use;
    assert.equal(seen({ sources: { broker: { health: 'up' } } }), 'yes');
    assert.equal(seen({ sources: { broker: { health: 'down' } } }), 'unknown');
    assert.equal(seen({ sources: { broker: { health: 'up' } }, stream: { health: 'lost' } }), 'unknown');
  });

  test('that is due soonest is named first', () => {
    const rows = [300, 100, 200].map((renewalTime) => ({ id: String(renewalTime), holder, certificate: { ...certificate, renewalTime } }));
    assert.deepEqual(nextDue(rows, 2).map((row) => row.due), [100, 200]);
  });
});

describe('what is not known', () => {
  const at = (api) => ({ sources: { api } });
  test('is not said to be absent before the cluster answered once', () => {
    for (const store of [{}, at({ health: 'connecting', everUp: false }), at({ health: 'down', everUp: false })]) {
      assert.equal(isClusterKnown(store), false);
      assert.equal(isUnregistered(store, { registered: false }), false);
    }
  });
  test('is only what is new while the cluster is away', () => {
    assert.equal(isClusterKnown(at({ health: 'down', everUp: true })), true);
    assert.equal(isUnregistered(at({ health: 'down', everUp: true }), { registered: false }), true);
    assert.equal(isUnregistered(at({ health: 'up', everUp: true }), { registered: true }), false);
  });
  test('is how the sources are while this page hears nothing', () => {
    assert.equal(sourceOf({ stream: { health: 'lost' }, sources: { api: { health: 'up' } } }, 'api').health, 'unknown');
    assert.equal(sourceOf({ stream: { health: 'live' } }, 'api').health, 'connecting');
  });
});

describe('a revocation list', () => {
  const root = { name: 'r', kind: 'RootCA', certificates: [{ fingerprint: 'aa', generationState: 'Retiring' }, { fingerprint: 'bb', generationState: 'Active' }], root: { crl: { number: 7 } } };
  const loaded = (roots, crls, one = root) => listAtBrokers({ holders: new Map([['m', { broker: { loaded: { roots, crls } } }]]) }, one).map((at) => at.loaded);
  test('is loaded where the broker has it or a newer one of the root that signs', () => {
    assert.deepEqual(loaded(['aa', 'bb'], [{ root: 'bb', number: 7 }]), [true]);
    assert.deepEqual(loaded(['aa', 'bb'], [{ root: 'bb', number: 8 }]), [true]);
    assert.deepEqual(loaded(['aa', 'bb'], [{ root: 'bb', number: 6 }]), [false]);
    assert.deepEqual(loaded(['aa', 'bb'], [{ root: 'aa', number: 7 }]), [false], 'the number of another root');
  });
  test('is no concern of a broker that does not trust its root', () => assert.deepEqual(loaded(['cc'], [{ root: 'cc', number: 1 }]), []));
  test('is that of the only generation, whatever its state', () => {
    assert.deepEqual(loaded(['cc'], [{ root: 'cc', number: 9 }], { ...root, certificates: [{ fingerprint: 'cc' }] }), [true]);
  });
});

test('a chart in numbers tells the extremes and the gaps of the time shown', () => {
  const points = [[0, 50, 40, 60], [10, 20, 19, 21], [20, 22, 21, 23], [90, 18, 17, 19]];
  assert.deepEqual(summary(points, 30, 5), { min: 17, max: 23, gaps: 1 });
  assert.equal(summary(points, 30, 100), undefined);
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
  const list = { number: 3, thisUpdate: NOW - HOUR, signedAt: NOW - HOUR, nextUpdate: NOW + 3 * HOUR };
  const root = { id: 'RootCA/r', kind: 'RootCA', name: 'r', state: 'Active', certificates: [{ ...certificate, generationState: 'Active', notAfter: NOW + 10 * HOUR }], ready: { status: 'True' }, root: { crl: list } };
  const broker = { id: 'MqttBroker/m', kind: 'MqttBroker', name: 'm', state: 'Valid', certificates: [certificate], ready: { status: 'True' }, broker: { loaded: { crls: [{ root: 'ff', number: 3 }], roots: ['ff'], serialNumber: '0a' } } };

  /** Rules and severities found in a site that is in order but for `changes`. */
  function audit({ devices = [device], holders = [holder, root, broker], log = [], api = 'up', namespace = 'default' } = {}) {
    const store = { namespace, log, sources: { api: { health: api, everUp: true }, broker: { health: 'up' } }, devices: new Map(devices.map((one) => [one.name, one])), holders: new Map(holders.map((one) => [one.id, one])) };
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
  test('says nothing of a device that was taken out on purpose and runs out', () => {
    const troubles = [{ type: 'RenewalOverdue', reason: 'Overdue', message: 'not renewed' }];
    for (const state of ['Revoked', 'Suspended', 'Expired', 'RenewalOverdue']) {
      const ended = { ...certificate, notAfter: NOW - 1, renewalTime: NOW - HOUR };
      const holders = [{ ...holder, state, device: { suspended: true }, certificates: [ended], ready: { status: 'False', message: 'on hold' }, troubles }];
      assert.deepEqual(rules({ devices: [{ ...device, connection: { state: 'offline' } }], holders }), [], state);
    }
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
    const fresh = { ...holder, certificates: [{ ...certificate, issuedAt: NOW - 60_000 }] };
    assert.deepEqual(rules({ devices: [{ ...device, inUse: { serialNumber: '0b' } }], holders: [fresh] }), [], 'it has a few minutes');
    const later = { ...holder, certificates: [{ ...certificate, issuedAt: NOW - 6 * 60_000 }] };
    assert.deepEqual(rules({ devices: [{ ...device, inUse: { serialNumber: '0b' } }], holders: [later] }), ['warning oldCertificate'], 'and no more');
  });
  test('finds a list near its end, past it, and one that the broker lacks', () => {
    const withList = (crl) => ({ holders: [{ ...root, root: { crl } }, broker, holder] });
    assert.deepEqual(rules(withList({ ...list, nextUpdate: NOW + HOUR / 4 })), ['warning listEnding']);
    assert.deepEqual(rules(withList({ ...list, nextUpdate: NOW - 1 })), ['critical listEnding']);
    assert.deepEqual(rules(withList({ ...list, number: 4 })), ['warning listNotLoaded']);
    assert.deepEqual(rules(withList({ ...list, number: 4, signedAt: NOW - 1_000 })), [], 'the broker has a few minutes');
    assert.deepEqual(rules(withList({ ...list, number: 2 })), [], 'it has a newer one');
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
    const seen = (more) => findings({ namespace: 'default', log: [], sources: { api: { health: 'up', everUp: true }, broker: { health: 'up' } }, devices: new Map(), holders: new Map([[old.id, old]]), handshake: { endpoint: 'x', serialNumber: '0a', at: NOW, ...more } }, NOW).map(({ rule, severity }) => `${severity} ${rule}`);
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
  test('finds a weak key and messages that nobody understands', () => {
    assert.deepEqual(rules({ holders: [{ ...holder, keyAlgorithm: 'Rsa2048' }, root, broker] }), ['notice weakKey']);
    assert.deepEqual(rules({ holders: [{ ...holder, keyAlgorithm: null }, root, broker] }), [], 'nobody knows the key of a signing request');
    assert.deepEqual(rules({ devices: [{ ...device, malformed: 3 }] }), ['notice malformed']);
  });
  test('says of each rule in words what it found and why that matters', async () => {
    const script = await readFile(new URL('../assets/audit.js', import.meta.url), 'utf8');
    const found = [...script.matchAll(/about\('(\w+)'/g)].map(([, rule]) => rule);
    assert.ok(found.length > 15, `the search finds only ${found}`);
    const texts = JSON.parse(await readFile(new URL('../assets/i18n/en.json', import.meta.url), 'utf8'));
    for (const rule of found) assert.ok(texts[`audit.${rule}`] && texts[`audit.${rule}.why`], rule);
  });
  test('gives a command for the right namespace, also where that is the default one', () => {
    for (const namespace of ['plant', 'default']) {
      assert.equal(audit({ namespace, holders: [{ ...holder, state: 'RenewalOverdue' }] })[0].command.split(' patch')[0], `kubectl -n ${namespace}`);
    }
  });
  test('tells apart what it finds twice of the same', () => {
    const troubles = ['Full', 'Slow'].map((reason) => ({ type: 'Degraded', status: 'True', reason, message: reason }));
    const other = { ...root, id: 'RootCA/s', name: 's', certificates: [{ ...root.certificates[0], fingerprint: 'ee' }], root: { crl: { ...list, number: 9 } } };
    const trusting = { ...broker, broker: { loaded: { ...broker.broker.loaded, roots: ['ff', 'ee'], crls: [] } } };
    const found = audit({ holders: [{ ...holder, troubles }, root, other, trusting] });
    assert.deepEqual(found.map(({ rule }) => rule), ['degraded', 'degraded', 'listNotLoaded', 'listNotLoaded']);
    assert.equal(new Set(found.map(({ id }) => id)).size, 4);
  });
  test('tells with a late renewal what holds it up', () => {
    const troubles = [{ type: 'RenewalOverdue', reason: 'Late', message: 'no root' }, { type: 'Degraded', reason: 'NoRoot', message: 'no root' }];
    const [finding, ...more] = audit({ holders: [{ ...holder, state: 'RenewalOverdue', troubles }, root, broker] });
    assert.deepEqual([finding.rule, finding.detail, more], ['overdue', 'no root', []]);
  });
  test('gives a physical device no command for a Deployment that it does not have', () => {
    const command = (simulated) => audit({ devices: [{ ...device, lost: 1 }], holders: [{ ...holder, device: { simulated } }, root, broker] })[0].command;
    assert.equal(command(true), 'kubectl -n default logs deployment/iotdevice-a --tail 50');
    assert.equal(command(false), 'kubectl -n default describe iotdevice a');
  });
  test('revokes what has a signing request of its own: a renewal would keep the copied key', () => {
    const addresses = ['10.0.0.1', '10.0.0.2', '10.0.0.1'].map((address, index) => ({ address, at: NOW - 60_000 + index }));
    const [{ rule, command }] = audit({ devices: [{ ...device, addresses }], holders: [{ ...holder, keyAlgorithm: null, device: { csr: true } }, root, broker] });
    assert.equal(rule, 'twoAddressesCsr');
    assert.match(command, /patch iotdevice a .*"revoked"/);
  });
});
