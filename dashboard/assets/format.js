// Numbers, times and durations as people of the language write them.

import { language, t } from './i18n.js';

const UNITS = [
  ['year', 31_557_600_000],
  ['day', 86_400_000],
  ['hour', 3_600_000],
  ['minute', 60_000],
  ['second', 1_000],
];

const NEAR = 12 * 3_600_000;

const temperatures = new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const rates = new Intl.NumberFormat(language, { maximumSignificantDigits: 3 });
const integers = new Intl.NumberFormat(language);
const dates = new Intl.DateTimeFormat(language, { dateStyle: 'medium' });
const moments = new Intl.DateTimeFormat(language, { dateStyle: 'medium', timeStyle: 'medium', hourCycle: 'h23' });
const clocks = new Intl.DateTimeFormat(language, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const amounts = Object.fromEntries(
  UNITS.map(([unit]) => [unit, new Intl.NumberFormat(language, { style: 'unit', unit, unitDisplay: 'short', maximumFractionDigits: 1 })]),
);

/** 21.4 */
export const celsius = (value) => temperatures.format(value);
/** 0.4 · 12.5 · 4,810 */
export const rate = (value) => (value >= 1000 ? integers.format(Math.round(value)) : rates.format(value));
/** 5,000 */
export const integer = (value) => integers.format(value);
/** 22 Feb 2027; near to `now`, where the day says little, 14:05:09 */
export const date = (millis, now) => (Math.abs(millis - now) < NEAR ? clocks : dates).format(millis);
/** 22 Feb 2027, 14:05:09 */
export const moment = (millis) => moments.format(millis);
/** 14:05:09 */
export const clock = (millis) => clocks.format(millis);

/** The two largest units at most: `9.9 yrs`, `59 days`, `2 hr 12 min`, `40 sec`. */
export function duration(millis) {
  const rest = Math.abs(millis);
  if (rest < 1_000) return amounts.second.format(Math.floor(rest / 100) / 10);
  const first = UNITS.findIndex(([, length]) => rest >= length);
  const [unit, length] = UNITS[first];
  if (unit === 'year') return amounts.year.format(rest / length);
  const whole = Math.floor(rest / length);
  const text = amounts[unit].format(whole);
  // Beyond a few of a unit the next smaller one is noise.
  const [smaller, smallerLength] = UNITS[first + 1] ?? [];
  if (!smaller || whole >= 3) return text;
  const more = Math.floor((rest - whole * length) / smallerLength);
  return more ? `${text} ${amounts[smaller].format(more)}` : text;
}

/** `in 59 days`, `3 min ago`, `now` */
export function relative(millis, now) {
  const ahead = millis - now;
  if (Math.abs(ahead) < 1_000) return t('time.now');
  return t(ahead > 0 ? 'time.in' : 'time.ago', { duration: duration(ahead) });
}

/** `0a1b2c…` in groups of two octets, as openssl and browsers show it. */
export const octets = (hex) => hex.replace(/(..)(?=.)/g, '$1:');
/** The first octets, enough to tell two apart by eye. */
export const shortHex = (hex) => (hex.length > 12 ? `${hex.slice(0, 12)}…` : hex);
