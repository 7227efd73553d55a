// Thousands of devices and ten tabs: what the server and the tabs need, and whether they need more and more.
//
//   cargo xtask drill dashboard-load
//   DASHBOARD_URL=http://… BROKER=host:port NAMESPACE=… [DEVICES=5000] [SECONDS=1800] [OUT=file] node drill-load.mjs
//
// The namespace holds a site whose MqttBroker gives the IotDevice `load` the topics `devices/#` to write; the other
// devices are made here.

import { writeFile } from 'node:fs/promises';

import { eventually, footprint, launch, scrollRate, searchTime } from './browser.mjs';
import { enrol, identity } from './cluster.mjs';
import { fleet, session } from './fleet.mjs';

const { DASHBOARD_URL, BROKER, NAMESPACE, DEVICES = '5000', SECONDS = '1800', OUT } = process.env;
const names = Array.from({ length: Number(DEVICES) }, (_, index) => `sensor-${String(index + 1).padStart(4, '0')}`);
/** Ten tabs as people leave them open; each of another browser, so that ten streams leave the server. */
const TABS = ['/', '/', '/devices', '/devices?sort=temperature', '/devices?sort=seen&order=descending', `/devices/${names[7]}`, '/certificates', '/log', '/audit', '/rotation'];
const SAMPLE = 60_000;
/** What is kept of messages and curves fills up first, for five minutes; a short try has no such patience. */
const WARM_UP = Math.min(6 * 60_000, (Number(SECONDS) * 1_000) / 3);

const say = (...words) => console.log(new Date().toISOString().slice(11, 19), ...words);
const sleep = (millis) => new Promise((done) => setTimeout(done, millis));

async function server() {
  const text = await (await fetch(new URL('/metrics', DASHBOARD_URL))).text();
  const of = (name) => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)[1]);
  return { cpu: of('process_cpu_seconds_total'), memory: of('process_resident_memory_bytes'), messages: of('ca_iot_dashboard_messages_total'), resets: of('ca_iot_dashboard_stream_resets_total'), tabs: of('ca_iot_dashboard_tabs'), at: performance.now() };
}

const since = (before, now) => ({ core: (100 * (now.cpu - before.cpu)) / ((now.at - before.at) / 1_000), messages: (now.messages - before.messages) / ((now.at - before.at) / 1_000), mebibytes: now.memory / 2 ** 20 });

await enrol(NAMESPACE, names);
const [host, port] = BROKER.split(':');
const mqtt = await session({ host, port: Number(port), identity: await identity(NAMESPACE, 'iotdevice-load') });
const running = fleet(mqtt, { names, perSecond: 1, celsius: (index, round) => 20 + Math.round(50 * Math.sin((round + index) / 40)) / 10 });
const browser = await launch();
const started = Date.now();
try {
  const open = async (where) => {
    const context = await browser.newContext({ locale: 'en-GB', viewport: { width: 1440, height: 900 } });
    const page = await context.newPage();
    page.on('pageerror', (error) => say('ERROR', where, String(error)));
    await page.goto(new URL(where, DASHBOARD_URL).href);
    await page.locator('main > *').waitFor({ timeout: 60_000 });
    return page;
  };
  const tabs = [];
  for (const where of TABS) tabs.push({ where, page: await open(where), samples: [] });
  const first = await server();
  const streams = first.tabs;
  say(`${names.length} devices, ${streams} streams`);
  let before = first;
  let peak = { core: 0, mebibytes: 0 };
  while (Date.now() - started < Number(SECONDS) * 1_000) {
    await sleep(SAMPLE);
    const now = await server();
    const used = since(before, now);
    before = now;
    peak = { core: Math.max(peak.core, used.core), mebibytes: Math.max(peak.mebibytes, used.mebibytes) };
    for (const tab of tabs) tab.samples.push({ at: Date.now() - started, ...(await footprint(tab.page)) });
    say(`server ${used.core.toFixed(1)} % of a core, ${used.mebibytes.toFixed(0)} MiB, ${used.messages.toFixed(0)} messages/s, ${now.resets} resets; tabs ${tabs.map(({ samples }) => (samples.at(-1).heap / 2 ** 20).toFixed(1)).join(' ')} MiB`);
  }
  const whole = since(first, await server());
  say(`server over all: ${whole.core.toFixed(1)} % of a core (most in a minute ${peak.core.toFixed(1)} %), at most ${peak.mebibytes.toFixed(0)} MiB, ${whole.messages.toFixed(0)} messages/s; the broker owes ${mqtt.owed}`);
  const least = (part) => Math.min(...part.map(({ heap }) => heap)) / 2 ** 20;
  const halves = tabs.map(({ where, samples }) => {
    const warm = samples.filter(({ at }) => at > WARM_UP);
    const [early, late] = [least(warm.slice(0, Math.ceil(warm.length / 2))), least(warm.slice(Math.floor(warm.length / 2)))];
    say(`tab ${where}: least heap ${early.toFixed(1)} MiB in the first half, ${late.toFixed(1)} MiB in the second; nodes ${warm.at(0)?.nodes} then ${warm.at(-1)?.nodes}`);
    return { at: where, early, late };
  });
  for (const { page } of tabs) await page.context().close();
  const page = await open('/devices');
  await eventually(() => page.locator('.tbody .tr').count(), (count) => count > 10);
  const [framesPerSecond, searchMillis] = [[], []];
  for (let run = 0; run < 3; run += 1) {
    framesPerSecond.push(await scrollRate(page, 5_000));
    searchMillis.push(await searchTime(page, 'sensor-49'));
    say(`one tab, the table of ${names.length}: ${framesPerSecond.at(-1).toFixed(1)} frames/s while scrolling; the slowest letter of a search ${searchMillis.at(-1).toFixed(0)} ms`);
  }
  if (OUT) await writeFile(OUT, JSON.stringify({ corePercent: whole.core, corePercentInTheBusiestMinute: peak.core, mebibytes: peak.mebibytes, messagesPerSecond: whole.messages, streams, tabs: halves, framesPerSecond, searchMillis }));
} finally {
  running.stop();
  mqtt.close();
  await browser.close();
}
