//! Devices in this process that do what a good device does (`crates/link`): they follow their Secret, acknowledge what
//! they trust, queue what cannot be sent. A hundred of them cost less than one pod.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use api::{IotDevice, names};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Resource, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, watcher},
    },
};
use link::{
    BrokerAddress, Event, Identity, IdentitySource, Link, LinkOptions, Publication,
    wire::{Reading, Sequence},
};
use tokio::{sync::watch, task::JoinHandle, time::interval};

use crate::{Site, identity::part, patience::eventually, site::PATIENCE};

/// More than ten minutes of readings, five a second.
const QUEUE: usize = 4000;

/// What the Secrets of a site's devices hold, as it changes.
#[derive(Debug)]
pub struct Secrets {
    known: Arc<Mutex<BTreeMap<String, watch::Sender<Arc<Identity>>>>>,
    task: JoinHandle<()>,
}

/// A device in this process.
#[derive(Debug)]
pub struct Device {
    /// Its name.
    pub name: String,
    link: Link,
    first: u64,
    next: Arc<AtomicU64>,
    notes: Arc<Mutex<Notes>>,
    speaking: JoinHandle<()>,
    listening: JoinHandle<()>,
}

/// What has happened to a device.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// How often the broker accepted a session.
    pub connects: usize,
    /// Every failed or lost connection, and why.
    pub losses: Vec<String>,
    /// How often a new certificate or new roots were taken into use.
    pub changes: usize,
}

impl Secrets {
    /// Starts to follow the Secrets of all devices of a site. A device has them at once, without a kubelet's delay.
    pub fn follow(site: &Site) -> Self {
        let known: Arc<Mutex<BTreeMap<String, watch::Sender<Arc<Identity>>>>> = Arc::default();
        let ours = format!("{},{}={}", names::managed_selector(), names::LABEL_KIND, IotDevice::kind(&()));
        let config = watcher::Config::default().labels(&ours);
        let secrets = watcher(site.api::<Secret>(), config).default_backoff().applied_objects();
        let task = tokio::spawn({
            let known = Arc::clone(&known);
            async move {
                // after an error the watch begins again by itself
                let mut secrets = secrets.into_stream().boxed();
                while let Some(secret) = secrets.next().await {
                    if let Ok(secret) = secret {
                        note(&known, &secret);
                    }
                }
            }
        });
        Self { known, task }
    }

    /// The identity of a device, first and later.
    pub async fn of(&self, device: &str) -> Result<watch::Receiver<Arc<Identity>>> {
        eventually(format_args!("{device} has a certificate"), PATIENCE, async || {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(known.get(device).map(watch::Sender::subscribe))
        })
        .await
    }

    /// How a device connects to `broker`.
    pub async fn device(&self, broker: BrokerAddress, device: &str) -> Result<LinkOptions> {
        let identity = IdentitySource::Given(self.of(device).await?);
        Ok(LinkOptions { identity, queue_limit: QUEUE, ..LinkOptions::device(broker, "") })
    }

    /// How an observer connects to `broker` with a device's identity.
    pub async fn observer(&self, broker: BrokerAddress, device: &str) -> Result<LinkOptions> {
        let identity = IdentitySource::Given(self.of(device).await?);
        Ok(LinkOptions { identity, ..LinkOptions::observer(broker, "") })
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn note(known: &Mutex<BTreeMap<String, watch::Sender<Arc<Identity>>>>, secret: &Secret) {
    let Some(device) = secret.labels().get(names::LABEL_NAME) else { return };
    let part = |key| part(secret, key);
    let identity = part("tls.crt")
        .and_then(|crt| Ok(Identity::from_pem(&crt, &part("tls.key")?, &part("ca.crt")?, Timestamp::now())?));
    // one that keeps its key, or that is being written: what was there stays in use
    let Ok(identity) = identity.map(Arc::new) else { return };
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    match known.get(device) {
        Some(follow) => {
            follow.send_replace(identity);
        }
        None => {
            known.insert(device.clone(), watch::Sender::new(identity));
        }
    }
}

impl Device {
    /// Starts a device that sends a reading every `every`.
    pub async fn start(
        name: &str,
        broker: &BrokerAddress,
        secrets: &Secrets,
        every: Duration,
    ) -> Result<Self> {
        let options = secrets.device(broker.clone(), name).await?;
        let (link, mut events) = Link::open(options)?;
        let mut numbers = Sequence::starting_at(Timestamp::now());
        let first = numbers.next().context("numbers do not end")?;
        let next = Arc::new(AtomicU64::new(first));
        let notes: Arc<Mutex<Notes>> = Arc::default();
        let listening = tokio::spawn({
            let notes = Arc::clone(&notes);
            async move {
                while let Some(event) = events.next().await {
                    let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
                    match event {
                        Event::Connected { .. } => notes.connects += 1,
                        Event::Disconnected { reason, .. } => notes.losses.push(reason.to_string()),
                        Event::IdentityChanged(_) => notes.changes += 1,
                        Event::IdentityRejected { reason, .. } => notes.losses.push(reason),
                        Event::Message(_) => {}
                    }
                }
            }
        });
        let speaking = tokio::spawn({
            let (link, next, name) = (link.clone(), Arc::clone(&next), name.to_owned());
            async move {
                let mut clock = interval(every);
                loop {
                    clock.tick().await;
                    let reading = Reading::new(Timestamp::now(), next.load(Ordering::SeqCst), 21.0);
                    if link.publish(Publication::reading(&name, &reading)).is_err() {
                        return;
                    }
                    next.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Ok(Self { name: name.to_owned(), link, first, next, notes, speaking, listening })
    }

    /// The first and last number of what it has said so far; nothing when it has not said anything.
    pub fn sent(&self) -> Option<(u64, u64)> {
        let next = self.next.load(Ordering::SeqCst);
        (next > self.first).then(|| (self.first, next - 1))
    }

    /// What has happened so far.
    pub fn notes(&self) -> Notes {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the broker has accepted it, and not been lost since.
    pub fn is_connected(&self) -> bool {
        self.link.is_connected()
    }

    /// The certificate in use.
    pub fn serial_number(&self) -> String {
        self.link.identity().serial_number().to_owned()
    }

    /// How many readings its queue had no room for.
    pub fn dropped(&self) -> u64 {
        self.link.backlog().dropped
    }

    /// Says no more, but waits until the broker has acknowledged everything; returns how many it has not.
    pub async fn finish(&self, within: Duration) -> usize {
        self.speaking.abort();
        self.link.close(within).await
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.speaking.abort();
        self.listening.abort();
    }
}
