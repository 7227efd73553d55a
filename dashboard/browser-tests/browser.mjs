// Chromium as the tests and the drills start it.

import { readFile } from 'node:fs/promises';

import { chromium } from 'playwright-core';

/** `CHROMIUM` names another one than Debian's. */
const OPTIONS = {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
};

export const launch = () => chromium.launch(OPTIONS);

/** A browser whose processes can be stopped and continued all at once, as those of a laptop that sleeps. */
export async function launchStoppable() {
  const server = await chromium.launchServer(OPTIONS);
  const browser = await chromium.connect(server.wsEndpoint());
  // Playwright starts it as the leader of a group of its own.
  const signal = (name) => process.kill(-server.process().pid, name);
  return { browser, stop: () => signal('SIGSTOP'), go: () => signal('SIGCONT'), close: () => server.close() };
}

/** Waits until `read` gives something that `holds`; a condition, not a pause. */
export async function eventually(read, holds, within = 20_000) {
  const end = Date.now() + within;
  let value;
  do {
    value = await read();
    if (holds(value)) return value;
    await new Promise((done) => setTimeout(done, 100));
  } while (Date.now() < end);
  throw new Error(`still ${JSON.stringify(value)} after ${within} ms`);
}

/** Bytes of the script's heap and number of nodes, once everything unreachable is gone. */
export async function footprint(page) {
  const devtools = await page.context().newCDPSession(page);
  try {
    await devtools.send('HeapProfiler.collectGarbage');
    await devtools.send('Performance.enable');
    const { metrics } = await devtools.send('Performance.getMetrics');
    const of = (name) => metrics.find((metric) => metric.name === name).value;
    return { heap: of('JSHeapUsedSize'), nodes: of('Nodes') };
  } finally {
    await devtools.detach();
  }
}

/** Frames a second while the page is scrolled from end to end for `millis`. */
export const scrollRate = (page, millis) =>
  page.evaluate(
    (millis) =>
      new Promise((done) => {
        const first = performance.now();
        let frames = 0;
        let down = true;
        requestAnimationFrame(function next(at) {
          frames += 1;
          scrollBy(0, down ? 60 : -60);
          if (scrollY <= 0) down = true;
          else if (scrollY + innerHeight >= document.documentElement.scrollHeight - 1) down = false;
          if (at - first < millis) requestAnimationFrame(next);
          else done((frames - 1) / ((at - first) / 1_000));
        });
      }),
    millis,
  );

/** The slowest letter of `text` typed into the search field, in milliseconds until the result is painted. */
export const searchTime = (page, text) =>
  page.evaluate(async (text) => {
    const field = document.querySelector('input[type=search]');
    const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    let slowest = 0;
    for (let length = 1; length <= text.length; length += 1) {
      await painted();
      const from = performance.now();
      field.value = text.slice(0, length);
      field.dispatchEvent(new Event('input', { bubbles: true }));
      await painted();
      slowest = Math.max(slowest, performance.now() - from);
    }
    field.value = '';
    field.dispatchEvent(new Event('input', { bubbles: true }));
    return slowest;
  }, text);

/** What axe has to say against the page as it is now. */
export async function violations(page) {
  const axe = await readFile(new URL(import.meta.resolve('axe-core/axe.min.js')), 'utf8');
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run());
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target, any }) => `${target.join(' ')} ${any[0]?.message ?? ''}`).join(', ')}`);
}
