//! One who hears everything that a fleet says, and can tell exactly what was lost of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use link::{
    Event, Events, Link, LinkOptions, Message,
    topic::{ALL_DEVICES, Channel},
    wire::{CertificateAcknowledgement, Reading},
};
use tokio::{task::JoinHandle, time::timeout};

/// How long a broker may take to accept it.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(30);

/// A session that hears all devices, for as long as this is kept.
#[derive(Debug)]
pub struct Listener {
    _link: Link,
    heard: Arc<Mutex<Heard>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Heard {
    devices: BTreeMap<String, Voice>,
    losses: Vec<String>,
    connects: usize,
}

/// What was heard of one device.
#[derive(Clone, Debug, Default)]
pub struct Voice {
    /// The numbers of its readings.
    pub readings: BTreeSet<u64>,
    /// How many came a second time.
    pub repeated: u64,
    /// When the last one came that had not come before.
    pub last: Option<Instant>,
    /// What it said about its certificate last.
    pub acknowledgement: Option<CertificateAcknowledgement>,
    /// Every serial number that it has said it uses.
    pub serials: BTreeSet<String>,
}

impl Listener {
    /// Connects as `options` say, and subscribes to all devices at QoS 1. With a session expiry of zero the broker keeps
    /// nothing for it on disk, which is what lets hundreds of readings a second through.
    pub async fn open(options: LinkOptions, session_expiry: Duration) -> Result<Self> {
        let options = LinkOptions { session_expiry, ..options.subscribe(ALL_DEVICES) };
        let (link, mut events) = Link::open(options)?;
        let accepted = async {
            loop {
                match events.next().await {
                    Some(Event::Connected { .. }) => return Ok(()),
                    Some(Event::Disconnected { reason, .. }) if reason.is_refusal() => bail!("{reason}"),
                    Some(_) => {}
                    None => bail!("the session has ended"),
                }
            }
        };
        timeout(ACCEPTED_WITHIN, accepted).await.context("the broker does not accept a listener")??;
        let heard = Arc::new(Mutex::new(Heard { connects: 1, ..Heard::default() }));
        let task = tokio::spawn(listen(events, Arc::clone(&heard)));
        Ok(Self { _link: link, heard, task })
    }

    /// What was heard of a device.
    pub fn voice(&self, device: &str) -> Voice {
        lock(&self.heard).devices.get(device).cloned().unwrap_or_default()
    }

    /// The devices that were heard.
    pub fn devices(&self) -> Vec<String> {
        lock(&self.heard).devices.keys().cloned().collect()
    }

    /// The greatest number of a device's readings.
    pub fn last_reading(&self, device: &str) -> Option<u64> {
        lock(&self.heard).devices.get(device).and_then(|voice| voice.readings.last().copied())
    }

    /// Every time its own session was lost, and why.
    pub fn losses(&self) -> Vec<String> {
        lock(&self.heard).losses.clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Voice {
    /// How many of the readings `first..=last` have not come.
    pub fn missing(&self, first: u64, last: u64) -> u64 {
        let came = u64::try_from(self.readings.range(first..=last).count()).unwrap_or(u64::MAX);
        (last + 1).saturating_sub(first).saturating_sub(came)
    }

    /// How many are missing between the first and the last that came; of a device whose process was not started anew.
    pub fn gaps(&self) -> u64 {
        match (self.readings.first(), self.readings.last()) {
            (Some(first), Some(last)) => self.missing(*first, *last),
            _ => 0,
        }
    }

    fn note(&mut self, channel: Channel, message: &Message) {
        match channel {
            Channel::Telemetry => {
                let Ok(reading) = Reading::parse(&message.payload) else { return };
                if self.readings.insert(reading.seq) {
                    self.last = Some(Instant::now());
                } else {
                    self.repeated += 1;
                }
            }
            Channel::Certificate => {
                let Ok(said) = CertificateAcknowledgement::parse(&message.payload) else { return };
                self.serials.insert(said.serial_number.clone());
                self.acknowledgement = Some(said);
            }
            Channel::Status => {}
        }
    }
}

async fn listen(mut events: Events, heard: Arc<Mutex<Heard>>) {
    while let Some(event) = events.next().await {
        match event {
            Event::Message(message) => {
                if let Some((device, channel)) = Channel::parse(&message.topic) {
                    lock(&heard).devices.entry(device.to_owned()).or_default().note(channel, &message);
                }
            }
            Event::Connected { .. } => lock(&heard).connects += 1,
            Event::Disconnected { reason, .. } => lock(&heard).losses.push(reason.to_string()),
            _ => {}
        }
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use link::Qos;

    use super::*;

    fn reading(seq: u64) -> Message {
        Message {
            topic: "devices/door/telemetry".into(),
            payload: Reading::new(jiff::Timestamp::UNIX_EPOCH, seq, 21.0).to_json(),
            qos: Qos::AtLeastOnce,
            retain: false,
        }
    }

    #[test]
    fn what_did_not_come_is_counted_and_what_came_late_or_twice_is_not() {
        let mut voice = Voice::default();
        for seq in [10, 11, 14, 13, 14] {
            voice.note(Channel::Telemetry, &reading(seq));
        }
        assert_eq!((voice.gaps(), voice.repeated), (1, 1));
        assert_eq!(voice.missing(10, 16), 3);
        assert_eq!(voice.missing(10, 11), 0);
        assert_eq!(Voice::default().missing(1, 5), 5);
        assert_eq!(Voice::default().gaps(), 0);
    }
}
