// Tabs that sleep and wake: how long until each shows what is now, by itself. Each has a browser of its own, and proves that it
// slept: nothing was painted in it meanwhile.
//
//   cargo xtask drill dashboard-sleep
//   DASHBOARD_URL=http://… BROKER=host:port NAMESPACE=… [SECONDS=600] [OUT=file] node drill-sleep.mjs
//
// The namespace holds a site whose MqttBroker gives the IotDevice `load` the topics `devices/#` to write.

import { writeFile } from 'node:fs/promises';
import net from 'node:net';

import { eventually, launchStoppable } from './browser.mjs';
import { enrol, identity } from './cluster.mjs';
import { fleet, session } from './fleet.mjs';

const { DASHBOARD_URL, BROKER, NAMESPACE, SECONDS = '600', OUT } = process.env;
const names = Array.from({ length: 20 }, (_, index) => `sensor-${String(index + 1).padStart(2, '0')}`);
/** What happens to a tab while it sleeps. */
const WAYS = {
  /** The laptop is closed. */
  'every process of the browser stopped': { sleep: (tab) => tab.stop(), wake: (tab) => tab.go() },
  /** It is in a train's tunnel. */
  'no network': { sleep: (tab) => tab.road.cut(), wake: (tab) => tab.road.mend() },
};

/** A road to the dashboard that can be cut: connections end, and new ones are refused. */
async function road() {
  const { hostname, port } = new URL(DASHBOARD_URL);
  const open = new Set();
  const server = net.createServer((near) => {
    const far = net.connect({ host: hostname, port: Number(port) });
    for (const [one, other] of [[near, far], [far, near]]) {
      open.add(one);
      one.pipe(other);
      one.on('error', () => {}).on('close', () => {
        open.delete(one);
        other.destroy();
      });
    }
  });
  const listen = (at) => new Promise((done) => server.listen({ host: '127.0.0.1', port: at }, done));
  await listen(0);
  const own = server.address().port;
  return {
    url: `http://127.0.0.1:${own}`,
    cut() {
      server.close();
      for (const socket of open) socket.destroy();
    },
    mend: () => listen(own),
  };
}

/** In the page: the longest time in which no value was painted. */
function watchPaints() {
  window.sameDocument = true;
  window.stoodStill = 0;
  let last = Date.now();
  new MutationObserver(() => {
    window.stoodStill = Math.max(window.stoodStill, Date.now() - last);
    last = Date.now();
  }).observe(document.querySelector('.tbody .tr .cell-value'), { characterData: true, childList: true, subtree: true });
}

await enrol(NAMESPACE, names);
const [host, port] = BROKER.split(':');
const mqtt = await session({ host, port: Number(port), identity: await identity(NAMESPACE, 'iotdevice-load') });
const started = Date.now();
/** Rises by a tenth of a degree each second: an old value is told from a new one. */
const running = fleet(mqtt, { names, perSecond: 1, celsius: (_, round) => 100 + round / 10 });
/** At most two seconds old: published a second ago, painted with the next frame. */
const newest = () => 100 + Math.floor((Date.now() - started) / 1_000 - 2) / 10;
const tabs = [];
try {
  for (const [way, { sleep, wake }] of Object.entries(WAYS)) {
    const tab = { way, sleep, wake, road: await road(), ...(await launchStoppable()) };
    tabs.push(tab);
    tab.page = await (await tab.browser.newContext({ locale: 'en-GB' })).newPage();
    await tab.page.goto(new URL('/devices?q=sensor-01', tab.road.url).href);
    await tab.page.locator('.tbody .tr .cell-value').filter({ hasText: /\d/ }).waitFor();
    await tab.page.evaluate(watchPaints);
  }
  for (const tab of tabs) await tab.sleep(tab);
  console.log(`asleep for ${SECONDS} s`);
  await new Promise((done) => setTimeout(done, Number(SECONDS) * 1_000));
  const woken = [];
  for (const tab of tabs) {
    const from = Date.now();
    await tab.wake(tab);
    await eventually(async () => Number.parseFloat(await tab.page.locator('.tbody .tr .cell-value').innerText()), (value) => value >= newest(), 60_000);
    const millis = Date.now() - from;
    const live = await tab.page.locator('.source').last().innerText();
    const { sameDocument, stoodStill } = await tab.page.evaluate(() => ({ sameDocument: window.sameDocument === true, stoodStill: window.stoodStill }));
    woken.push({ way: tab.way, millis, stoodStill, sameDocument, live: live.includes('Live') });
    console.log(woken.at(-1));
  }
  if (OUT) await writeFile(OUT, JSON.stringify(woken));
} finally {
  running.stop();
  mqtt.close();
  for (const tab of tabs) {
    tab.go();
    await tab.close();
    tab.road.cut();
  }
}
