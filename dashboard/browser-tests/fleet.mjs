// Devices that publish what they are told to: readings of the wire format over MQTT, through the real broker.
//
// One certificate speaks for all of them. The broker lets it, because `spec.access` of the MqttBroker gives it
// `devices/#` to write: thousands of devices cost one connection here, and the dashboard cannot tell.

import { once } from 'node:events';
import { connect } from 'node:tls';

import { generate, parser } from 'mqtt-packet';

/** Unanswered publishes at a time, of 65 535 packet ids. */
const WINDOW = 40_000;
const TICK = 20;

/** A session under `identity`, `{ key, cert, ca }`: what it publishes has arrived at the broker when `settled()` is. */
export async function session({ host, port, servername = 'localhost', identity, clientId }) {
  const socket = connect({ host, port, servername, ...identity });
  await once(socket, 'secureConnect');
  const inbound = parser();
  const open = new Set();
  const waiting = [];
  let nextId = 0;
  let refused = 0;
  const connected = new Promise((resolve, reject) => {
    inbound.on('packet', (packet) => {
      if (packet.cmd === 'connack') packet.returnCode ? reject(new Error(`CONNACK ${packet.returnCode}`)) : resolve();
      if (packet.cmd === 'puback') {
        open.delete(packet.messageId);
        if (packet.reasonCode >= 128) refused += 1;
        if (open.size === 0) for (const done of waiting.splice(0)) done();
      }
    });
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('the broker closed the connection')));
  });
  socket.on('data', (data) => inbound.parse(data));
  socket.write(generate({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: true, clientId, keepalive: 0 }));
  await connected;
  const { serialNumber: presented } = socket.getPeerCertificate();
  return {
    /** Serial number of the broker's certificate in this session's handshake, upper-case hex. */
    presented,
    publish(topic, payload, { retain = false } = {}) {
      do nextId = (nextId % 65_535) + 1; while (open.has(nextId));
      open.add(nextId);
      socket.write(generate({ cmd: 'publish', topic, payload: typeof payload === 'string' ? payload : JSON.stringify(payload), qos: 1, messageId: nextId, retain }));
    },
    batch(publish) {
      socket.cork();
      publish();
      socket.uncork();
    },
    settled: () => (open.size ? new Promise((done) => waiting.push(done)) : Promise.resolve()),
    get owed() {
      return open.size;
    },
    /** Whether the broker has to catch up first. */
    get full() {
      return open.size >= WINDOW;
    },
    get refused() {
      return refused;
    },
    close() {
      socket.removeAllListeners('close');
      socket.on('error', () => {});
      socket.end(generate({ cmd: 'disconnect' }));
    },
  };
}

/** A reading of the wire format (crates/link/src/wire.rs). */
export const reading = (seq, celsius, ts = Date.now()) => ({ v: 1, ts, seq, celsius });

/**
 * Lets the devices `names` each publish `perSecond` readings, evenly spread, until `stop()`. `celsius(index, round)` is
 * what they say; `published(index, round, at)` hears of each.
 */
export function fleet(mqtt, { names, perSecond, celsius, published = () => {} }) {
  const first = Date.now();
  const base = first * 1_000;
  const every = 1_000 / perSecond / names.length;
  let count = 0;
  const timer = setInterval(() => {
    const due = Math.floor((Date.now() - first) / every);
    mqtt.batch(() => {
      for (; count < due && !mqtt.full; count += 1) {
        const index = count % names.length;
        const round = Math.floor(count / names.length);
        const at = Date.now();
        mqtt.publish(`devices/${names[index]}/telemetry`, reading(base + round, celsius(index, round), at));
        published(index, round, at);
      }
    });
  }, TICK);
  return {
    get count() {
      return count;
    },
    stop: () => clearInterval(timer),
  };
}
