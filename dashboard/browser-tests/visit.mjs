// Pages as the tests open them, with what no page may ever do: break its own policy, fail in a script, or ask anybody but
// the dashboard. A test in which one did fails at its end.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach } from 'node:test';

import { launch } from './browser.mjs';

export const SCREENS = { overview: '/', devices: '/devices', device: '/devices/device001', certificates: '/certificates', log: '/log', audit: '/audit', rotation: '/rotation' };

/** Sets a browser up for the tests of a file. Returns how to open a page at a path of `base()`. */
export function visitor(base) {
  let browser;
  let contexts = [];
  let offences = [];
  before(async () => {
    browser = await launch();
  });
  after(() => browser?.close());
  beforeEach(() => {
    offences = [];
  });
  afterEach(leave);

  async function leave() {
    const leaving = contexts;
    contexts = [];
    await Promise.all(leaving.map((context) => context.close()));
    assert.deepEqual(offences, []);
  }

  /** `excused` are errors that belong to what the test does, such as a server that is gone. */
  async function open(where, { excused = [], ...options } = {}) {
    const context = await browser.newContext({ locale: 'en-GB', colorScheme: 'light', viewport: { width: 1440, height: 900 }, ...options });
    contexts.push(context);
    await context.addInitScript(() => {
      addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
    });
    const page = await context.newPage();
    const offence = (text) => excused.some((pattern) => pattern.test(text)) || offences.push(text);
    page.on('console', (message) => message.type() === 'error' && offence(message.text()));
    page.on('pageerror', (error) => offence(String(error)));
    page.on('dialog', (dialog) => (offence(`dialog ${dialog.message()}`), dialog.dismiss()));
    page.on('request', (request) => {
      const { protocol, origin } = new URL(request.url());
      if (origin !== new URL(base()).origin && protocol !== 'data:') offence(`request to ${request.url()}`);
    });
    await page.goto(new URL(where, base()).href);
    await page.locator('main > *').waitFor().catch((error) => assert.fail(`${where} stays empty: ${offences.join('; ') || error.message}`));
    return page;
  }
  return { open, leave };
}

/** Loading anything while the server is away is reported by the browser itself. */
export const SERVER_AWAY = [/Failed to load resource/, /net::ERR_/];

/** Marks this very document: after a reload the mark is gone. */
export const mark = (page) => page.evaluate(() => (window.sameDocument = true));
export const isMarked = (page) => page.evaluate(() => window.sameDocument === true);

/** The card of a device on the overview. */
export const card = (page, name) => page.locator('.card').filter({ has: page.getByRole('link', { name, exact: true }) });

/** The row of a device, or of another holder, in a table. */
export const row = (page, name) => page.locator('.tbody .tr').filter({ has: page.locator('.name-main', { hasText: new RegExp(`^${name}$`) }) });
