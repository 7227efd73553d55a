// What a person sees in a browser, against a dashboard that runs: DASHBOARD_URL=http://localhost:5000 node --test
//
//   DASHBOARD_URL      where it is
//   SCREENSHOTS        a folder for pictures of each screen in both themes; absent: none are made
//   CHROMIUM           the browser, /usr/bin/chromium when absent
//
// The cluster behind it has at least device001 and device002 with thermometers (deploy/samples).

import assert from 'node:assert/strict';
import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';

import { eventually, launch } from './browser.mjs';

const URL_BASE = process.env.DASHBOARD_URL ?? 'http://localhost:5000';
const SCREENSHOTS = process.env.SCREENSHOTS;
const DEVICES = ['device001', 'device002'];
const SCREENS = { overview: '/', devices: '/devices', device: `/devices/${DEVICES[0]}`, certificates: '/certificates', log: '/log', audit: '/audit', rotation: '/rotation' };

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

/** What no page may do: break its own policy, fail in a script, or ask anybody but the dashboard. */
let offences;
let context;
beforeEach(() => {
  offences = [];
});
afterEach(async () => {
  await context?.close();
  context = undefined;
  assert.deepEqual(offences, []);
});

async function open(where, options = {}) {
  context = await browser.newContext({ locale: 'en-GB', colorScheme: 'light', viewport: { width: 1440, height: 900 }, ...options });
  await context.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
  });
  const page = await context.newPage();
  page.on('console', (message) => message.type() === 'error' && offences.push(message.text()));
  page.on('pageerror', (error) => offences.push(String(error)));
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== new URL(URL_BASE).origin) offences.push(`request to ${request.url()}`);
  });
  await page.goto(new URL(where, URL_BASE).href);
  await page.locator('main > *').waitFor();
  return page;
}

const card = (page, name) => page.locator('.card').filter({ has: page.getByRole('link', { name, exact: true }) });

describe('the overview', () => {
  test('shows the temperatures of both devices, moving without a reload', async () => {
    const page = await open('/');
    await page.evaluate(() => (window.sameDocument = true));
    for (const name of DEVICES) {
      await eventually(() => card(page, name).getAttribute('data-presence'), (state) => state === 'online');
      await eventually(() => card(page, name).locator('.card-value').textContent(), (text) => /^-?\d+\.\d$/.test(text));
      // A room changes by less than the tenth of a degree that is shown; the curve tells each reading.
      const curve = () => card(page, name).locator('.spark-line').getAttribute('d');
      const before = await curve();
      await eventually(curve, (now) => now !== before);
    }
    assert.equal(await page.evaluate(() => window.sameDocument), true);
  });

  test('says what comes next for the certificates', async () => {
    const page = await open('/');
    const next = page.locator('.section', { has: page.getByRole('heading', { name: 'Next renewals' }) });
    await eventually(() => next.locator('li').count(), (count) => count > 0);
    assert.match(await next.locator('li').first().innerText(), /(renews|expires) in|due now/);
  });
});

describe('the certificates', () => {
  test('are all there, and say the same as the API', async () => {
    const page = await open('/certificates');
    const state = await (await fetch(new URL('/api/v1/state', URL_BASE))).json();
    const certificates = state.holders.flatMap((holder) => holder.certificates.map((certificate) => ({ holder, certificate })));
    assert.ok(certificates.length >= 5, 'a root, a broker, a dashboard and two devices');
    for (const { holder, certificate } of certificates) {
      await page.getByRole('searchbox').fill(certificate.serialNumber);
      const row = page.locator('.tbody .tr');
      await eventually(() => row.count(), (count) => count === 1);
      const text = await row.innerText();
      assert.ok(text.includes(holder.name), text);
      assert.ok(text.includes(certificate.serialNumber.slice(0, 2)), text);
    }
  });

  test('can be had as a table for a spreadsheet', async () => {
    const page = await open('/certificates');
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: 'CSV' }).click()]);
    const text = await readFile(await download.path(), 'utf8');
    for (const name of DEVICES) assert.match(text, new RegExp(`"IotDevice","${name}"`));
  });
});

describe('a device', () => {
  test('has a chart, a certificate and commands to copy', async () => {
    const page = await open('/devices');
    await page.getByRole('link', { name: DEVICES[0], exact: true }).click();
    await page.getByRole('heading', { name: DEVICES[0], level: 1 }).waitFor();
    await page.locator('.chart canvas').waitFor();
    await page.getByRole('heading', { name: 'Certificate', exact: true }).waitFor();
    assert.match(await page.locator('.commands').innerText(), new RegExp(`describe iotdevice ${DEVICES[0]}`));
    await page.goBack();
    await page.getByRole('heading', { name: 'Devices', level: 1 }).waitFor();
  });

  test('is found by a part of its name, and the address keeps the search', async () => {
    const page = await open('/devices');
    await page.getByRole('searchbox').fill('002');
    await eventually(() => page.locator('.tbody .tr').count(), (count) => count === 1);
    assert.match(page.url(), /\?q=002$/);
    await page.reload();
    await eventually(() => page.locator('.tbody .tr').count(), (count) => count === 1);
  });

  test('that does not exist is said not to', async () => {
    const page = await open('/devices/nobody%3Cimg%20src%3Dx%3E');
    await page.getByText('There is no device nobody<img src=x>').waitFor();
  });
});

describe('the log', () => {
  test('runs, can be held, and goes on', async () => {
    const page = await open('/log');
    const lines = page.locator('.log-line');
    const newest = () => lines.last().innerText();
    const before = await newest();
    await eventually(newest, (text) => text !== before);
    await page.getByRole('button', { name: 'Pause' }).click();
    const held = await newest();
    await page.getByText(/^\d+ new$/).waitFor();
    await eventually(() => page.locator('.toolbar-note').innerText(), (text) => Number.parseInt(text, 10) > 0);
    assert.equal(await newest(), held);
    await page.getByRole('button', { name: 'Resume' }).click();
    await eventually(newest, (text) => text !== held);
  });

  test('is filtered by topic, with wildcards', async () => {
    const page = await open('/log');
    await page.getByRole('searchbox', { name: 'Topic or filter' }).fill(`devices/${DEVICES[1]}/+`);
    await eventually(() => page.locator('.log-line').count(), (count) => count > 0);
    for (const topic of await page.locator('.log-topic').allInnerTexts()) assert.match(topic, new RegExp(`^devices/${DEVICES[1]}/[a-z]+$`));
  });
});

describe('the page', () => {
  test('speaks the language of the browser, and the one chosen', async () => {
    const page = await open('/', { locale: 'zh-TW' });
    await page.getByRole('heading', { name: '總覽', level: 1 }).waitFor();
    await page.getByRole('button', { name: 'English' }).click();
    await page.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
    await page.reload();
    await page.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
    assert.equal(await page.getAttribute('html', 'lang'), 'en');
  });

  test('is light or dark as chosen, also after a reload', async () => {
    const page = await open('/');
    const background = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    const light = await background();
    await page.getByRole('button', { name: 'Dark' }).click();
    const dark = await background();
    assert.notEqual(dark, light);
    await page.reload();
    assert.equal(await background(), dark);
  });

  test('can be walked with the keyboard alone', async () => {
    const page = await open('/');
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Skip to the content');
    await page.getByRole('link', { name: 'Certificates', exact: true }).first().focus();
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Certificates', level: 1 }).waitFor();
  });

  test('is usable for everybody, as far as axe can tell', async () => {
    const axe = await readFile(new URL(import.meta.resolve('axe-core/axe.min.js')), 'utf8');
    for (const colorScheme of ['light', 'dark']) {
      for (const where of Object.values(SCREENS)) {
        const page = await open(where, { colorScheme });
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => globalThis.axe.run());
        await context.close();
        const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target.join(' ')).join(', ')}`);
        assert.deepEqual(found, [], `${where}, ${colorScheme}`);
      }
    }
  });

  test('fits a telephone', async () => {
    for (const where of Object.values(SCREENS)) {
      const page = await open(where, { viewport: { width: 390, height: 844 } });
      const width = await page.evaluate(() => document.documentElement.scrollWidth);
      await context.close();
      assert.ok(width <= 390, `${where} is ${width} px wide`);
    }
  });
});

test('screenshots of each screen in both themes', { skip: !SCREENSHOTS && 'SCREENSHOTS names no folder' }, async () => {
  await mkdir(SCREENSHOTS, { recursive: true });
  const pictures = ['light', 'dark'].flatMap((colorScheme) =>
    Object.entries(SCREENS).map(([name, where]) => ({ file: `${name}-${colorScheme}`, where, options: { colorScheme } })),
  );
  pictures.push({ file: 'overview-zh-TW-light', where: '/', options: { locale: 'zh-TW' } });
  for (const { file, where, options } of pictures) {
    const page = await open(where, options);
    if (where === '/') await eventually(() => card(page, DEVICES[0]).getAttribute('data-presence'), (state) => state === 'online');
    await page.screenshot({ path: path.join(SCREENSHOTS, `${file}.png`) });
    await context.close();
  }
});
