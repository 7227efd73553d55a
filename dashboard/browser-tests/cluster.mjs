// A site of its own on the cluster: a namespace with the chart in it, its broker and dashboard reached by the node.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** `kubectl` with JSON or text from standard input; what it says. */
export async function kubectl(args, input) {
  const running = run('kubectl', args, { maxBuffer: 1 << 28 });
  if (input !== undefined) running.child.stdin.end(typeof input === 'string' ? input : JSON.stringify(input));
  return (await running).stdout;
}

/** The files of a certificate holder's Secret, as text. */
export async function identity(namespace, secret) {
  const { data } = JSON.parse(await kubectl(['-n', namespace, 'get', 'secret', secret, '-o', 'json']));
  const text = (name) => Buffer.from(data[name], 'base64').toString();
  return { key: text('tls.key'), cert: text('tls.crt'), ca: text('ca.crt') };
}

/**
 * Devices without a thermometer, made as fast as the API server takes them, until each is Ready. They are known to the
 * cluster with real certificates; what they publish comes from fleet.mjs.
 */
export async function enrol(namespace, names, within = 300_000) {
  const proxy = spawn('kubectl', ['proxy', '--port=0'], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const [line] = await once(proxy.stdout, 'data');
    const api = `http://${/127\.0\.0\.1:\d+/.exec(line)[0]}/apis/ca-iot.dev/v1alpha1/namespaces/${namespace}/iotdevices`;
    const rest = names.values();
    await Promise.all(
      Array.from({ length: 16 }, async () => {
        for (const name of rest) {
          const body = JSON.stringify({ apiVersion: 'ca-iot.dev/v1alpha1', kind: 'IotDevice', metadata: { name }, spec: {} });
          const { status } = await fetch(api, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
          if (status !== 201 && status !== 409) throw new Error(`${name}: ${status}`);
        }
      }),
    );
    const end = Date.now() + within;
    for (;;) {
      const { items } = await (await fetch(api)).json();
      const valid = new Set(items.filter(({ status }) => status?.state === 'Valid').map(({ metadata }) => metadata.name));
      if (names.every((name) => valid.has(name))) return;
      if (Date.now() > end) throw new Error(`${valid.size} of ${names.length} devices are Valid`);
      await new Promise((done) => setTimeout(done, 1_000));
    }
  } finally {
    proxy.kill();
  }
}
