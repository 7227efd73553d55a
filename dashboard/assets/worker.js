// The hub, shared by all tabs of this browser.

import { Hub } from './hub.js';

const hub = new Hub();

addEventListener('connect', ({ ports: [port] }) => {
  const hear = hub.join((message) => port.postMessage(message));
  port.addEventListener('message', ({ data }) => hear(data));
  port.start();
});
