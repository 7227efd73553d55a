//! One who listens to a broker with a certificate of its own, and misses nothing.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, bail};
use link::{
    BrokerAddress, Event, Events, Link, LinkOptions, Message,
    topic::Channel,
    wire::{CertificateAcknowledgement, Continuity, Reading},
};
use tokio::time::{Instant, timeout_at};

use crate::Identity;

/// A session, and everything that came over it.
#[derive(Debug)]
pub struct Subscriber {
    _link: Link,
    events: Events,
    /// How often the broker accepted the session.
    pub connects: usize,
    /// Every time the session was lost, and why.
    pub losses: Vec<String>,
}

/// What was heard of one device's readings.
#[derive(Debug, Default)]
pub struct Account {
    /// How many came.
    pub readings: u64,
    /// How many are missing between those that came.
    pub missing: u64,
    /// How often its process was started anew.
    pub restarts: u64,
    /// The certificates that it said it uses.
    pub serials: BTreeSet<String>,
    last: Option<Reading>,
}

impl Subscriber {
    /// Connects and subscribes to `filter`.
    pub async fn open(address: BrokerAddress, identity: &Identity, filter: &str) -> Result<Self> {
        let options = LinkOptions::observer(address, identity.folder()).subscribe(filter);
        let (link, mut events) = Link::open(options)?;
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match timeout_at(deadline, events.next()).await {
                Ok(Some(Event::Connected { .. })) => break,
                Ok(Some(Event::Disconnected { reason, .. })) if reason.is_refusal() => bail!("{reason}"),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => bail!("the broker does not accept a subscriber"),
            }
        }
        Ok(Self { _link: link, events, connects: 1, losses: Vec::new() })
    }

    /// The next message before `deadline`.
    pub async fn next(&mut self, deadline: Instant) -> Result<Option<Message>> {
        loop {
            match timeout_at(deadline, self.events.next()).await {
                Ok(Some(Event::Message(message))) => return Ok(Some(message)),
                Ok(Some(Event::Connected { .. })) => self.connects += 1,
                Ok(Some(Event::Disconnected { reason, .. })) => self.losses.push(reason.to_string()),
                Ok(Some(_)) => {}
                Ok(None) => bail!("the session has ended"),
                Err(_) => return Ok(None),
            }
        }
    }

    /// Waits for a message on `topic` that was not kept from before.
    pub async fn hears(&mut self, topic: &str, within: Duration) -> Result<Message> {
        let deadline = Instant::now() + within;
        while let Some(message) = self.next(deadline).await? {
            if message.topic == topic && !message.retain {
                return Ok(message);
            }
        }
        bail!("nothing on {topic} within {} s", within.as_secs_f32());
    }
}

impl Account {
    /// Takes a message of `device` into account; others are none of its business.
    pub fn note(&mut self, device: &str, message: &Message) -> Result<()> {
        match Channel::parse(&message.topic) {
            Some((name, Channel::Telemetry)) if name == device => {
                let reading = Reading::parse(&message.payload)?;
                match self.last.as_ref().map(|last| Continuity::between(last.seq, reading.seq)) {
                    Some(Continuity::Lost(missing)) => self.missing += missing,
                    Some(Continuity::Restarted) => self.restarts += 1,
                    Some(Continuity::Repeated) => return Ok(()),
                    Some(Continuity::Next) | None => {}
                }
                self.readings += 1;
                self.last = Some(reading);
            }
            Some((name, Channel::Certificate)) if name == device => {
                let in_use = CertificateAcknowledgement::parse(&message.payload)?;
                self.serials.insert(in_use.serial_number);
            }
            _ => {}
        }
        Ok(())
    }
}
