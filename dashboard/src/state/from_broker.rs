//! What the broker and the devices say, into the state.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use link::wire::{CertificateAcknowledgement, ConnectionStatus, Reading};

use super::device::{Changed, Device};
use super::holder::{Holder, HolderId, Kind};
use super::log::{self, Message};
use super::wire::{BrokerFacts, Handshake, OwnCertificate};
use super::{MAX_DEVICES, State};

impl State {
    /// A message of any topic, for the log and the counts.
    pub fn message(&mut self, message: Message<'_>, now: Timestamp) {
        self.rate.count(now);
        self.log.push(message, now);
        if let Some((name, address)) = log::connection(message) {
            // Only of those who are known: the broker also names the operator and the dashboards.
            if self.devices.contains_key(name) {
                self.heard(name, |device| device.connected_from(address, now));
            }
        }
    }

    /// A reading of device `name`.
    pub fn reading(&mut self, name: &str, reading: &Reading, now: Timestamp) {
        self.heard(name, |device| device.reading(reading, now));
    }

    /// What device `name`, or the broker in its name, says of its session.
    pub fn connection(&mut self, name: &str, status: ConnectionStatus, retained: bool, now: Timestamp) {
        self.heard(name, |device| device.connection(status, retained, now));
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
        self.dirty.presented |= self.own_certificate.as_ref() != Some(&certificate);
        self.own_certificate = Some(certificate);
    }

    /// Whether the broker's certificate has to be looked at, see [`super::served`].
    pub fn handshake_due(&self, now: Timestamp) -> bool {
        self.handshake.due(&wanted(&self.holders), self.sources.broker.since, now.as_millisecond())
    }

    /// The broker's certificate was seen.
    pub fn handshake(&mut self, seen: Handshake) {
        self.handshake.take(seen, &wanted(&self.holders));
        self.dirty.presented = true;
    }

    /// The broker's certificate could not be seen at `now`.
    pub fn handshake_failed(&mut self, now: Timestamp) {
        self.handshake.failed(now.as_millisecond());
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
}

/// Serial numbers of the certificates in the Secrets of the brokers.
fn wanted(holders: &BTreeMap<HolderId, Holder>) -> Vec<&str> {
    let brokers = holders.values().filter(|holder| holder.kind == Kind::MqttBroker);
    brokers.flat_map(|holder| &holder.certificates).map(|one| one.serial_number.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::state::SourceName;
    use crate::state::fixtures::{at, changes, device, snapshot, state};

    #[test]
    fn a_device_connects_from_here_and_there() {
        let mut state = state();
        state.holder_applied(device("a"));
        for address in ["10.0.0.1", "10.0.0.2"] {
            let payload =
                format!("1795495165: New client connected from {address}:4711 as a (p5, c0, k30, u'a').");
            let message =
                Message { topic: "$SYS/broker/log/N", payload: payload.as_bytes(), qos: 0, retained: false };
            state.message(message, at(0));
        }
        let told = changes(&mut state, at(1));
        assert_eq!(told["devices"][0]["addresses"][1]["address"], "10.0.0.2");
        assert_eq!(told["devices"][0]["addresses"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn the_brokers_certificate_is_looked_at_also_while_there_is_no_session() {
        let mut state = state();
        assert!(state.handshake_due(at(0)));
        let seen = Handshake {
            endpoint: "mqttbroker-m.default.svc.cluster.local:8883".into(),
            at: at(0).as_millisecond(),
            serial_number: "0a".into(),
            fingerprint: "ff".into(),
            not_after: at(1_000).as_millisecond(),
            distrust: None,
        };
        state.handshake(seen);
        assert!(!state.handshake_due(at(10_000)));
        let told = changes(&mut state, at(1_000));
        assert_eq!(told["handshake"]["serialNumber"], "0a");
        assert_eq!(snapshot(&state, at(1_000))["handshake"]["serialNumber"], "0a");
        // a broker that nobody believes any more has no session with this dashboard either
        state.source_up(SourceName::Broker, at(11_000));
        state.source_down(SourceName::Broker, "unknown root", at(12_000));
        assert!(state.handshake_due(at(12_000)));
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
    fn a_device_nobody_registered_is_shown_when_it_talks_and_not_for_what_the_broker_kept() {
        let mut state = state();
        state.connection("gone", ConnectionStatus::offline(at(0)), true, at(0));
        assert_eq!(snapshot(&state, at(1))["devices"], json!([]));
        state.reading("gone", &Reading::new(at(1), 0, 20.0), at(1));
        assert_eq!(snapshot(&state, at(2))["devices"][0]["registered"], false);
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
    fn what_a_device_is_named_cannot_leave_its_json_string() {
        let mut state = state();
        state.reading("<script>\"", &Reading::new(at(0), 0, 20.0), at(0));
        assert_eq!(snapshot(&state, at(1))["devices"][0]["name"], "<script>\"");
    }
}
