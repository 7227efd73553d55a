// A namespace in which there is nothing, and a broker that never was: what the page teaches then. A dashboard is started
// here for it: DASHBOARD_PROGRAM=target/debug/dashboard KUBECONFIG=… node --test empty.test.mjs

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, mkdir, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { eventually, violations } from './browser.mjs';
import { kubectl } from './cluster.mjs';
import { SCREENS, visitor } from './visit.mjs';

const { DASHBOARD_PROGRAM, SCREENSHOTS } = process.env;
const NAMESPACE = 'dashboard-empty';

let running;
let url;
let pki;

const { open, leave } = visitor(() => url);

/** A port that is free now. */
async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return port;
}

describe('a namespace with nothing in it', { skip: !DASHBOARD_PROGRAM && 'DASHBOARD_PROGRAM names no program' }, () => {
  before(async () => {
    await kubectl(['apply', '-f', '-'], { apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } });
    pki = await mkdtemp(path.join(tmpdir(), 'dashboard-empty-'));
    const port = await freePort();
    url = `http://localhost:${port}`;
    running = spawn(DASHBOARD_PROGRAM, [`--broker=localhost:1`, `--pki=${pki}`, `--namespace=${NAMESPACE}`, `--listen=127.0.0.1:${port}`], { stdio: 'ignore' });
    await eventually(() => fetch(new URL('/readyz', url)).then(({ status }) => status, () => 0), (status) => status === 200, 30_000);
  });
  after(async () => {
    running?.kill();
    if (pki) await rm(pki, { recursive: true });
    await kubectl(['delete', 'namespace', NAMESPACE, '--wait=false']);
  });

  test('says on each screen what is missing and what to do, in both languages', async () => {
    const said = {
      overview: ['No device yet', 'kind: IotDevice', 'No certificate yet', 'No list yet'],
      devices: ['No device yet', 'kubectl apply -f -', `namespace: ${NAMESPACE}`],
      device: ['There is no device device001'],
      certificates: ['No certificate yet', 'RootCA', 'No revocation list yet'],
      log: ['No message yet'],
      audit: ['Nothing found in certificates and lists', 'Connections and clocks cannot be judged without the MQTT broker.'],
      rotation: ['No root yet'],
    };
    for (const [name, where] of Object.entries(SCREENS)) {
      const page = await open(where);
      const text = await page.locator('body').innerText();
      for (const part of said[name]) assert.ok(text.includes(part), `${name}: ${part} is not in ${text}`);
      assert.deepEqual(await violations(page), [], name);
      if (SCREENSHOTS) {
        await mkdir(SCREENSHOTS, { recursive: true });
        await page.screenshot({ path: path.join(SCREENSHOTS, `empty-${name}-light.png`) });
      }
      await leave();
      const translated = await open(where, { locale: 'zh-TW' });
      const words = await translated.locator('main').innerText();
      for (const part of said[name].filter((part) => /^[A-Z][a-z]+ /.test(part))) assert.ok(!words.includes(part), `${name} in Chinese: ${part}`);
      await leave();
    }
  });

  test('says why there is no broker, and since when', async () => {
    const page = await open('/');
    await page.getByText(/^No connection to the MQTT broker since \d\d:\d\d:\d\d$/).waitFor();
    await page.getByText('no usable certificate in').waitFor();
    assert.equal(await page.locator('.tile', { hasText: 'Revoked but connected' }).locator('.tile-value').innerText(), '–', 'who is connected is not known');
    assert.match(await page.locator('.source').nth(1).getAttribute('title'), /^Since \d\d:\d\d:\d\d$/);
  });

  test('teaches a device that works: what is copied is what the API server takes', async () => {
    const page = await open('/devices', { permissions: ['clipboard-read', 'clipboard-write'] });
    await page.getByRole('button', { name: 'Copy' }).click();
    await page.getByRole('button', { name: 'Copied' }).waitFor();
    const text = await page.evaluate(() => navigator.clipboard.readText());
    const [, manifest] = /<<'EOF'\n([\s\S]*)EOF$/.exec(text);
    await kubectl(['apply', '--dry-run=server', '-f', '-'], manifest);
    // And the page is there for it, without a reload.
    await kubectl(['apply', '-f', '-'], manifest);
    await page.getByRole('link', { name: 'device001', exact: true }).waitFor({ timeout: 10_000 });
    await kubectl(['-n', NAMESPACE, 'delete', 'iotdevice', 'device001']);
    await page.getByText('No device yet').waitFor({ timeout: 10_000 });
  });
});
