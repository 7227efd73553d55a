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
import { describe, test } from 'node:test';

import { eventually, violations } from './browser.mjs';
import { SCREENS, card, isMarked, mark, visitor } from './visit.mjs';

const URL_BASE = process.env.DASHBOARD_URL ?? 'http://localhost:5000';
const SCREENSHOTS = process.env.SCREENSHOTS;
const DEVICES = ['device001', 'device002'];
/** DevTools' own "Fast 4G": 9 Mbit/s down, 1.5 Mbit/s up and 60 ms of latency, less a tenth of the rates. */
const FOUR_G = { latency: 60 * 2.75, downloadThroughput: (9 * 1_000_000 * 0.9) / 8, uploadThroughput: (1.5 * 1_000_000 * 0.9) / 8 };

const { open, leave } = visitor(() => URL_BASE);

describe('the overview', () => {
  test('shows the temperatures of both devices, moving without a reload', async () => {
    const page = await open('/');
    await mark(page);
    for (const name of DEVICES) {
      await eventually(() => card(page, name).getAttribute('data-presence'), (state) => state === 'online');
      await eventually(() => card(page, name).locator('.card-value').textContent(), (text) => /^-?\d+\.\d$/.test(text));
      // A room changes by less than the tenth of a degree that is shown; the curve tells each reading.
      const curve = () => card(page, name).locator('.spark-line').getAttribute('d');
      const before = await curve();
      await eventually(curve, (now) => now !== before);
    }
    assert.equal(await isMarked(page), true);
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
    await page.getByRole('img', { name: 'Temperature, 5 min' }).waitFor();
    await page.getByText(/^From -?[\d.]+ to -?[\d.]+ °C, latest -?[\d.]+ °C, gaps: \d+$/).waitFor();
    await page.getByRole('heading', { name: 'Certificate', exact: true }).waitFor();
    assert.match(await page.locator('.commands').innerText(), new RegExp(`kubectl -n \\S+ describe iotdevice ${DEVICES[0]}`));
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

describe('a table', () => {
  test('is sorted by each column, both ways, and the address keeps the order', async () => {
    const page = await open('/devices');
    for (const [title, id] of [['Name', 'name'], ['Temperature', 'temperature'], ['Connection', 'presence'], ['Last reading', 'seen'], ['State', 'state'], ['Life left', 'life'], ['Root generation', 'generation'], ['Lost', 'lost']]) {
      const header = page.getByRole('columnheader', { name: title });
      const button = header.getByRole('button');
      if ((await header.getAttribute('aria-sort')) !== 'ascending') await button.click();
      assert.equal(await header.getAttribute('aria-sort'), 'ascending', title);
      await button.click();
      assert.equal(await header.getAttribute('aria-sort'), 'descending', title);
      assert.match(page.url(), new RegExp(`sort=${id}&order=descending|order=descending`), title);
    }
    await page.getByRole('button', { name: 'Temperature' }).click();
    const sorted = async (direction) => {
      await page.goto(new URL(`/devices?sort=temperature${direction < 0 ? '&order=descending' : ''}`, URL_BASE).href);
      await page.locator('.tbody .tr').first().waitFor();
      const rows = await page.evaluate(() => [...document.querySelectorAll('.tbody .tr')].map((row) => Number.parseFloat(row.querySelector('.cell-value').textContent)));
      return rows.every((value, index) => index === 0 || Number.isNaN(value) || direction * (value - rows[index - 1]) >= 0);
    };
    // In the order of the document, by which the keyboard and a screen reader go.
    assert.ok(await sorted(1), 'coldest first');
    assert.ok(await sorted(-1), 'warmest first, from the address alone');
  });

  test('of devices is narrowed by chips that count, and the address keeps them', async () => {
    const page = await open('/devices?state=online');
    await eventually(() => page.locator('.tbody .tr').count(), (count) => count >= DEVICES.length);
    const online = page.getByRole('button', { name: /^Online/ });
    assert.equal(await online.getAttribute('aria-pressed'), 'true');
    await eventually(async () => [Number.parseInt((await online.innerText()).replace(/\D/g, ''), 10), await page.locator('.tbody .tr').count()], ([counted, shown]) => counted === shown);
    await page.getByRole('button', { name: /^Waiting/ }).click();
    assert.match(page.url(), /state=waiting/);
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
    assert.equal(await page.getByRole('status').innerText(), 'Paused');
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

  test('is walked with the keyboard alone: all that can be used is reached, seen and named', async () => {
    for (const where of Object.values(SCREENS)) {
      const page = await open(where);
      await page.waitForFunction(() => document.querySelector('main').innerText.length > 20);
      const expected = await page.evaluate(() => [...document.querySelectorAll('a[href], button, input, [tabindex="0"]')].filter((element) => element.checkVisibility()).length);
      const reached = [];
      for (let step = 0; step < expected + 5; step += 1) {
        await page.keyboard.press('Tab');
        const focused = await page.evaluate(() => {
          const element = document.activeElement;
          if (element === document.body || element.dataset.walked) return undefined;
          element.dataset.walked = 'true';
          const { width, height, top, left } = element.getBoundingClientRect();
          // A card is all one link, whose ring is around the card.
          const ring = [undefined, '::after'].map((part) => getComputedStyle(element, part)).some(({ outlineStyle, outlineWidth }) => outlineStyle !== 'none' && Number.parseFloat(outlineWidth) >= 1);
          const label = (element.getAttribute('aria-label') ?? element.labels?.[0]?.textContent) || element.textContent || element.getAttribute('title');
          return { what: `${element.tagName} ${label}`.trim(), seen: width > 0 && height > 0 && top > -height && left > -width && top < innerHeight, ring, named: Boolean(label?.trim()) };
        });
        if (!focused) break;
        reached.push(focused.what);
        assert.ok(focused.seen && focused.ring && focused.named, `${where}: ${JSON.stringify(focused)}`);
      }
      assert.equal(reached[0], 'A Skip to the content');
      // Rows come and go while it is walked; nothing may hold the focus or be left out for good.
      assert.ok(reached.length >= expected - 2, `${where}: ${reached.length} of ${expected} are reached, the last is ${reached.at(-1)}`);
      await leave();
    }
  });

  test('goes where the keyboard says, and tells where it is', async () => {
    const page = await open('/');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    assert.equal(await page.evaluate(() => location.hash), '#main', 'the skip link');
    await page.getByRole('link', { name: 'Certificates', exact: true }).first().focus();
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Certificates', level: 1 }).waitFor();
    await eventually(() => page.evaluate(() => document.activeElement.tagName), (tag) => tag === 'H1');
    await page.keyboard.press('/');
    await page.keyboard.type('device001');
    await eventually(() => page.locator('.tbody .tr').count(), (count) => count === 1);
    await page.keyboard.press('Escape');
    await eventually(() => page.locator('.tbody .tr').count(), (count) => count > 1);
    await page.getByRole('button', { name: 'Expires' }).focus();
    await page.keyboard.press('Enter');
    assert.equal(await page.getByRole('columnheader', { name: 'Expires' }).getAttribute('aria-sort'), 'ascending');
    await page.keyboard.press('Space');
    assert.equal(await page.getByRole('columnheader', { name: 'Expires' }).getAttribute('aria-sort'), 'descending');
  });

  test('is usable for everybody, as far as axe can tell, in both themes and both languages', async () => {
    for (const colorScheme of ['light', 'dark']) {
      for (const locale of ['en-GB', 'zh-TW']) {
        for (const where of Object.values(SCREENS)) {
          const page = await open(where, { colorScheme, locale });
          assert.deepEqual(await violations(page), [], `${where}, ${colorScheme}, ${locale}`);
          await leave();
        }
      }
    }
  });

  test('is there within a second on a throttled 4G connection, in less than 150 kB', async (t) => {
    const page = await open('/rotation');
    const devtools = await page.context().newCDPSession(page);
    await devtools.send('Network.enable');
    await devtools.send('Network.setCacheDisabled', { cacheDisabled: true });
    await devtools.send('Network.emulateNetworkConditions', { offline: false, ...FOUR_G });
    let bytes = 0;
    devtools.on('Network.loadingFinished', ({ encodedDataLength }) => (bytes += encodedDataLength));
    const times = [];
    for (let load = 0; load < 5; load += 1) {
      bytes = 0;
      await page.goto(new URL('/', URL_BASE).href, { waitUntil: 'commit' });
      const value = card(page, DEVICES[0]).locator('.card-value');
      await value.filter({ hasText: /\d/ }).waitFor();
      times.push(await page.evaluate(() => performance.getEntriesByName('first-screen')[0].startTime));
      assert.ok(bytes > 10_000 && bytes < 150_000, `${bytes} bytes`);
    }
    const middle = times.sort((a, b) => a - b)[2];
    t.diagnostic(`first screen with its values after ${middle.toFixed(0)} ms at the median of 5 (${times.map((time) => time.toFixed(0)).join(', ')}), ${bytes} bytes`);
    assert.ok(middle < 1_000, `${times} ms`);
  });

  test('fits a telephone', async () => {
    for (const where of Object.values(SCREENS)) {
      const page = await open(where, { viewport: { width: 390, height: 844 } });
      const width = await page.evaluate(() => document.documentElement.scrollWidth);
      await leave();
      assert.ok(width <= 390, `${where} is ${width} px wide`);
    }
  });
});

test('screenshots of each screen in both themes and both languages', { skip: !SCREENSHOTS && 'SCREENSHOTS names no folder' }, async () => {
  await mkdir(SCREENSHOTS, { recursive: true });
  for (const [colorScheme, locale, suffix] of [['light', 'en-GB', 'light'], ['dark', 'en-GB', 'dark'], ['light', 'zh-TW', 'zh-TW-light'], ['dark', 'zh-TW', 'zh-TW-dark']]) {
    for (const [name, where] of Object.entries(SCREENS)) {
      const page = await open(where, { colorScheme, locale });
      if (where === '/') await eventually(() => card(page, DEVICES[0]).getAttribute('data-presence'), (state) => state === 'online');
      await page.screenshot({ path: path.join(SCREENSHOTS, `${name}-${suffix}.png`) });
      await leave();
    }
  }
});
