// The temperature chart of one device, drawn by uPlot, which is loaded only here.

import uPlot from './vendor/uPlot.js';
import { h, setAttribute, setText } from './dom.js';
import { celsius, clock, integer, moment } from './format.js';
import { language, t } from './i18n.js';
import { summary } from './model.js';

const HEIGHT = 280;
/** Distance of two points in each window; a longer one is a gap once three intervals are over. */
const STEP = { '5m': 0, '1h': 15_000, '24h': 300_000 };
const LENGTH = { '5m': 5 * 60_000, '1h': 60 * 60_000, '24h': 24 * 60 * 60_000 };

/** Whole minutes and hours, in seconds. */
const TICKS = [60, 300, 600, 1_800, 3_600, 7_200, 14_400, 21_600];

const hours = new Intl.DateTimeFormat(language, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });

/** A chart in `parent`; `show(window, points, device, now)` gives it what to draw. */
export function temperatureChart(parent) {
  if (!document.querySelector('link[data-uplot]')) {
    document.head.append(h('link', { rel: 'stylesheet', href: new URL('vendor/uPlot.css', import.meta.url).pathname, 'data-uplot': true }));
  }
  let plot;
  let theme;
  let band;
  const readout = h('p', { class: 'chart-readout', 'aria-hidden': 'true' });
  const box = h('div', { class: 'chart-box', role: 'img', 'aria-describedby': 'chart-summary' });
  const numbers = h('p', { class: 'fine', id: 'chart-summary' });
  parent.replaceChildren(readout, box, numbers);
  const observer = new ResizeObserver(() => plot?.setSize({ width: box.clientWidth, height: HEIGHT }));
  observer.observe(box);

  function show(window, points, device, now) {
    const reach = Math.max(device.staleAfter, STEP[window] * 2);
    const data = columns(points, reach);
    const colours = colourSet();
    const wanted = JSON.stringify(colours);
    const banded = window !== '5m';
    if (!plot || wanted !== theme || banded !== band) {
      plot?.destroy();
      theme = wanted;
      band = banded;
      plot = new uPlot(options(colours, banded, readout, box.clientWidth), data, box);
    } else {
      plot.setData(data, false);
    }
    plot.setScale('x', { min: (now - LENGTH[window]) / 1_000, max: now / 1_000 });
    setAttribute(box, 'aria-label', t('chart.label', { window: t(`window.${window}`) }));
    setText(numbers, inNumbers(summary(points, reach, now - LENGTH[window]), device.latest));
  }

  return {
    show,
    close() {
      observer.disconnect();
      plot?.destroy();
    },
  };
}

/** What the curve shows, for who does not see it. */
function inNumbers(seen, latest) {
  if (!seen) return t('chart.nothing');
  return t('chart.summary', { min: celsius(seen.min), max: celsius(seen.max), latest: latest ? celsius(latest[2]) : '–', gaps: integer(seen.gaps) });
}

/** uPlot's columns: seconds, mean, minimum, maximum; `null` where the device was silent. */
function columns(points, reach) {
  const data = [[], [], [], []];
  let last;
  for (const [at, mean, min, max] of points) {
    if (last !== undefined && at - last > reach) {
      data[0].push((last + 1) / 1_000);
      for (const column of data.slice(1)) column.push(null);
    }
    [at / 1_000, mean, min, max].forEach((value, index) => data[index].push(value));
    last = at;
  }
  return data;
}

function colourSet() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => {
    // Canvas cannot read `light-dark()`; a probe element resolves it.
    const probe = h('span', { class: `probe-${name}` });
    document.body.append(probe);
    const colour = getComputedStyle(probe).color;
    probe.remove();
    return colour;
  };
  return { line: of('accent'), band: of('band'), grid: of('grid'), text: of('muted'), font: `12px ${style.fontFamily}` };
}

function options(colours, banded, readout, width) {
  const axis = { stroke: colours.text, font: colours.font, grid: { stroke: colours.grid, width: 1 }, ticks: { show: false }, gap: 8 };
  const edge = { stroke: 'transparent', width: 0, points: { show: false } };
  return {
    width,
    height: HEIGHT,
    padding: [12, 12, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { size: 7 }, drag: { x: false, y: false } },
    scales: { x: { time: true, auto: false }, y: { range: around } },
    axes: [
      { ...axis, values: (_, ticks) => ticks.map((tick) => hours.format(tick * 1_000)), space: 80, incrs: TICKS },
      { ...axis, values: (_, ticks) => ticks.map((tick) => `${celsius(tick)}°`), size: 56 },
    ],
    series: [
      {},
      { stroke: colours.line, width: 1.75, points: { show: false }, spanGaps: false },
      { ...edge, show: banded },
      { ...edge, show: banded },
    ],
    bands: banded ? [{ series: [3, 2], fill: colours.band }] : [],
    hooks: {
      setCursor: [
        (plot) => {
          const index = plot.cursor.idx;
          const value = index === null || index === undefined ? null : plot.data[1][index];
          if (value === null || value === undefined) {
            readout.textContent = '';
            return;
          }
          const at = plot.data[0][index] * 1_000;
          const [min, max] = [plot.data[2][index], plot.data[3][index]];
          readout.textContent = banded
            ? t('chart.bucket', { moment: moment(at), mean: celsius(value), min: celsius(min), max: celsius(max) })
            : t('chart.point', { clock: clock(at), celsius: celsius(value) });
        },
      ],
    },
  };
}

/** At least two degrees high, so that noise does not look like weather. */
function around(_, min, max) {
  if (min === null || max === null) return [0, 30];
  const room = Math.max(2 - (max - min), (max - min) * 0.2) / 2;
  return [min - room, max + room];
}
