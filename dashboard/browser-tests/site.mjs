// What is done to a site behind the dashboard's back, and undone again.

import { eventually } from './browser.mjs';
import { enrol, identity, kubectl } from './cluster.mjs';
import { reading, session } from './fleet.mjs';

/** The IotDevice whose certificate speaks for the fleet. */
const VOICE = 'load';

/** The site in `namespace`, its broker at `broker` (`host:port`), its page at `url`. */
export class Site {
  constructor({ namespace, broker, url }) {
    const [host, port] = broker.split(':');
    Object.assign(this, { namespace, url, host, port: Number(port) });
  }

  kubectl(...args) {
    return kubectl(['-n', this.namespace, ...args]);
  }

  apply(object) {
    return kubectl(['-n', this.namespace, 'apply', '--server-side', '--force-conflicts', '-f', '-'], object);
  }

  async get(...args) {
    return JSON.parse(await this.kubectl('get', ...args, '-o', 'json'));
  }

  patch(kind, name, patch) {
    return this.kubectl('patch', kind, name, '--type=merge', '-p', JSON.stringify(patch));
  }

  /** Stays only while the operator is away, which knows better. */
  patchStatus(kind, name, status) {
    return this.kubectl('patch', kind, name, '--subresource=status', '--type=merge', '-p', JSON.stringify({ status }));
  }

  /** What the page would load now. */
  async state() {
    return (await fetch(new URL('/api/v1/state', this.url))).json();
  }

  /** Lets `load` speak for every device, and makes `names`. Returns once the broker passes it on. */
  async populate(names) {
    await this.patch('mqttbroker', 'mosquitto', { spec: { access: [{ name: VOICE, write: ['devices/#'] }] } });
    await enrol(this.namespace, [VOICE, ...names]);
    const voice = await this.voice();
    const heard = () => this.state().then(({ devices }) => devices.find(({ name }) => name === names[0])?.latest);
    let seq = Date.now() * 1_000;
    await eventually(
      async () => {
        voice.publish(`devices/${names[0]}/telemetry`, reading((seq += 1), 20));
        await voice.settled();
        return heard();
      },
      Boolean,
      150_000,
    );
    voice.close();
  }

  /** A session that speaks for every device. */
  async voice() {
    return session({ host: this.host, port: this.port, identity: await identity(this.namespace, `iotdevice-${VOICE}`) });
  }

  /** A session as device `name`, with its own certificate. */
  async as(name) {
    return session({ host: this.host, port: this.port, identity: await identity(this.namespace, `iotdevice-${name}`) });
  }

  async scale(deployment, replicas) {
    await this.kubectl('scale', 'deployment', deployment, `--replicas=${replicas}`);
    if (replicas) await this.kubectl('rollout', 'status', `deployment/${deployment}`, '--timeout=120s');
    else await eventually(() => this.get('deployment', deployment), ({ status }) => !status.replicas, 60_000);
  }

  /** Does `body`, and `undo` whatever came of it, while no operator puts right what it finds; then brings it back. */
  async withoutOperator(body, undo = () => {}) {
    const operator = 'ca-iot-operator';
    const { spec } = await this.get('deployment', operator);
    await this.scale(operator, 0);
    await eventually(() => this.get('pods', '-l', 'app.kubernetes.io/name=operator'), ({ items }) => items.length === 0, 60_000);
    try {
      await body();
    } finally {
      try {
        await undo();
      } finally {
        await this.scale(operator, spec.replicas || 1);
      }
    }
  }
}
