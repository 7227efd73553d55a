// This tab's end of the stream: through the worker that all tabs share, or alone where a browser has none.

/** Calls `hear` with what the hub says; returns how to speak to it. See hub.js. */
export async function join(hear) {
  let speak = shared(hear, async () => {
    speak = await alone(hear);
    hear({ type: 'reset' });
  });
  speak ??= await alone(hear);
  addEventListener('pagehide', () => speak({ type: 'leave' }));
  // Out of the browser's cache of pages: as it was, and by now long behind.
  addEventListener('pageshow', ({ persisted }) => persisted && hear({ type: 'reset' }));
  return (message) => speak(message);
}

function shared(hear, failed) {
  if (!('SharedWorker' in globalThis)) return undefined;
  const worker = new SharedWorker(trusted(new URL('worker.js', import.meta.url).href), { type: 'module', name: 'ca-iot' });
  worker.addEventListener('error', failed, { once: true });
  worker.port.addEventListener('message', ({ data }) => hear(data));
  worker.port.start();
  return (message) => worker.port.postMessage(message);
}

async function alone(hear) {
  const { Hub } = await import('./hub.js');
  return new Hub().join(hear);
}

/** The one script that the page's policy lets it start. */
function trusted(address) {
  if (!globalThis.trustedTypes) return address;
  const policy = trustedTypes.createPolicy('ca-iot', {
    createScriptURL(wanted) {
      if (wanted !== address) throw new TypeError('another script');
      return wanted;
    },
  });
  return policy.createScriptURL(address);
}
