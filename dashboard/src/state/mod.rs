//! Everything the page shows, in memory: pure, bounded, and told the time by its callers.
//!
//! - [`device`]: one device's messages: latest value, staleness, losses
//! - [`series`]: its history, thinner the further back
//! - [`holder`]: what the cluster says of everything that holds a certificate
//! - [`log`]: the newest MQTT messages and broker events
//! - [`rate`]: messages a second
//! - [`source`]: whether cluster and broker still answer
//! - [`replay`]: the frames that tabs get, kept for those who come back
//! - [`wire`]: the JSON of all this

pub mod device;
pub mod holder;
pub mod log;
pub mod rate;
pub mod replay;
pub mod series;
pub mod source;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use link::wire::{CertificateAcknowledgement, ConnectionStatus, Reading};

use device::{Changed, Device, Presence};
use holder::{Holder, HolderId, Kind};
use log::{Log, Message};
use rate::Rate;
use series::Window;
use source::{Source, Sources};
use wire::{BrokerFacts, Changes, HistoryPoint, OwnCertificate, Snapshot};

/// All of it.
#[derive(Debug)]
pub struct State {
    namespace: String,
    devices: BTreeMap<Arc<str>, Device>,
    holders: BTreeMap<HolderId, Holder>,
    log: Log,
    rate: Rate,
    sources: Sources,
    broker: BrokerFacts,
    own_certificate: Option<OwnCertificate>,
    refused_devices: u64,
    dirty: Dirty,
}

/// What the tabs have not been told yet.
#[derive(Debug, Default)]
struct Dirty {
    readings: BTreeSet<Arc<str>>,
    devices: BTreeSet<Arc<str>>,
    removed_devices: BTreeSet<Arc<str>>,
    holders: BTreeSet<HolderId>,
    sources: bool,
    broker: bool,
    own_certificate: bool,
    rate_told: i64,
}

/// One of the two sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceName {
    /// The Kubernetes API.
    Api,
    /// The MQTT broker.
    Broker,
}

/// More devices than this are not kept: the design size, 130 MB of history.
const MAX_DEVICES: usize = 10_000;
/// Messages in a snapshot; broker events come on top.
const SNAPSHOT_LINES: usize = 300;
/// A device that nobody registered is forgotten when it was silent for as long as the history lasts.
const FORGET_AFTER_MS: i64 = 24 * 60 * 60_000;
const RATE_EVERY_MS: i64 = 1_000;

// === impl State ===

impl State {
    /// An empty state of `namespace`.
    pub fn new(namespace: impl Into<String>, now: Timestamp) -> Self {
        Self {
            namespace: namespace.into(),
            devices: BTreeMap::new(),
            holders: BTreeMap::new(),
            log: Log::default(),
            rate: Rate::default(),
            sources: Sources::new(now),
            broker: BrokerFacts::default(),
            own_certificate: None,
            refused_devices: 0,
            dirty: Dirty::default(),
        }
    }

    // --- what the broker says ---

    /// A message of any topic, for the log and the counts.
    pub fn message(&mut self, message: Message<'_>, now: Timestamp) {
        self.rate.count(now);
        self.log.push(message, now);
    }

    /// A reading of device `name`.
    pub fn reading(&mut self, name: &str, reading: &Reading, now: Timestamp) {
        self.heard(name, |device| device.reading(reading, now));
    }

    /// What device `name`, or the broker in its name, says of its session.
    pub fn connection(&mut self, name: &str, status: ConnectionStatus) {
        self.heard(name, |device| device.connection(status));
    }

    /// The certificate that device `name` says it uses.
    pub fn acknowledged(&mut self, name: &str, acknowledgement: CertificateAcknowledgement) {
        self.heard(name, |device| device.acknowledged(acknowledgement));
    }

    /// Device `name` published something that is not of the wire format.
    pub fn malformed(&mut self, name: &str) {
        self.heard(name, Device::malformed);
    }

    /// Nothing is heard of any device for a while.
    pub fn deaf(&mut self) {
        self.devices.values_mut().for_each(Device::deaf);
    }

    /// What the broker says of itself.
    pub fn broker_facts(&mut self, change: impl FnOnce(&mut BrokerFacts)) {
        let before = self.broker.clone();
        change(&mut self.broker);
        self.dirty.broker |= self.broker != before;
    }

    /// The certificate that the dashboard itself presents.
    pub fn own_certificate(&mut self, certificate: OwnCertificate) {
        self.dirty.own_certificate |= self.own_certificate.as_ref() != Some(&certificate);
        self.own_certificate = Some(certificate);
    }

    fn heard(&mut self, name: &str, take: impl FnOnce(&mut Device) -> Changed) {
        let key = match self.devices.get_key_value(name) {
            Some((key, _)) => Arc::clone(key),
            None if self.devices.len() >= MAX_DEVICES => {
                self.refused_devices += 1;
                return;
            }
            None => name.into(),
        };
        let fresh = !self.devices.contains_key(&key);
        match take(self.devices.entry(Arc::clone(&key)).or_default()) {
            _ if fresh => self.dirty.devices.insert(key),
            Changed::Nothing => false,
            Changed::Reading => self.dirty.readings.insert(key),
            Changed::Device => self.dirty.devices.insert(key),
        };
    }

    // --- what the cluster says ---

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
    }

    // --- whether they answer ---

    /// A source answers.
    pub fn source_up(&mut self, name: SourceName, now: Timestamp) {
        let news = self.source_mut(name).up(now);
        self.dirty.sources |= news;
    }

    /// A source does not answer, because of `problem`.
    pub fn source_down(&mut self, name: SourceName, problem: impl Into<String>, now: Timestamp) {
        let news = self.source_mut(name).down(problem.into(), now);
        self.dirty.sources |= news;
    }

    /// Both sources.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    fn source_mut(&mut self, name: SourceName) -> &mut Source {
        match name {
            SourceName::Api => &mut self.sources.api,
            SourceName::Broker => &mut self.sources.broker,
        }
    }

    // --- what the tabs get ---

    /// Everything, for a tab that starts; it then follows the stream from `event` on.
    pub fn snapshot(&self, event: String, now: Timestamp) -> Snapshot<'_> {
        Snapshot {
            event,
            now: now.as_millisecond(),
            version: env!("CARGO_PKG_VERSION"),
            namespace: &self.namespace,
            sources: &self.sources,
            holders: self.holders.values().collect(),
            devices: self.shown().map(|(name, device)| self.view(name, device, Some(now))).collect(),
            log: self.log.newest(SNAPSHOT_LINES),
            rate: self.rate_now(now),
            rate_history: self.rate.history(now),
            broker: &self.broker,
            own_certificate: self.own_certificate.as_ref(),
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
            removed_devices: dirty.removed_devices.iter().map(AsRef::as_ref).collect(),
            log: log.iter().map(AsRef::as_ref).collect(),
            log_skipped,
            sources: dirty.sources.then_some(&self.sources),
            rate: rate_due.then(|| self.rate_now(now)),
            broker: dirty.broker.then_some(&self.broker),
            own_certificate: self.own_certificate.as_ref().filter(|_| dirty.own_certificate),
        };
        Some(send(&changes))
    }

    /// The chart of one device; `None` for one that is not shown.
    pub fn history(&self, name: &str, window: Window, now: Timestamp) -> Option<Vec<HistoryPoint>> {
        let (name, device) = self.devices.get_key_value(name)?;
        self.is_shown(name, device).then(|| device.series.points(window, now))
    }

    /// Everything that holds a certificate.
    pub fn holders(&self) -> impl Iterator<Item = &Holder> {
        self.holders.values()
    }

    /// Serial number that device `name` says it uses.
    pub fn serial_in_use(&self, name: &str) -> Option<&str> {
        self.devices.get(name)?.serial_in_use()
    }

    /// How many devices are in each presence.
    pub fn presences(&self, now: Timestamp) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::from([("online", 0), ("stale", 0), ("offline", 0), ("waiting", 0)]);
        for (_, device) in self.shown() {
            let presence = match device.presence(now) {
                Presence::Online => "online",
                Presence::Stale => "stale",
                Presence::Offline => "offline",
                Presence::Waiting => "waiting",
            };
            *counts.entry(presence).or_default() += 1;
        }
        counts
    }

    /// Messages since the start.
    pub fn messages(&self) -> u64 {
        self.rate.total()
    }

    /// Messages of devices beyond the bound, since the start.
    pub fn refused_devices(&self) -> u64 {
        self.refused_devices
    }

    fn rate_now(&self, now: Timestamp) -> wire::Rate {
        wire::Rate { per_second: self.rate.per_second(now), total: self.rate.total() }
    }

    fn is_registered(&self, name: &str) -> bool {
        self.holders.contains_key(&HolderId::new(Kind::IotDevice, name))
    }

    /// Retained messages of deleted devices stay in the broker for ever; they alone show nothing.
    fn is_shown(&self, name: &str, device: &Device) -> bool {
        device.has_reading() || self.is_registered(name)
    }

    fn shown(&self) -> impl Iterator<Item = (&Arc<str>, &Device)> {
        self.devices.iter().filter(|(name, device)| self.is_shown(name, device))
    }

    fn view<'a>(&self, name: &'a str, device: &'a Device, spark: Option<Timestamp>) -> wire::Device<'a> {
        device.view(name, self.is_registered(name), spark)
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
            sources,
            broker,
            own_certificate,
            rate_told: _,
        } = self;
        readings.is_empty()
            && devices.is_empty()
            && removed_devices.is_empty()
            && holders.is_empty()
            && !(*sources || *broker || *own_certificate)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
    }

    fn state() -> State {
        let mut state = State::new("default", at(0));
        state.take_changes(at(0), |_| ());
        state
    }

    fn device(name: &str) -> Holder {
        Holder::new(Kind::IotDevice, name)
    }

    fn changes(state: &mut State, now: Timestamp) -> Value {
        state.take_changes(now, |changes| serde_json::to_value(changes).unwrap()).unwrap_or(Value::Null)
    }

    fn snapshot(state: &State, now: Timestamp) -> Value {
        serde_json::to_value(state.snapshot("e".into(), now)).unwrap()
    }

    #[test]
    fn many_readings_between_two_frames_are_sent_as_the_newest_one() {
        let mut state = state();
        state.holder_applied(device("a"));
        state.reading("a", &Reading::new(at(0), 0, 20.0), at(0));
        state.reading("a", &Reading::new(at(50), 1, 20.5), at(50));
        changes(&mut state, at(100));
        for number in 2..10 {
            let now = at(100 + i64::try_from(number).unwrap() * 10);
            state.reading(
                "a",
                &Reading::new(now, number, 20.0 + f64::from(u32::try_from(number).unwrap())),
                now,
            );
        }
        let frame = changes(&mut state, at(250));
        assert_eq!(
            frame["readings"],
            json!([["a", at(190).as_millisecond(), at(190).as_millisecond(), 29.0]])
        );
        assert_eq!(frame.get("devices"), None);
    }

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
    fn a_device_nobody_registered_is_shown_when_it_talks_and_not_for_what_the_broker_kept() {
        let mut state = state();
        state.connection("gone", ConnectionStatus::offline(at(0)));
        assert_eq!(snapshot(&state, at(1))["devices"], json!([]));
        state.reading("gone", &Reading::new(at(1), 0, 20.0), at(1));
        assert_eq!(snapshot(&state, at(2))["devices"][0]["registered"], false);
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
    fn devices_beyond_the_bound_are_counted_and_not_kept() {
        let mut state = state();
        for number in 0..MAX_DEVICES + 5 {
            state.reading(&format!("d{number}"), &Reading::new(at(0), 0, 20.0), at(0));
        }
        assert_eq!(state.devices.len(), MAX_DEVICES);
        assert_eq!(state.refused_devices(), 5);
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

    #[test]
    fn what_a_device_is_named_cannot_leave_its_json_string() {
        let mut state = state();
        state.reading("<script>\"", &Reading::new(at(0), 0, 20.0), at(0));
        assert_eq!(snapshot(&state, at(1))["devices"][0]["name"], "<script>\"");
    }
}
