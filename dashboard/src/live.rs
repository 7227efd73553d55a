//! The state as everybody shares it: one writer at a time for moments, one serialisation for all tabs.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use jiff::Timestamp;
use tokio::sync::broadcast;

use crate::state::State;
use crate::state::replay::{Frame, Replay, Resume};

/// The state, the frames made of it, and the tabs that listen.
#[derive(Debug)]
pub struct Live {
    inner: Mutex<Inner>,
    tabs: broadcast::Sender<Frame>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    replay: Replay,
}

/// What a tab gets: frames that it missed, then the live ones.
#[derive(Debug)]
pub struct Subscription {
    /// See [`Resume`].
    pub missed: Resume,
    /// Live frames; a tab that falls 64 of them behind is told so by `Lagged`, and delays nobody.
    pub live: broadcast::Receiver<Frame>,
}

/// Readings are coalesced to one per device in this time.
pub const FRAME_EVERY: Duration = Duration::from_millis(250);
const SWEEP_EVERY: Duration = Duration::from_mins(1);
/// Frames that a slow tab may be behind: 16 s, and shared memory, so it costs the same for one tab as for all.
const BACKLOG: usize = 64;

impl Live {
    /// Shares a state; `now` also names this process's frames.
    pub fn new(state: State, now: Timestamp) -> Self {
        let replay = Replay::new(now.as_millisecond());
        Self { inner: Mutex::new(Inner { state, replay }), tabs: broadcast::Sender::new(BACKLOG) }
    }

    /// Changes or reads the state. `f` must not block: messages wait meanwhile.
    pub fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.lock().state)
    }

    /// Sends what changed to all tabs, if anything did.
    pub fn publish(&self, now: Timestamp) {
        let mut inner = self.lock();
        let Inner { state, replay } = &mut *inner;
        let json = state.take_changes(now, |changes| serde_json::to_string(changes));
        match json {
            Some(Ok(json)) => {
                let frame = replay.push("changes", &json);
                // No receiver is no error: nobody looks at the moment.
                let _ = self.tabs.send(frame);
            }
            Some(Err(error)) => tracing::error!(%error, "a frame could not be serialised"),
            None => {}
        }
    }

    /// Publishes four times a second, and forgets what is too old, until the end of the process.
    pub async fn run(&self) {
        let mut frame = tokio::time::interval(FRAME_EVERY);
        frame.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                _ = frame.tick() => self.publish(Timestamp::now()),
                _ = sweep.tick() => self.with(|state| state.sweep(Timestamp::now())),
            }
        }
    }

    /// Everything as JSON, and the id to follow from. `assets` is the hash of the page's files.
    ///
    /// # Errors
    /// When a value cannot be JSON, which no value here is.
    pub fn snapshot(&self, assets: &str, now: Timestamp) -> serde_json::Result<Bytes> {
        let inner = self.lock();
        let snapshot = inner.state.snapshot(inner.replay.last_id(), assets, now);
        serde_json::to_vec(&snapshot).map(Bytes::from)
    }

    /// Joins the tabs. Without an id, from now on.
    pub fn subscribe(&self, after: Option<&str>) -> Subscription {
        let inner = self.lock();
        let missed = after.map_or(Resume::From(Vec::new()), |id| inner.replay.after(id));
        Subscription { missed, live: self.tabs.subscribe() }
    }

    /// How many tabs listen.
    pub fn tabs(&self) -> usize {
        self.tabs.receiver_count()
    }

    /// A panic while the lock was held left a state that is at worst one message behind.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use link::wire::Reading;
    use tokio::sync::broadcast::error::TryRecvError;

    use super::*;

    fn live() -> Live {
        Live::new(State::new("default", Timestamp::UNIX_EPOCH), Timestamp::UNIX_EPOCH)
    }

    fn reading(live: &Live, number: u64) -> Timestamp {
        let now = Timestamp::from_millisecond(i64::try_from(number).unwrap() * 300).unwrap();
        live.with(|state| state.reading("a", &Reading::new(now, number, 20.0), now));
        now
    }

    #[test]
    fn a_tab_that_follows_its_snapshot_misses_no_frame() {
        let live = live();
        live.publish(reading(&live, 1));
        let snapshot: serde_json::Value =
            serde_json::from_slice(&live.snapshot("", Timestamp::UNIX_EPOCH).unwrap()).unwrap();
        live.publish(reading(&live, 2));
        let subscription = live.subscribe(snapshot["event"].as_str());
        let Resume::From(missed) = subscription.missed else { panic!("reset") };
        assert_eq!(missed.iter().map(|frame| frame.number).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_stalled_tab_neither_blocks_nor_grows_memory() {
        let live = live();
        let mut stalled = live.subscribe(None);
        for number in 0..1_000 {
            live.publish(reading(&live, number));
        }
        assert!(matches!(stalled.live.try_recv(), Err(TryRecvError::Lagged(_))));
        let mut fresh = live.subscribe(None);
        live.publish(reading(&live, 1_000));
        assert_eq!(fresh.live.try_recv().unwrap().number, 1_001);
    }

    #[test]
    fn all_tabs_share_the_bytes_of_a_frame() {
        let live = live();
        let (mut one, mut other) = (live.subscribe(None), live.subscribe(None));
        live.publish(reading(&live, 1));
        let (one, other) = (one.live.try_recv().unwrap(), other.live.try_recv().unwrap());
        assert!(std::ptr::eq(one.bytes.as_ptr(), other.bytes.as_ptr()));
    }
}
