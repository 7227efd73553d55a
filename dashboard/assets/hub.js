// One stream of changes for all tabs of a browser, which opens six connections to a server and no more: a stream for each
// tab would leave the seventh without an answer. It runs in a SharedWorker (worker.js), or in the page where there is none.
//
// A tab says `follow` with the id of what it has, then `taken` for each frame, and `leave` when it goes. It is told
// `health`, `changes`, and `reset` when it has to load everything anew.

/** Frames that are kept for a tab that starts a little later: 16 s. */
const KEPT = 64;
/** A tab that owes more answers sleeps or cannot keep up; it gets nothing more until it has caught up, and then starts anew. */
const BEHIND = 64;
/**
 * The server sends a frame each second; this long without one, the connection is dead even if nobody says so: a pod that is
 * killed by force takes its address along, and no packet ever tells.
 */
const SILENCE = 6_000;

export class Hub {
  #tabs = new Set();
  #source;
  #health = 'connecting';
  /** The newest frames, oldest first: `{ number, id, data }`. */
  #kept = [];
  #epoch;
  #last = 0;
  #heard = 0;

  constructor() {
    setInterval(() => {
      if (!this.#source || Date.now() - this.#heard <= SILENCE) return;
      this.#say('lost');
      this.#connect(`${this.#epoch}-${this.#last}`);
    }, 1_000);
  }

  /** Takes in a tab that hears by `post`. Returns what hears the tab. */
  join(post) {
    const tab = { post, after: undefined, owed: 0, behind: false };
    return ({ type, after }) => {
      if (type === 'follow') this.#follow(tab, after);
      if (type === 'taken') this.#taken(tab);
      if (type === 'leave') this.#tabs.delete(tab);
    };
  }

  #follow(tab, after) {
    const [epoch, number] = parse(after);
    Object.assign(tab, { after: number, behind: false });
    this.#tabs.add(tab);
    if (!this.#source || epoch !== this.#epoch) {
      // Of another process of the server: what the others have is of the past.
      for (const other of this.#tabs) if (other !== tab) this.#reset(other);
      this.#open(after);
      return;
    }
    tab.post({ type: 'health', value: this.#health });
    const oldest = this.#last - this.#kept.length;
    if (number < oldest) this.#reset(tab);
    else for (const frame of this.#kept) this.#send(tab, frame);
  }

  #open(after) {
    [this.#epoch, this.#last] = parse(after);
    this.#kept = [];
    this.#connect(after);
  }

  #connect(after) {
    this.#source?.close();
    this.#heard = Date.now();
    const source = new EventSource(`/api/v1/stream?after=${encodeURIComponent(after)}`);
    this.#source = source;
    source.addEventListener('open', () => this.#say('live'));
    source.addEventListener('changes', ({ lastEventId, data }) => {
      this.#heard = Date.now();
      this.#say('live');
      const frame = { number: parse(lastEventId)[1], id: lastEventId, data };
      this.#last = frame.number;
      this.#kept.push(frame);
      if (this.#kept.length > KEPT) this.#kept.shift();
      for (const tab of this.#tabs) this.#send(tab, frame);
    });
    source.addEventListener('reset', () => {
      this.#close();
      for (const tab of this.#tabs) this.#reset(tab);
    });
    source.addEventListener('error', () => {
      // While it is connecting the browser resumes by itself, with the id of the last frame.
      if (source.readyState === EventSource.CLOSED) this.#lost();
      else this.#say('lost');
    });
  }

  #send(tab, { number, id, data }) {
    if (tab.behind || number <= tab.after) return;
    if (tab.owed >= BEHIND) {
      tab.behind = true;
      return;
    }
    tab.after = number;
    tab.owed += 1;
    tab.post({ type: 'changes', id, data });
  }

  #taken(tab) {
    tab.owed -= 1;
    if (tab.behind && tab.owed === 0) this.#reset(tab);
  }

  /** The tab comes back with `follow` once it has loaded everything. */
  #reset(tab) {
    this.#tabs.delete(tab);
    tab.post({ type: 'reset' });
  }

  #say(health) {
    if (this.#health === health) return;
    this.#health = health;
    for (const { post } of this.#tabs) post({ type: 'health', value: health });
  }

  #lost() {
    this.#close();
    this.#say('lost');
    for (const tab of this.#tabs) this.#reset(tab);
  }

  #close() {
    this.#source?.close();
    this.#source = undefined;
  }
}

/** `<epoch>-<number>`, as the server counts its frames. */
function parse(id) {
  const [epoch, number] = id.split('-');
  return [epoch, Number(number)];
}
