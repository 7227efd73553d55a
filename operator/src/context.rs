//! What every controller works with.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::conditions::{Reason, Verdict};
use api::{Dashboard, IotDevice, LocalRef, MqttBroker, RootCA};
use jiff::Timestamp;
use kube::runtime::reflector::Store;
use kube::{Resource as _, ResourceExt as _};
use tokio::sync::watch;

use crate::certificate::Verified;
use crate::children::Children;
use crate::cluster::Cluster;
use crate::fleet::Fleet;
use crate::key::Key;
use crate::metrics::Metrics;
use crate::roots::Roots;
use crate::triggers::Triggers;
use crate::workloads::Images;

/// What every controller works with.
pub struct Context {
    /// The way to write.
    pub cluster: Cluster,
    /// What was made already.
    pub children: Arc<Children>,
    /// What users wrote.
    pub objects: Objects,
    /// The roots that can sign.
    pub roots: Roots,
    /// The MQTT side.
    pub fleet: Arc<Fleet>,
    /// Where this operator serves CRLs, for certificates to say so; none: they do not.
    pub crl_url: Option<String>,
    /// Who has to look again.
    pub triggers: Triggers,
    /// The certificates that were read and found right.
    pub verified: Verified,
    /// The images that workloads run.
    pub images: Images,
    /// How often in a row a certificate could not be issued.
    pub backoff: Backoff,
    /// How often in a row a reconciliation failed.
    pub retries: Backoff,
    /// Since when brokers do not use what they are to use.
    pub waiting: Waiting,
    /// What is measured.
    pub metrics: Metrics,
    /// Tells the time.
    pub clock: Clock,
}

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What users wrote, as the watches see it.
pub struct Objects {
    /// Roots.
    pub roots: Store<RootCA>,
    /// Devices.
    pub devices: Store<IotDevice>,
    /// Brokers.
    pub brokers: Store<MqttBroker>,
    /// Dashboards.
    pub dashboards: Store<Dashboard>,
    /// The kinds that have been read. A store's own `wait_until_ready` wakes only the last of several who wait.
    read: watch::Sender<BTreeSet<String>>,
}

/// How many kinds there are.
const KINDS: usize = 4;

/// Waiting times that double with each failure in a row, for each object its own.
#[derive(Default)]
pub struct Backoff {
    failures: Mutex<HashMap<Key, u32>>,
}

/// Since when something is waited for, for each object its own.
#[derive(Default)]
pub struct Waiting {
    since: Mutex<HashMap<Key, Timestamp>>,
}

impl Context {
    /// The time: all that happens in one reconciliation, and nothing else, asks for it here.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// An object is gone: so is all that was kept in memory of it.
    pub fn forget(&self, key: &Key) {
        let Key { kind, namespace, name } = key;
        self.metrics.forget(kind, namespace, name);
        self.verified.forget(key);
        self.backoff.succeeded(key);
        self.waiting.over(key);
        self.retries.succeeded(key);
        if *kind == RootCA::kind(&()) {
            self.roots.forget(namespace, name);
        } else if *kind == MqttBroker::kind(&()) {
            self.fleet.leave(namespace, name);
        } else if *kind == IotDevice::kind(&()) {
            // Its certificates have to be revoked, and its session cut.
            self.triggers.revocations(namespace);
        }
    }
}

// === impl Objects ===

impl Objects {
    /// Nothing has been read yet.
    pub fn new(
        roots: Store<RootCA>,
        devices: Store<IotDevice>,
        brokers: Store<MqttBroker>,
        dashboards: Store<Dashboard>,
    ) -> Self {
        Self { roots, devices, brokers, dashboards, read: watch::Sender::default() }
    }

    /// All objects of `kind` have been read.
    pub fn note_read(&self, kind: &str) {
        self.read.send_if_modified(|kinds| kinds.insert(kind.to_owned()));
    }

    /// Returns when everything that users wrote has been read once: before that, what is missing here may well exist.
    pub async fn are_read(&self) {
        // The sender is our own: it does not go away while this waits.
        let _ = self.read.subscribe().wait_for(|kinds| kinds.len() == KINDS).await;
    }

    /// The broker that is referred to, or the only one of the namespace.
    pub fn broker(&self, namespace: &str, reference: Option<&LocalRef>) -> Result<Arc<MqttBroker>, Verdict> {
        let here = self.brokers.state().into_iter().filter(|b| b.namespace().as_deref() == Some(namespace));
        let mut here: Vec<_> = here.filter(|b| reference.is_none_or(|r| r.name == b.name_any())).collect();
        let waiting = |message: String| Err(Verdict::no(Reason::WaitingForBroker, message));
        match (here.len(), reference) {
            (1, _) => Ok(here.remove(0)),
            (0, Some(reference)) => waiting(format!(
                "there is no MqttBroker {} in this namespace: create it, or correct spec.brokerRef.name",
                reference.name
            )),
            (0, None) => waiting("there is no MqttBroker in this namespace: create one".to_owned()),
            _ => {
                let mut names: Vec<_> = here.iter().map(|broker| broker.name_any()).collect();
                names.sort();
                let message = format!(
                    "spec.brokerRef: several MqttBrokers are here ({}): write which one",
                    names.join(", ")
                );
                Err(Verdict::no(Reason::InvalidSpec, message))
            }
        }
    }

    /// Whether a device with this UID is in the namespace, whatever it is called.
    pub fn has_device(&self, namespace: &str, uid: &str) -> bool {
        let devices = self.devices.state();
        let is_it = |device: &Arc<IotDevice>| device.metadata.uid.as_deref() == Some(uid);
        devices.iter().any(|device| is_it(device) && device.namespace().as_deref() == Some(namespace))
    }

    /// The names of the dashboards of a namespace.
    pub fn dashboards_in(&self, namespace: &str) -> BTreeSet<String> {
        let dashboards = self.dashboards.state();
        let here = dashboards.iter().filter(|d| d.namespace().as_deref() == Some(namespace));
        here.map(|dashboard| dashboard.name_any()).collect()
    }
}

// === impl Backoff ===

impl Backoff {
    /// How long to wait after one more failure: `first`, doubled with each, at most 32 times as long; a quarter of it jitter.
    pub fn failed(&self, key: &Key, first: Duration) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key.clone()).or_default();
        let wait = first * 2_u32.pow((*count).min(5));
        *count += 1;
        let mut octets = [0; 2];
        // Without randomness there is no jitter, and nothing worse.
        let _ = aws_lc_rs::rand::fill(&mut octets);
        wait.mul_f64(0.875 + f64::from(u16::from_be_bytes(octets)) / f64::from(u16::MAX) / 4.0)
    }

    /// It went well.
    pub fn succeeded(&self, key: &Key) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

// === impl Waiting ===

impl Waiting {
    /// Since when; from `now` on when that is new.
    pub fn since(&self, key: &Key, now: Timestamp) -> Timestamp {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_insert(now)
    }

    /// It is there.
    pub fn over(&self, key: &Key) {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector::store;

    use super::*;

    #[tokio::test]
    async fn everybody_who_waits_for_the_objects_is_woken() {
        let objects = Objects::new(store().0, store().0, store().0, store().0);
        let waiting = async { futures::join!(objects.are_read(), objects.are_read(), objects.are_read()) };
        let reading = async {
            for kind in ["RootCA", "IotDevice", "MqttBroker", "Dashboard"] {
                tokio::task::yield_now().await;
                objects.note_read(kind);
                objects.note_read(kind);
            }
        };
        let both = futures::future::join(waiting, reading);
        tokio::time::timeout(Duration::from_secs(5), both).await.unwrap();
    }

    #[test]
    fn waiting_doubles_up_to_thirty_two_times_and_starts_over_after_success() {
        let backoff = Backoff::default();
        let key = Key { kind: "IotDevice".into(), namespace: "ns".into(), name: "d".into() };
        let first = Duration::from_mins(1);
        let waits: Vec<_> = (0..8).map(|_| backoff.failed(&key, first)).collect();
        for (n, wait) in waits.iter().enumerate() {
            let nominal = first * 2_u32.pow(u32::try_from(n).unwrap().min(5));
            assert!(*wait >= nominal.mul_f64(0.875) && *wait <= nominal.mul_f64(1.125), "{n}: {wait:?}");
        }
        backoff.succeeded(&key);
        assert!(backoff.failed(&key, first) <= first.mul_f64(1.125));
    }
}
