// The rules of the page that need no browser.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';

/** The page's modules are served as modules; Node is told so. */
async function load(name) {
  const source = await readFile(new URL(`../assets/${name}`, import.meta.url), 'utf8');
  return import(`data:text/javascript;base64,${Buffer.from(source).toString('base64')}`);
}

const { matches, selects } = await load('topics.js');
const { presence, lifeLeft, lifeTone, certificateRows, needsAttention, nextDue, brokerText } = await load('model.js');

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
