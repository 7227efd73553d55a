//! What the tabs get: everything once, and then what changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::State;
use super::holder::HolderId;
use super::wire::{self, Changes, Snapshot};

/// What the tabs have not been told yet.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub(super) readings: BTreeSet<Arc<str>>,
    pub(super) devices: BTreeSet<Arc<str>>,
    pub(super) removed_devices: BTreeSet<Arc<str>>,
    pub(super) holders: BTreeSet<HolderId>,
    pub(super) events: BTreeSet<HolderId>,
    pub(super) sources: bool,
    pub(super) broker: bool,
    /// What the dashboard presents to the broker, or the broker to it.
    pub(super) presented: bool,
    pub(super) rate_told: i64,
}

/// Messages in a snapshot; broker events come on top.
const SNAPSHOT_LINES: usize = 300;
const RATE_EVERY_MS: i64 = 1_000;

impl State {
    /// Everything, for a tab that starts; it then follows the stream from `event` on.
    pub fn snapshot<'a>(&'a self, event: String, assets: &'a str, now: Timestamp) -> Snapshot<'a> {
        Snapshot {
            event,
            now: now.as_millisecond(),
            version: env!("CARGO_PKG_VERSION"),
            assets,
            namespace: &self.namespace,
            sources: &self.sources,
            holders: self.holders.values().collect(),
            devices: self.shown().map(|(name, device)| self.view(name, device, Some(now))).collect(),
            log: self.log.newest(SNAPSHOT_LINES),
            rate: self.rate_now(now),
            broker: &self.broker,
            own_certificate: self.own_certificate.as_ref(),
            handshake: self.handshake.seen(),
        }
    }

    /// Calls `send` with what changed since the last call, if anything did: at most one reading per device.
    pub fn take_changes<R>(&mut self, now: Timestamp, send: impl FnOnce(&Changes<'_>) -> R) -> Option<R> {
        let dirty = std::mem::take(&mut self.dirty);
        let rate_due = now.as_millisecond() - dirty.rate_told >= RATE_EVERY_MS;
        self.dirty.rate_told = if rate_due { now.as_millisecond() } else { dirty.rate_told };
        let (log, log_skipped) = self.log.take_pending();
        let quiet = dirty.is_empty() && log.is_empty() && log_skipped == 0 && !rate_due;
        if quiet {
            return None;
        }
        let changes = Changes {
            now: now.as_millisecond(),
            readings: dirty
                .readings
                .difference(&dirty.devices)
                .filter_map(|name| {
                    let wire::Latest(at, received, celsius) = self.devices.get(name)?.latest()?;
                    Some((&**name, at, received, celsius))
                })
                .collect(),
            devices: dirty
                .devices
                .iter()
                .filter_map(|name| self.devices.get_key_value(name))
                .filter(|(name, device)| self.is_shown(name, device))
                .map(|(name, device)| self.view(name, device, None))
                .collect(),
            holders: dirty.holders.iter().filter_map(|id| self.holders.get(id)).collect(),
            removed_holders: dirty
                .holders
                .iter()
                .filter(|id| !self.holders.contains_key(id))
                .cloned()
                .collect(),
            events_of: dirty.events.iter().collect(),
            removed_devices: dirty.removed_devices.iter().map(AsRef::as_ref).collect(),
            log: log.iter().map(AsRef::as_ref).collect(),
            log_skipped,
            sources: dirty.sources.then_some(&self.sources),
            rate: rate_due.then(|| self.rate_now(now)),
            broker: dirty.broker.then_some(&self.broker),
            own_certificate: self.own_certificate.as_ref().filter(|_| dirty.presented),
            handshake: self.handshake.seen().filter(|_| dirty.presented),
        };
        Some(send(&changes))
    }
}

// === impl Dirty ===

impl Dirty {
    fn is_empty(&self) -> bool {
        let Self {
            readings,
            devices,
            removed_devices,
            holders,
            events,
            sources,
            broker,
            presented,
            rate_told: _,
        } = self;
        readings.is_empty()
            && devices.is_empty()
            && removed_devices.is_empty()
            && holders.is_empty()
            && events.is_empty()
            && !(*sources || *broker || *presented)
    }
}

#[cfg(test)]
mod tests {
    use link::wire::Reading;
    use serde_json::{Value, json};

    use crate::state::fixtures::{at, changes, device, snapshot, state};

    #[test]
    fn nothing_new_is_no_frame_but_a_heartbeat_each_second() {
        let mut state = state();
        assert_eq!(changes(&mut state, at(250)), Value::Null);
        assert_eq!(changes(&mut state, at(1_000))["rate"]["total"], 0);
        assert_eq!(changes(&mut state, at(1_250)), Value::Null);
    }

    #[test]
    fn a_snapshot_and_the_frames_after_it_give_the_same_picture() {
        let mut state = state();
        state.holder_applied(device("a"));
        state.reading("a", &Reading::new(at(0), 0, 20.0), at(0));
        assert_eq!(
            snapshot(&state, at(1))["devices"][0]["latest"],
            json!([at(0).as_millisecond(), at(0).as_millisecond(), 20.0])
        );
        let frame = changes(&mut state, at(2));
        assert_eq!(frame["devices"][0]["name"], "a");
        assert_eq!(frame["holders"][0]["id"], "IotDevice/a");
    }
}
