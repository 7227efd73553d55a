//! Everything the page shows, in memory: pure, bounded, and told the time by its callers.
//!
//! - [`from_broker`], [`from_cluster`]: what they say, into the state
//! - [`to_tabs`]: what the tabs get of it
//! - [`device`]: one device's messages: latest value, staleness, losses
//! - [`series`]: its history, thinner the further back
//! - [`holder`]: what the cluster says of everything that holds a certificate
//! - [`events`]: what happened to it, newest last
//! - [`served`]: when to look which certificate the broker presents, and what was seen
//! - [`log`]: the newest MQTT messages and broker events
//! - [`rate`]: messages a second
//! - [`watches`]: whether what is shown of the cluster is all there is
//! - [`source`]: whether cluster and broker still answer
//! - [`replay`]: the frames that tabs get, kept for those who come back
//! - [`wire`]: the JSON of all this

pub mod device;
pub mod events;
mod from_broker;
mod from_cluster;
pub mod holder;
pub mod log;
pub mod rate;
pub mod replay;
pub mod series;
mod served;
pub mod source;
mod to_tabs;
mod watches;
pub mod wire;

#[cfg(test)]
mod fixtures;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use device::{Device, Presence};
use events::Events;
use holder::{Holder, HolderId, Kind};
use log::Log;
use rate::Rate;
use series::Window;
use served::Looks;
use source::{Health, Source, Sources};
use to_tabs::Dirty;
use watches::Watches;
use wire::{BrokerFacts, HistoryPoint, OwnCertificate};

/// All of it.
#[derive(Debug)]
pub struct State {
    namespace: String,
    devices: BTreeMap<Arc<str>, Device>,
    holders: BTreeMap<HolderId, Holder>,
    watches: Watches,
    events: Events,
    log: Log,
    rate: Rate,
    sources: Sources,
    broker: BrokerFacts,
    own_certificate: Option<OwnCertificate>,
    handshake: Looks,
    refused_devices: u64,
    dirty: Dirty,
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
/// A device that nobody registered is forgotten when it was silent for as long as the history lasts.
const FORGET_AFTER_MS: i64 = 24 * 60 * 60_000;

// === impl State ===

impl State {
    /// An empty state of `namespace`.
    pub fn new(namespace: impl Into<String>, now: Timestamp) -> Self {
        Self {
            namespace: namespace.into(),
            devices: BTreeMap::new(),
            holders: BTreeMap::new(),
            watches: Watches::default(),
            events: Events::default(),
            log: Log::default(),
            rate: Rate::default(),
            sources: Sources::new(now),
            broker: BrokerFacts::default(),
            own_certificate: None,
            handshake: Looks::default(),
            refused_devices: 0,
            dirty: Dirty::default(),
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

    /// The chart of one device; `None` for one that is not shown.
    pub fn history(&self, name: &str, window: Window, now: Timestamp) -> Option<Vec<HistoryPoint>> {
        let (name, device) = self.devices.get_key_value(name)?;
        self.is_shown(name, device).then(|| device.series.points(window, now))
    }

    /// What happened to `id`, newest last; `None` when there is no such resource.
    pub fn events(&self, id: &HolderId) -> Option<wire::EventList<'_>> {
        self.holders.contains_key(id).then(|| self.events.of(id))
    }

    /// Everything that holds a certificate.
    pub fn holders(&self) -> impl Iterator<Item = &Holder> {
        self.holders.values()
    }

    /// Serial number of the certificate that `holder` was seen to use: what a device acknowledged, what a broker presented in a
    /// handshake or its sidecar proved, what this dashboard presents itself.
    pub fn serial_in_use<'a>(&'a self, holder: &'a Holder) -> Option<&'a str> {
        match holder.kind {
            Kind::RootCA => None,
            Kind::IotDevice => self.devices.get(&*holder.name)?.serial_in_use(),
            Kind::Dashboard => {
                let own = self.own_certificate.as_ref()?;
                let connected = self.sources.broker.health == Health::Up;
                (connected && own.name == format!("{}.dashboard", holder.name)).then_some(&own.serial_number)
            }
            Kind::MqttBroker => {
                let broker = holder.broker.as_ref()?;
                let seen =
                    self.handshake.seen().filter(|seen| broker.endpoint.as_ref() == Some(&seen.endpoint));
                let proved = broker.loaded.as_ref().map(|loaded| &loaded.serial_number);
                seen.map(|seen| &seen.serial_number).or(proved).map(String::as_str)
            }
        }
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
