//! What the cluster says, into the state.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::device::Device;
use super::events::Event;
use super::holder::{Holder, HolderId, Kind};
use super::{FORGET_AFTER_MS, MAX_DEVICES, SourceName, State};

impl State {
    /// A resource is new or changed.
    pub fn holder_applied(&mut self, holder: Holder) {
        if self.holders.get(&holder.id) == Some(&holder) {
            return;
        }
        if holder.kind == Kind::IotDevice {
            self.registered(&holder);
        }
        self.dirty.holders.insert(holder.id.clone());
        self.holders.insert(holder.id.clone(), holder);
    }

    /// A resource is no more. A device that still talks comes back with its next message, as one nobody registered.
    pub fn holder_deleted(&mut self, id: &HolderId) {
        if self.holders.remove(id).is_none() {
            return;
        }
        self.dirty.holders.insert(id.clone());
        self.events.forget(id);
        if id.kind == Kind::IotDevice {
            self.forget(&Arc::from(id.name.as_str()));
        }
    }

    /// All resources of a kind, as a list of the API server has them.
    pub fn holders_listed(&mut self, kind: Kind, holders: Vec<Holder>) {
        let listed: BTreeSet<HolderId> = holders.iter().map(|holder| holder.id.clone()).collect();
        let gone: Vec<HolderId> =
            self.holders.keys().filter(|id| id.kind == kind && !listed.contains(id)).cloned().collect();
        for id in gone {
            self.holder_deleted(&id);
        }
        for holder in holders {
            self.holder_applied(holder);
        }
        self.watches.listed(kind);
    }

    /// The watch of `kind` works, or has failed because of `problem` and starts again.
    pub fn followed(&mut self, kind: Kind, outcome: Result<(), String>, now: Timestamp) {
        match outcome {
            Ok(()) => self.watches.works(kind),
            Err(problem) => self.watches.failed(kind, problem, now.as_millisecond()),
        }
    }

    /// The API server was asked whether the kinds can be read. That alone does not make what is shown complete and current.
    pub fn probed(&mut self, outcome: Result<(), String>, now: Timestamp) {
        if outcome.is_err() {
            self.watches.excused();
        }
        let problem = outcome.err().or_else(|| self.watches.problem(now.as_millisecond()));
        match problem {
            Some(problem) => self.source_down(SourceName::Api, problem, now),
            None if self.watches.complete() => self.source_up(SourceName::Api, now),
            None => {}
        }
    }

    fn registered(&mut self, holder: &Holder) {
        let name: Arc<str> = holder.name.as_str().into();
        let known = self.devices.contains_key(&name);
        if !known && self.devices.len() >= MAX_DEVICES {
            self.refused_devices += 1;
            return;
        }
        let interval = holder.device.as_ref().and_then(|device| device.interval);
        self.devices.entry(Arc::clone(&name)).or_default().asked_interval(interval);
        self.dirty.removed_devices.remove(&name);
        self.dirty.devices.insert(name);
    }

    fn forget(&mut self, name: &Arc<str>) {
        if self.devices.remove(name).is_some() {
            self.dirty.readings.remove(name);
            self.dirty.devices.remove(name);
            self.dirty.removed_devices.insert(Arc::clone(name));
        }
    }

    /// Something happened to `id`, or happened again.
    pub fn happened(&mut self, id: HolderId, event: Event) {
        if self.events.take(id.clone(), event) {
            self.dirty.events.insert(id);
        }
    }

    /// Events can be read, or cannot because of `problem`.
    pub fn events_readable(&mut self, problem: Option<String>) {
        self.events.problem = problem;
    }

    /// Forgets devices that nobody registered and nobody heard for a day.
    pub fn sweep(&mut self, now: Timestamp) {
        let old = |device: &Device| {
            device
                .last_received()
                .is_none_or(|at| now.as_millisecond() - at.as_millisecond() > FORGET_AFTER_MS)
        };
        let gone: Vec<Arc<str>> = self
            .devices
            .iter()
            .filter(|(name, device)| old(device) && !self.is_registered(name))
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in gone {
            self.forget(&name);
        }
        self.events.retain(|id| self.holders.contains_key(id));
    }
}

#[cfg(test)]
mod tests {
    use link::wire::Reading;
    use serde_json::json;

    use super::*;
    use crate::state::fixtures::{at, changes, device, snapshot, state};
    use crate::state::source::Health;

    #[test]
    fn a_deleted_device_leaves_the_page() {
        let mut state = state();
        state.holder_applied(device("a"));
        state.reading("a", &Reading::new(at(0), 0, 20.0), at(0));
        changes(&mut state, at(1));
        state.holder_deleted(&HolderId::new(Kind::IotDevice, "a"));
        let frame = changes(&mut state, at(2));
        assert_eq!(frame["removedHolders"], json!(["IotDevice/a"]));
        assert_eq!(frame["removedDevices"], json!(["a"]));
        assert_eq!(snapshot(&state, at(3))["devices"], json!([]));
    }

    #[test]
    fn a_list_after_an_outage_removes_what_was_deleted_meanwhile() {
        let mut state = state();
        state.holder_applied(device("a"));
        state.holder_applied(device("b"));
        state.holder_applied(Holder::new(Kind::RootCA, "root-ca"));
        changes(&mut state, at(1));
        state.holders_listed(Kind::IotDevice, vec![device("b"), device("c")]);
        let frame = changes(&mut state, at(2));
        assert_eq!(frame["removedHolders"], json!(["IotDevice/a"]));
        assert_eq!(frame["holders"].as_array().unwrap().len(), 1, "b did not change: {frame}");
        assert_eq!(state.holders().count(), 3);
    }

    #[test]
    fn the_cluster_answers_when_all_of_it_was_read_and_is_followed() {
        let mut state = state();
        let health = |state: &mut State, millis| {
            state.probed(Ok(()), at(millis));
            (state.sources().api.health, state.sources().api.ever_up)
        };
        assert_eq!(health(&mut state, 1), (Health::Connecting, false));
        for kind in Kind::ALL {
            state.holders_listed(kind, Vec::new());
        }
        assert_eq!(health(&mut state, 2), (Health::Up, true));
        for millis in [3, 4] {
            state.followed(Kind::IotDevice, Err("unknown word".into()), at(millis));
        }
        assert_eq!(health(&mut state, 5), (Health::Down, true));
        state.followed(Kind::IotDevice, Ok(()), at(6));
        assert_eq!(health(&mut state, 7), (Health::Up, true));
    }

    #[test]
    fn a_silent_stranger_is_forgotten_after_a_day_and_a_silent_device_is_not() {
        let mut state = state();
        state.holder_applied(device("mine"));
        state.reading("mine", &Reading::new(at(0), 0, 20.0), at(0));
        state.reading("stranger", &Reading::new(at(0), 0, 20.0), at(0));
        state.sweep(at(FORGET_AFTER_MS + 1));
        assert_eq!(state.devices.keys().map(|name| &**name).collect::<Vec<_>>(), ["mine"]);
    }
}
