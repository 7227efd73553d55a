// Tabs that sleep, as those of a laptop that is closed, and wake: how long until each shows what is now, by itself.
//
//   cargo xtask drill dashboard-sleep
//   DASHBOARD_URL=http://… BROKER=host:port NAMESPACE=… [SECONDS=600] [OUT=file] node drill-sleep.mjs
//
// The namespace holds a site whose MqttBroker gives the IotDevice `load` the topics `devices/#` to write.

import { writeFile } from 'node:fs/promises';

import { eventually, launch } from './browser.mjs';
import { enrol, identity } from './cluster.mjs';
import { fleet, session } from './fleet.mjs';

const { DASHBOARD_URL, BROKER, NAMESPACE, SECONDS = '600', OUT } = process.env;
const names = Array.from({ length: 20 }, (_, index) => `sensor-${String(index + 1).padStart(2, '0')}`);
/** What happens to a tab while it sleeps. */
const WAYS = {
  frozen: { sleep: (tab) => tab.devtools.send('Page.setWebLifecycleState', { state: 'frozen' }), wake: (tab) => tab.devtools.send('Page.setWebLifecycleState', { state: 'active' }) },
  offline: { sleep: (tab) => tab.context.setOffline(true), wake: (tab) => tab.context.setOffline(false) },
  both: {
    async sleep(tab) {
      await tab.context.setOffline(true);
      await tab.devtools.send('Page.setWebLifecycleState', { state: 'frozen' });
    },
    async wake(tab) {
      await tab.devtools.send('Page.setWebLifecycleState', { state: 'active' });
      await tab.context.setOffline(false);
    },
  },
};

await enrol(NAMESPACE, names);
const [host, port] = BROKER.split(':');
const mqtt = await session({ host, port: Number(port), identity: await identity(NAMESPACE, 'iotdevice-load') });
const started = Date.now();
/** Rises by a tenth of a degree each second: an old value is told from a new one. */
const running = fleet(mqtt, { names, perSecond: 1, celsius: (_, round) => 100 + round / 10 });
const browser = await launch();
try {
  const tabs = await Promise.all(
    Object.entries(WAYS).map(async ([way, { sleep, wake }]) => {
      const context = await browser.newContext({ locale: 'en-GB' });
      const page = await context.newPage();
      await page.goto(new URL('/devices?q=sensor-01', DASHBOARD_URL).href);
      await page.locator('.tbody .tr .cell-value').filter({ hasText: /\d/ }).waitFor();
      await page.evaluate(() => (window.sameDocument = true));
      return { way, sleep, wake, context, page, devtools: await context.newCDPSession(page) };
    }),
  );
  for (const tab of tabs) await tab.sleep(tab);
  console.log(`asleep for ${SECONDS} s`);
  await new Promise((done) => setTimeout(done, Number(SECONDS) * 1_000));
  const woken = [];
  for (const tab of tabs) {
    const from = Date.now();
    await tab.wake(tab);
    // At most two seconds old: published a second ago, painted with the next frame.
    const newest = () => 100 + Math.floor((Date.now() - started) / 1_000 - 2) / 10;
    await eventually(async () => Number.parseFloat(await tab.page.locator('.tbody .tr .cell-value').innerText()), (value) => value >= newest(), 60_000);
    const live = await tab.page.locator('.source').last().innerText();
    woken.push({ way: tab.way, millis: Date.now() - from, sameDocument: await tab.page.evaluate(() => window.sameDocument === true), live: live.includes('Live') });
    console.log(woken.at(-1));
  }
  if (OUT) await writeFile(OUT, JSON.stringify(woken));
} finally {
  running.stop();
  mqtt.close();
  await browser.close();
}
