// Line icons on a 16 × 16 grid, drawn for this page.

import { h } from './dom.js';

const PATHS = {
  overview: ['M2.5 2.5h4.5v4.5h-4.5z', 'M9 2.5h4.5v4.5h-4.5z', 'M2.5 9h4.5v4.5h-4.5z', 'M9 9h4.5v4.5h-4.5z'],
  devices: ['M8 2a1.5 1.5 0 0 1 1.5 1.5v5.2a3 3 0 1 1-3 0V3.5A1.5 1.5 0 0 1 8 2z', 'M8 6.5v4.5'],
  certificates: ['M3 2.5h10v7.5h-4', 'M3 2.5v7.5h2', 'M5.5 5.5h5', 'M7 8.7a1.8 1.8 0 1 1 0 3.6a1.8 1.8 0 1 1 0-3.6', 'M6 12v2.3l1-.6 1 .6V12'],
  log: ['M2.5 4h11', 'M2.5 8h11', 'M2.5 12h6.5'],
  audit: ['M7 2.8a4.2 4.2 0 1 1 0 8.4a4.2 4.2 0 1 1 0-8.4', 'M10.2 10.2l3.3 3.3', 'M5.2 7.1l1.3 1.3 2.3-2.5'],
  rotation: ['M13 8a5 5 0 0 1-8.9 3.1', 'M3 8a5 5 0 0 1 8.9-3.1', 'M12.2 2.3v2.9H9.3', 'M3.8 13.7v-2.9h2.9'],
  online: ['M8 2.2a5.8 5.8 0 1 1 0 11.6a5.8 5.8 0 1 1 0-11.6', 'M5.3 8.2l1.9 1.9 3.5-3.9'],
  check: ['M8 2.2a5.8 5.8 0 1 1 0 11.6a5.8 5.8 0 1 1 0-11.6', 'M5.3 8.2l1.9 1.9 3.5-3.9'],
  clock: ['M8 2.2a5.8 5.8 0 1 1 0 11.6a5.8 5.8 0 1 1 0-11.6', 'M8 5v3.2l2.1 1.4'],
  off: ['M8 2.2a5.8 5.8 0 1 1 0 11.6a5.8 5.8 0 1 1 0-11.6', 'M4 4l8 8'],
  cross: ['M8 2.2a5.8 5.8 0 1 1 0 11.6a5.8 5.8 0 1 1 0-11.6', 'M6 6l4 4', 'M10 6l-4 4'],
  wait: ['M8 2.2a5.8 5.8 0 0 1 5 2.9', 'M13.8 8a5.8 5.8 0 0 1-2.9 5', 'M8 13.8a5.8 5.8 0 0 1-5-2.9', 'M2.2 8a5.8 5.8 0 0 1 2.9-5'],
  refresh: ['M13 8a5 5 0 0 1-8.9 3.1', 'M3 8a5 5 0 0 1 8.9-3.1', 'M12.2 2.3v2.9H9.3', 'M3.8 13.7v-2.9h2.9'],
  warn: ['M8 2.5l6 10.8H2z', 'M8 6.5v3', 'M8 11.4v.1'],
  pause: ['M5.5 3.5v9', 'M10.5 3.5v9'],
  play: ['M5 3.5l7 4.5-7 4.5z'],
  search: ['M7 2.8a4.2 4.2 0 1 1 0 8.4a4.2 4.2 0 1 1 0-8.4', 'M10.2 10.2l3.3 3.3'],
  download: ['M8 2.5v7.5', 'M5 7.2l3 3 3-3', 'M3 13h10'],
  copy: ['M6 6h7v7.5H6z', 'M10 6V2.5H3v7.5h3'],
  sun: ['M8 5.2a2.8 2.8 0 1 1 0 5.6a2.8 2.8 0 1 1 0-5.6', 'M8 1.5v1.3M8 13.2v1.3M1.5 8h1.3M13.2 8h1.3M3.4 3.4l.9.9M11.7 11.7l.9.9M3.4 12.6l.9-.9M11.7 4.3l.9-.9'],
  moon: ['M13 9.5A5.5 5.5 0 0 1 6.5 3a5.5 5.5 0 1 0 6.5 6.5z'],
  auto: ['M8 2.2a5.8 5.8 0 1 1 0 11.6a5.8 5.8 0 1 1 0-11.6', 'M8 2.2v11.6', 'M10 3v10M12 4.3v7.4'],
  arrow: ['M9.5 3.5L5 8l4.5 4.5'],
  chevron: ['M6.5 3.5L11 8l-4.5 4.5'],
  root: ['M8 2l5 1.8v4c0 3-2 5.2-5 6.2-3-1-5-3.2-5-6.2v-4z'],
  broker: ['M2.5 3.5h11v3.5h-11z', 'M2.5 9h11v3.5h-11z', 'M5 5.25v.01M5 10.75v.01'],
  page: ['M2.5 3h11v10h-11z', 'M2.5 6h11', 'M4.5 4.5v.01'],
};

/** What each state looks like; the word stands beside it. */
export const STATE_ICONS = {
  online: 'online',
  stale: 'clock',
  offline: 'off',
  waiting: 'wait',
  Valid: 'check',
  Active: 'check',
  Prepared: 'clock',
  Retiring: 'clock',
  Renewing: 'refresh',
  Pending: 'wait',
  RenewalOverdue: 'warn',
  Suspended: 'pause',
  Expired: 'cross',
  Revoked: 'off',
  Failed: 'cross',
};

export const KIND_ICONS = { RootCA: 'root', MqttBroker: 'broker', Dashboard: 'page', IotDevice: 'devices' };

/** Decoration: a reader hears the word beside it. */
export function icon(name) {
  const paths = (PATHS[name] ?? []).map((d) => h('path', { d }));
  return h('svg', { class: 'icon', viewBox: '0 0 16 16', 'aria-hidden': 'true', focusable: 'false' }, ...paths);
}
