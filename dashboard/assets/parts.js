// Pieces that several screens are made of.

import { drawOnce, h, setAttribute, setText } from './dom.js';
import { clock, date, duration, moment, relative } from './format.js';
import { t, word } from './i18n.js';
import { icon, KIND_ICONS, STATE_ICONS } from './icons.js';
import { isClusterKnown, issued, isUnregistered, lifeLeft, lifeTone, TONES } from './model.js';
import { now as serverNow, store } from './store.js';

/** A state: an icon, a word and a colour, in that order of importance. */
export function stateChip(group) {
  const label = h('span');
  const element = h('span', { class: 'chip' }, label);
  let shown;
  return {
    element,
    update(state) {
      if (state === shown) return;
      shown = state;
      setAttribute(element, 'data-tone', TONES[state] ?? 'quiet');
      element.querySelector('.icon')?.remove();
      element.prepend(icon(STATE_ICONS[state] ?? 'wait'));
      setText(label, word(group, state));
    },
  };
}

/** A value that is old says since when. */
export function noteOf(device, state, at) {
  if (!device.latest) return t(isUnregistered(store, device) ? 'device.unregistered' : 'device.never');
  const received = device.latest[1];
  if (state !== 'online') return t('device.silent', { duration: duration(at - received), clock: clock(received) });
  const age = relative(received, at);
  return device.interval ? t('device.every', { age, interval: duration(device.interval) }) : age;
}

/** How much of a certificate's life is left, with a mark where it will be renewed. */
export function lifeBar() {
  const fill = h('span', { class: 'life-fill' });
  const mark = h('span', { class: 'life-mark' });
  const element = h('span', { class: 'life', role: 'img' }, fill, mark);
  let shown;
  return {
    element,
    update(certificate, now) {
      setAttribute(element, 'data-tone', lifeTone(certificate, now));
      const left = lifeLeft(certificate, now);
      fill.style.width = `${(left * 100).toFixed(1)}%`;
      setAttribute(element, 'aria-label', t('certificate.left', { percent: Math.round(left * 100) }));
      if (certificate === shown) return;
      shown = certificate;
      mark.hidden = !certificate.renewalTime;
      if (certificate.renewalTime) mark.style.left = `${(lifeLeft(certificate, certificate.renewalTime) * 100).toFixed(1)}%`;
      setAttribute(element, 'title', lifeTitle(certificate));
    },
  };
}

function lifeTitle(certificate) {
  const { renewalTime, notAfter } = certificate;
  const lines = [t('certificate.issuedAt', { moment: moment(issued(certificate)) })];
  if (renewalTime) lines.push(t('certificate.renewsAt', { moment: moment(renewalTime) }));
  lines.push(t('certificate.expiresAt', { moment: moment(notAfter) }));
  return lines.join('\n');
}

/** A moment as people ask for it (`in 59 days`), the date beneath. */
export function when() {
  const main = h('span', { class: 'when-main' });
  const sub = h('span', { class: 'when-sub' });
  return {
    element: h('span', { class: 'when' }, main, sub),
    update(millis, now) {
      setText(main, millis ? relative(millis, now) : '–');
      setText(sub, millis ? date(millis, now) : '');
      setAttribute(main, 'title', millis ? moment(millis) : undefined);
    },
  };
}

/** What holds a certificate: icon, name, kind in words. */
export function holderName({ kind, name }, detail, href) {
  const text = href ? h('a', { href, class: 'name-main' }, name) : h('span', { class: 'name-main' }, name);
  return h(
    'span',
    { class: 'name' },
    icon(KIND_ICONS[kind]),
    h('span', { class: 'name-text' }, text, h('span', { class: 'name-sub' }, [word('kind', kind), detail].filter(Boolean).join(' · '))),
  );
}

/** A button that copies `text()` and says so. */
export function copyButton(text, label) {
  const words = h('span', { class: 'sr' }, label);
  const button = h(
    'button',
    {
      class: 'copy',
      type: 'button',
      title: label,
      async onclick() {
        const done = await copy(text());
        setText(words, t(done ? 'copy.done' : 'copy.failed'));
        setAttribute(button, 'data-done', done);
        setTimeout(() => {
          setText(words, label);
          setAttribute(button, 'data-done', undefined);
        }, 1_500);
      },
    },
    icon('copy'),
    words,
  );
  return button;
}

/** Browsers offer the clipboard on https and localhost only; elsewhere a selection does. */
async function copy(text) {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text).then(
      () => true,
      () => false,
    );
  }
  const area = h('textarea', { class: 'sr', readonly: true });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  return done;
}

/** Text to copy into a terminal or a file. */
export function code(text, label) {
  return h('div', { class: 'code' }, h('pre', { tabindex: '0' }, h('code', {}, text)), copyButton(() => text, label));
}

/** What to do when there is nothing to show. */
export function empty(title, text, ...more) {
  return h('div', { class: 'empty' }, h('p', { class: 'empty-title' }, title), h('p', {}, text), ...more);
}

/**
 * Says in `parent` that nothing is there, as `draw()` words it, or that nobody knows, as long as the cluster never answered.
 * Drawn anew only when that changes.
 */
export function emptiness(parent, nothing, draw) {
  const problem = store.sources?.api.problem ?? '';
  const known = isClusterKnown(store);
  drawOnce(parent, nothing && (known || problem), () => {
    if (!nothing) return [];
    return [known ? draw() : empty(t('empty.unknown'), problem || t('empty.unknown.text'))];
  });
}

/** `{when}` of the text `key`, as seen from now; kept by `updateTimes`. */
export function timeText(key, millis, attributes) {
  return h('span', { ...attributes, 'data-text': key, 'data-moment': millis }, t(key, { when: relative(millis, serverNow()) }));
}

/** Brings the times in `parent` up to date and leaves all else alone: what is selected or has the focus stays so. */
export function updateTimes(parent) {
  const at = serverNow();
  for (const element of parent.querySelectorAll('[data-moment]')) setText(element, t(element.dataset.text, { when: relative(Number(element.dataset.moment), at) }));
}

/** The manifest of a first device. */
export function firstDevice(namespace) {
  const manifest = `apiVersion: ca-iot.dev/v1alpha1
kind: IotDevice
metadata:
  name: device001
  namespace: ${namespace}
spec:
  thermometer: {}
`;
  return code(`kubectl apply -f - <<'EOF'\n${manifest}EOF`, t('copy.command'));
}

/** A titled part of a screen. */
export function section(title, ...content) {
  return h('section', { class: 'section' }, h('div', { class: 'section-head' }, h('h2', {}, title)), ...content);
}
