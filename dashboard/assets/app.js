// The frame around the screens: navigation, sources, language, theme; and one clock for all of them.

import { h, keyedList, setAttribute, setText } from './dom.js';
import { clock, duration } from './format.js';
import { language, LANGUAGES, t } from './i18n.js';
import { icon } from './icons.js';
import { presence } from './model.js';
import { findings } from './audit.js';
import { empty } from './parts.js';
import { connect, now, sourceNow, store, subscribe } from './store.js';

const YEAR = 31_536_000;
/** Each in a file of its own, loaded when it is opened. */
const SCREENS = [
  { path: /^\/$/, nav: 'overview', href: '/', load: async () => (await import('./screens/overview.js')).overview },
  { path: /^\/devices$/, nav: 'devices', href: '/devices', load: async () => (await import('./screens/devices.js')).devices },
  { path: /^\/devices\/([^/]+)$/, nav: 'devices', load: async () => (await import('./screens/device.js')).device },
  { path: /^\/certificates$/, nav: 'certificates', href: '/certificates', load: async () => (await import('./screens/certificates.js')).certificates },
  { path: /^\/log$/, nav: 'log', href: '/log', load: async () => (await import('./screens/log.js')).log },
  { path: /^\/audit$/, nav: 'audit', href: '/audit', load: async () => (await import('./screens/audit.js')).audit },
  { path: /^\/rotation$/, nav: 'rotation', href: '/rotation', load: async () => (await import('./screens/rotation.js')).rotation },
];
/** A connection that is back sooner was not gone for anybody. */
const BLINK = 2_000;
const THEMES = ['auto', 'light', 'dark'];
const THEME_ICONS = { auto: 'auto', light: 'sun', dark: 'moon' };

const heading = h('h1', { tabindex: '-1' });
const crumb = h('p', { class: 'crumb', hidden: true });
const banners = h('div', { class: 'banners' });
const main = h('main', { id: 'main' });
const live = h('div', { class: 'sr', 'aria-live': 'polite' });
const links = SCREENS.filter(({ href }) => href).map(({ nav, href }) => h('a', { href, class: 'nav-link', 'data-nav': nav }, icon(nav), h('span', {}, t(`nav.${nav}`))));
const sources = ['api', 'broker', 'stream'].map(sourceLine);
const namespace = h('span', { class: 'brand-sub' });

document.body.append(
  h('a', { class: 'skip', href: '#main' }, t('nav.skip')),
  h(
    'aside',
    { class: 'side' },
    h(
      'div',
      { class: 'side-inner' },
    h('a', { class: 'brand', href: '/' }, h('img', { src: new URL('icon.svg', import.meta.url).pathname, alt: '', width: 28, height: 28 }), h('span', { class: 'brand-text' }, h('span', { class: 'brand-name' }, 'ca-iot'), namespace)),
    h('nav', { 'aria-label': t('nav.label') }, links),
    h('div', { class: 'side-foot' }, h('ul', { class: 'sources', 'aria-label': t('source.label') }, sources.map((source) => source.element)), switches()),
    ),
  ),
  h('div', { class: 'content' }, h('header', { class: 'head' }, crumb, heading), banners, main),
  live,
);

const renderBanners = keyedList(banners, (banner) => banner.id, bannerElement);

function sourceLine(name) {
  const text = h('span', { class: 'source-state' });
  const mark = h('span', { class: 'source-icon' });
  const element = h('li', { class: 'source' }, mark, h('span', { class: 'source-name' }, t(`source.${name}`)), text);
  return {
    element,
    update() {
      const { health, since } = name === 'stream' ? store.stream : sourceNow(name);
      const shown = name === 'stream' ? { live: 'up', lost: 'down', connecting: 'connecting' }[health] : health;
      if (element.dataset.health !== health) {
        element.dataset.health = health;
        setAttribute(element, 'data-tone', { up: 'ok', down: 'bad' }[shown] ?? 'quiet');
        mark.replaceChildren(icon({ up: 'check', down: 'warn' }[shown] ?? 'wait'));
      }
      setText(text, t(`health.${health}`));
      setAttribute(element, 'title', t('time.sinceClock', { clock: clock(since) }));
    },
  };
}

function switches() {
  const others = Object.entries(LANGUAGES).map(([tag, name]) =>
    h('button', { type: 'button', class: 'switch-button', lang: tag, 'aria-pressed': String(tag === language), onclick: () => remember('language', tag, true) }, name),
  );
  const themes = THEMES.map((theme) =>
    h('button', { type: 'button', class: 'switch-button', title: t(`theme.${theme}`), 'aria-label': t(`theme.${theme}`), 'data-theme-button': theme, onclick: () => setTheme(theme) }, icon(THEME_ICONS[theme])),
  );
  const group = h('div', { class: 'switch', role: 'group', 'aria-label': t('theme.label') }, themes);
  markTheme(themes);
  function setTheme(theme) {
    document.documentElement.dataset.theme = theme;
    remember('theme', theme, false);
    markTheme(themes);
  }
  return h('div', { class: 'switches' }, h('div', { class: 'switch', role: 'group', 'aria-label': t('language.label') }, others), group);
}

function markTheme(buttons) {
  const chosen = document.documentElement.dataset.theme;
  for (const button of buttons) setAttribute(button, 'aria-pressed', String(button.dataset.themeButton === chosen));
}

/** The server reads these, so that the first paint is right. */
function remember(name, value, reload) {
  document.cookie = `${name}=${value}; path=/; max-age=${YEAR}; samesite=lax`;
  if (reload) location.reload();
}

// --- what is down, and since when ---

function activeBanners() {
  const found = [];
  if (store.stream.health === 'lost' && now() - store.stream.since > BLINK) found.push({ id: 'stream', since: store.stream.since, problem: '' });
  for (const name of ['api', 'broker']) {
    const source = sourceNow(name);
    if (source.health === 'down') found.push({ id: name, since: source.since, problem: source.problem });
  }
  return found;
}

function bannerElement({ id }) {
  const title = h('strong');
  const detail = h('span', { class: 'banner-detail' });
  // For the eye: said aloud, it would be said again with each second, and since when is in the title.
  const length = h('span', { class: 'banner-detail', 'aria-hidden': 'true' });
  return {
    element: h('div', { class: 'banner' }, icon('warn'), h('div', {}, h('div', { role: 'alert' }, title, detail), length)),
    update({ since, problem }) {
      setText(title, t(`banner.${id}`, { clock: clock(since) }));
      setText(detail, [problem, t(`banner.${id}.effect`)].filter(Boolean).join(' · '));
      setText(length, t('time.for', { duration: duration(now() - since) }));
    },
  };
}

/** How much there is to look at, beside the link to it. */
const badge = h('span', { class: 'badge', hidden: true });
links.find((link) => link.dataset.nav === 'audit').append(badge);

function drawBadge() {
  const count = findings(store, now()).filter(({ severity }) => severity !== 'notice').length;
  badge.hidden = count === 0;
  setText(badge, String(count));
  setAttribute(badge, 'aria-label', t('nav.findings', { count }));
}

// --- screens ---

let screen;
let opening = 0;

async function open() {
  const number = (opening += 1);
  const found = SCREENS.map((candidate) => ({ ...candidate, match: candidate.path.exec(location.pathname) })).find(({ match }) => match) ?? { ...SCREENS[0], match: [] };
  const root = h('div', { class: `screen screen-${found.nav}` });
  const query = new URLSearchParams(location.search);
  const show = await found.load();
  if (number !== opening) return;
  const next = attempt(() => show(root, { query, setQuery: (values) => setQuery(query, values), name: found.match[1] && decodeURIComponent(found.match[1]) }), root);
  screen?.close?.();
  screen = next;
  main.replaceChildren(root);
  setText(heading, next.title);
  crumb.hidden = !next.crumb;
  if (next.crumb) crumb.replaceChildren(h('a', { href: next.crumb.href }, icon('arrow'), next.crumb.text));
  document.title = `${next.title} · ca-iot`;
  for (const link of links) setAttribute(link, 'aria-current', link.dataset.nav === found.nav && 'page');
  update(new Set(['all', 'devices', 'holders', 'log', 'tick']));
  screen.opened?.();
}

function update(changed) {
  const shown = screen;
  screen = attempt(() => (shown.update(changed), shown), main.firstElementChild);
  if (screen !== shown) shown.close?.();
}

/** A screen that fails must not look like one that is loading or live, nor take the others along. */
function attempt(show, root) {
  try {
    return show();
  } catch (error) {
    console.error(error);
    root.replaceChildren(empty(t('page.failed'), String(error)));
    return { title: t('page.failed'), update() {} };
  }
}

/** The view is in the address, without a step in the history for each letter typed. */
function setQuery(query, values) {
  for (const [key, value] of Object.entries(values)) {
    if (value) query.set(key, value);
    else query.delete(key);
  }
  history.replaceState(history.state, '', query.size ? `${location.pathname}?${query}` : location.pathname);
}

document.addEventListener('click', (event) => {
  const link = event.target.closest?.('a[href]');
  if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const href = link.getAttribute('href');
  if (link.hasAttribute('download') || !href.startsWith('/') || href.startsWith('/api/')) return;
  event.preventDefault();
  history.pushState(null, '', href);
  scrollTo(0, 0);
  open().then(() => heading.focus({ preventScroll: true }));
});
addEventListener('popstate', open);

// --- one clock, one voice ---

const said = new Map();
let news = [];

/** Changes of devices are said once, politely, and not more than a few at a time. */
function listen() {
  const at = now();
  for (const device of store.devices.values()) {
    const state = presence(device, at);
    const before = said.get(device.name);
    said.set(device.name, state);
    if (before && before !== state) news.push(t('live.presence', { name: device.name, state: t(`presence.${state}`) }));
  }
  for (const name of said.keys()) if (!store.devices.has(name)) said.delete(name);
  if (news.length === 0) return;
  setText(live, news.length > 5 ? t('live.many', { count: news.length }) : news.join('. '));
  news = [];
}

function frame(changed) {
  setText(namespace, store.namespace);
  for (const source of sources) source.update();
  renderBanners(activeBanners());
  if (!store.loaded) return;
  if (changed.has('tick')) {
    listen();
    drawBadge();
  }
  if (screen) update(changed);
}

/** A value turns grey when its time is over, not at the next full second; but not more than ten times a second. */
let alarm;

function setAlarm() {
  const at = now();
  let next = Infinity;
  for (const { latest, staleAfter } of store.devices.values()) {
    const due = latest ? latest[1] + staleAfter : Infinity;
    if (due >= at && due < next) next = due;
  }
  clearTimeout(alarm);
  if (next - at < 1_000) alarm = setTimeout(() => (frame(new Set(['readings'])), setAlarm()), Math.max(100, next - at + 1));
}

/** `/` is the way to the search of a screen, Escape the way out of it. */
addEventListener('keydown', (event) => {
  const field = event.target.closest?.('input, textarea');
  if (event.key === '/' && !field && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const search = main.querySelector('input[type=search]');
    if (!search) return;
    event.preventDefault();
    search.focus();
    search.select();
  }
  if (event.key === 'Escape' && field?.type === 'search') {
    if (!field.value) return field.blur();
    field.value = '';
    field.dispatchEvent(new Event('input', { bubbles: true }));
  }
});

let started = false;
subscribe(async (changed) => {
  if (!started && store.loaded) {
    started = true;
    await open();
    requestAnimationFrame(() => setTimeout(() => performance.mark('first-screen')));
    // The others now, so that they open at once, and also while the server is away.
    for (const { load } of SCREENS) load().catch(() => {});
  }
  frame(changed);
});
setInterval(() => {
  frame(new Set(['tick']));
  setAlarm();
}, 1_000);

setText(heading, t('page.loading'));
connect();
