// Small line of the last five minutes; decoration, the numbers beside it are the truth.

import { h, setAttribute } from './dom.js';

const SLOT = 5_000;
const WIDTH = 118;
const HEIGHT = 36;
/** Noise of a tenth of a degree must not look like weather. */
const MIN_RANGE = 1;

/** An element and how to draw a device's spark into it. */
export function sparkline() {
  const area = h('path', { class: 'spark-area' });
  const line = h('path', { class: 'spark-line' });
  const element = h(
    'svg',
    { class: 'spark', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    h('path', { class: 'spark-base', d: `M0 ${HEIGHT - 0.5}H${WIDTH}` }),
    area,
    line,
  );
  return {
    element,
    draw({ spark, staleAfter }, now) {
      const runs = connected(spark, staleAfter, now);
      const d = runs.map(path).join('');
      setAttribute(line, 'd', d || undefined);
      setAttribute(area, 'd', runs.map((run) => (run.length > 1 ? `${path(run)}L${run.at(-1)[0]} ${HEIGHT}L${run[0][0]} ${HEIGHT}Z` : '')).join('') || undefined);
    },
  };
}

/** Points in pixels, cut where the device was silent for longer than its stale limit. */
function connected({ slot, values }, staleAfter, now) {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return [];
  const min = Math.min(...known);
  const max = Math.max(...known);
  const range = Math.max(max - min, MIN_RANGE);
  const floor = (min + max) / 2 - range / 2;
  const shift = Math.floor(now / SLOT) - slot;
  const step = WIDTH / (values.length - 1);
  const reach = Math.max(1, Math.ceil(staleAfter / SLOT));
  const runs = [];
  let last = -Infinity;
  values.forEach((value, index) => {
    if (value === null || index - shift < 0) return;
    const point = [((index - shift) * step).toFixed(1), (HEIGHT - 3 - ((value - floor) / range) * (HEIGHT - 6)).toFixed(1)];
    if (index - last > reach) runs.push([]);
    runs.at(-1).push(point);
    last = index;
  });
  return runs;
}

/** A single point becomes a dot: a line of no length with round ends. */
function path(run) {
  const [first, ...rest] = run;
  return `M${first.join(' ')}${(rest.length ? rest : [first]).map((point) => `L${point.join(' ')}`).join('')}`;
}
