//! Who has to look again: every controller has one queue, and whoever changes something puts into it what that concerns.

use std::collections::BTreeSet;
use std::time::Duration;

use api::{Dashboard, IotDevice, MqttBroker, RootCA};
use futures::StreamExt as _;
use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use kube::Resource;

use crate::key::Key;

/// How long roots wait for more devices to come, go or acknowledge before they count them.
const COUNT_AFTER: Duration = Duration::from_secs(2);
/// How long roots wait for more certificates to revoke: those of one `kubectl apply` belong into one CRL.
const REVOKE_AFTER: Duration = Duration::from_millis(150);

/// What a controller has to look at again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The object of this name.
    One {
        /// Where it is.
        namespace: String,
        /// What it is called.
        name: String,
    },
    /// All objects of its kind in a namespace.
    All {
        /// Where they are.
        namespace: String,
    },
}

/// The queues of all controllers.
#[derive(Clone, Debug)]
pub struct Triggers {
    roots: UnboundedSender<Trigger>,
    devices: UnboundedSender<Trigger>,
    brokers: UnboundedSender<Trigger>,
    dashboards: UnboundedSender<Trigger>,
    departures: UnboundedSender<()>,
    counts: UnboundedSender<String>,
    revocations: UnboundedSender<String>,
}

/// The other ends.
#[derive(Debug)]
pub struct Queues {
    /// Of the `RootCA` controller.
    pub roots: UnboundedReceiver<Trigger>,
    /// Of the `IotDevice` controller.
    pub devices: UnboundedReceiver<Trigger>,
    /// Of the `MqttBroker` controller.
    pub brokers: UnboundedReceiver<Trigger>,
    /// Of the `Dashboard` controller.
    pub dashboards: UnboundedReceiver<Trigger>,
    /// Something may have changed for devices that are gone.
    pub departures: UnboundedReceiver<()>,
    /// Namespaces where devices came, went, or acknowledged something.
    pub counts: UnboundedReceiver<String>,
    /// Namespaces where certificates are to be revoked, or not any more.
    pub revocations: UnboundedReceiver<String>,
}

// === impl Triggers ===

impl Triggers {
    /// Empty queues.
    pub fn new() -> (Self, Queues) {
        let ((roots, roots_queue), (devices, devices_queue)) = (mpsc::unbounded(), mpsc::unbounded());
        let ((brokers, brokers_queue), (dashboards, dashboards_queue)) =
            (mpsc::unbounded(), mpsc::unbounded());
        let (departures, departures_queue) = mpsc::unbounded();
        let ((counts, counts_queue), (revocations, revocations_queue)) =
            (mpsc::unbounded(), mpsc::unbounded());
        let queues = Queues {
            roots: roots_queue,
            devices: devices_queue,
            brokers: brokers_queue,
            dashboards: dashboards_queue,
            departures: departures_queue,
            counts: counts_queue,
            revocations: revocations_queue,
        };
        (Self { roots, devices, brokers, dashboards, departures, counts, revocations }, queues)
    }

    /// Something that belongs to `owner` changed.
    pub fn child_changed(&self, owner: Key) {
        let Key { kind, namespace, name } = owner;
        if let Some(queue) = self.queue(&kind) {
            send(queue, Trigger::One { namespace, name });
        }
    }

    /// A root can sign now, or signs otherwise, or cannot sign any more: whoever holds a certificate of it has to look.
    pub fn root_changed(&self, namespace: &str) {
        for queue in [&self.brokers, &self.dashboards, &self.devices] {
            send(queue, Trigger::All { namespace: namespace.to_owned() });
        }
    }

    /// A root has a new CRL, and nothing else is new: brokers have to load it. Whoever waits for the entry of a certificate
    /// is woken when they have.
    pub fn crl_changed(&self, namespace: &str) {
        send(&self.brokers, Trigger::All { namespace: namespace.to_owned() });
        self.departures();
    }

    /// This object has to be looked at again.
    pub fn one<K: Resource<DynamicType = ()>>(&self, namespace: &str, name: &str) {
        self.child_changed(Key::of::<K>(namespace, name));
    }

    /// Roots have to look at who is to be revoked.
    pub fn revocations(&self, namespace: &str) {
        // As with every queue: a controller that has ended needs no news.
        let _ = self.revocations.unbounded_send(namespace.to_owned());
    }

    /// Something may have changed for devices that are gone.
    pub fn departures(&self) {
        let _ = self.departures.unbounded_send(());
    }

    /// Devices have acknowledged something.
    pub fn acknowledged(&self, namespace: &str) {
        let _ = self.counts.unbounded_send(namespace.to_owned());
    }

    /// An object of `kind` is new or gone: others may refer to it, count it or list it.
    pub fn came_or_went(&self, kind: &str, namespace: &str) {
        let all = || Trigger::All { namespace: namespace.to_owned() };
        if kind == RootCA::kind(&()) {
            self.root_changed(namespace);
        } else if kind == IotDevice::kind(&()) {
            // As with every queue: a controller that has ended needs no news.
            let _ = self.counts.unbounded_send(namespace.to_owned());
        } else if kind == MqttBroker::kind(&()) {
            send(&self.devices, all());
            send(&self.dashboards, all());
        } else if kind == Dashboard::kind(&()) {
            send(&self.brokers, all());
        }
    }

    /// Has roots count their devices and revoke certificates: once for many that come together. Ends with the last of these
    /// queues.
    pub fn wake_roots(
        &self,
        counts: UnboundedReceiver<String>,
        revocations: UnboundedReceiver<String>,
    ) -> impl Future<Output = ()> + use<> {
        let counting = gather(counts, self.roots.clone(), COUNT_AFTER);
        let revoking = gather(revocations, self.roots.clone(), REVOKE_AFTER);
        async { tokio::join!(counting, revoking).0 }
    }

    fn queue(&self, kind: &str) -> Option<&UnboundedSender<Trigger>> {
        [
            (RootCA::kind(&()), &self.roots),
            (IotDevice::kind(&()), &self.devices),
            (MqttBroker::kind(&()), &self.brokers),
            (Dashboard::kind(&()), &self.dashboards),
        ]
        .into_iter()
        .find_map(|(known, queue)| (known == kind).then_some(queue))
    }
}

/// Wakes the roots of a namespace `after` the first of many pieces of news.
async fn gather(mut news: UnboundedReceiver<String>, roots: UnboundedSender<Trigger>, after: Duration) {
    while let Some(first) = news.next().await {
        tokio::time::sleep(after).await;
        let mut namespaces = BTreeSet::from([first]);
        while let Ok(namespace) = news.try_recv() {
            namespaces.insert(namespace);
        }
        for namespace in namespaces {
            send(&roots, Trigger::All { namespace });
        }
    }
}

fn send(queue: &UnboundedSender<Trigger>, trigger: Trigger) {
    // A controller that has ended needs no news.
    let _ = queue.unbounded_send(trigger);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Trigger {
        Trigger::All { namespace: "ns".to_owned() }
    }

    #[test]
    fn what_belongs_to_a_device_wakes_that_device() {
        let (triggers, mut queues) = Triggers::new();
        triggers.child_changed(Key { kind: "IotDevice".into(), namespace: "ns".into(), name: "d".into() });
        triggers.child_changed(Key { kind: "Somebody".into(), namespace: "ns".into(), name: "d".into() });
        assert_eq!(queues.devices.try_recv(), Ok(Trigger::One { namespace: "ns".into(), name: "d".into() }));
        assert!(queues.devices.try_recv().is_err());
    }

    #[test]
    fn a_new_broker_wakes_whoever_waits_for_one() {
        let (triggers, mut queues) = Triggers::new();
        triggers.came_or_went("MqttBroker", "ns");
        assert_eq!(queues.devices.try_recv(), Ok(all()));
        assert_eq!(queues.dashboards.try_recv(), Ok(all()));
        assert!(queues.roots.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_thousand_new_devices_are_counted_once() {
        let (triggers, mut queues) = Triggers::new();
        for _ in 0..1000 {
            triggers.came_or_went("IotDevice", "ns");
        }
        let counting = gather(queues.counts, triggers.roots.clone(), Duration::ZERO);
        drop(triggers);
        counting.await;
        assert_eq!(queues.roots.try_recv(), Ok(all()));
        assert!(queues.roots.try_recv().is_err());
    }
}
