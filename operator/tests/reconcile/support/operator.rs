//! One operator: what its memory holds, and what it is told by watches. Its reconcilers are called by hand.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use api::{Dashboard, IotDevice, MqttBroker, RootCA, names};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::runtime::controller::Action;
use kube::runtime::reflector::{self, store::Writer};
use kube::runtime::watcher;
use kube::{Resource, ResourceExt as _};
use operator::certificate::Verified;
use operator::children::{Child, Children};
use operator::cluster::Cluster;
use operator::context::{Backoff, Clock, Context, Objects, Waiting};
use operator::error::Result;
use operator::events::{self, Events, Note};
use operator::fleet::{Connect, Fleet};
use operator::key::Key;
use operator::metrics::Metrics;
use operator::roots::Roots;
use operator::triggers::{Queues, Triggers};
use operator::workloads::Images;
use operator::{dashboard, departures, iot_device, mqtt_broker, root_ca};
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;

use super::ApiServer;

/// After so many rounds whatever can come to rest has come to rest.
const ROUNDS: usize = 20;

/// One operator.
pub(crate) struct Operator {
    pub(crate) context: Arc<Context>,
    server: ApiServer,
    watches: Mutex<Watches>,
    events: tokio::sync::Mutex<events::Writer>,
}

struct Watches {
    roots: Writer<RootCA>,
    devices: Writer<IotDevice>,
    brokers: Writer<MqttBroker>,
    dashboards: Writer<Dashboard>,
    children: HashSet<Key>,
    /// Nobody takes from them: every round looks at everything.
    _queues: Queues,
}

// === impl Operator ===

impl Operator {
    pub(crate) fn start(server: &ApiServer, clock: Clock, connect: Connect) -> Self {
        let children = Arc::new(Children::default());
        let (roots, root_writer) = reflector::store();
        let (devices, device_writer) = reflector::store();
        let (brokers, broker_writer) = reflector::store();
        let (dashboards, dashboard_writer) = reflector::store();
        let (triggers, queues) = Triggers::new();
        let (events, writer) = Events::new(server.client(), "operator-0".into());
        let context = Context {
            cluster: Cluster::new(server.client(), events, Arc::clone(&children), Arc::clone(&clock)),
            children,
            objects: Objects::new(roots, devices, brokers, dashboards),
            roots: Roots::new(triggers.clone()),
            fleet: Arc::new(Fleet::new(triggers.clone(), connect)),
            crl_url: None,
            triggers,
            verified: Verified::default(),
            images: images(),
            backoff: Backoff::default(),
            retries: Backoff::default(),
            waiting: Waiting::default(),
            metrics: Metrics::register(&mut Registry::default()),
            clock,
        };
        let watches = Watches {
            roots: root_writer,
            devices: device_writer,
            brokers: broker_writer,
            dashboards: dashboard_writer,
            children: HashSet::new(),
            _queues: queues,
        };
        let operator = Self {
            context: Arc::new(context),
            server: server.clone(),
            watches: Mutex::new(watches),
            events: tokio::sync::Mutex::new(writer),
        };
        operator.watch();
        operator
    }

    /// Looks after everything until nothing is left to do. Failures are tried again.
    pub(crate) async fn settle(&self) {
        let mut failure = None;
        for _ in 0..ROUNDS {
            let before = self.server.count_writes();
            failure = self.round().await.err();
            if failure.is_none() && self.server.count_writes() == before {
                return;
            }
        }
        let requests = self.server.take_requests();
        let last: Vec<_> =
            requests.iter().rev().take(10).rev().map(|r| format!("{r}: {:?} {}", r.code, r.body)).collect();
        panic!("it does not come to rest ({failure:?}): {last:#?}");
    }

    /// Looks after everything once, up to the first failure.
    pub(crate) async fn round(&self) -> Result<()> {
        for root in self.server.all::<RootCA>() {
            self.look_at_root(&root.name_any()).await?;
        }
        for broker in self.server.all::<MqttBroker>() {
            self.look_at_broker(&broker.name_any()).await?;
        }
        for dashboard in self.server.all::<Dashboard>() {
            self.watch();
            self.look_at(&dashboard.name_any(), dashboard::reconcile).await?;
        }
        for device in self.server.all::<IotDevice>() {
            self.look_at_device(&device.name_any()).await?;
        }
        self.watch();
        departures::see_off(&self.context).await;
        Ok(())
    }

    pub(crate) async fn look_at_root(&self, name: &str) -> Result<Action> {
        self.watch();
        self.look_at(name, root_ca::reconcile).await
    }

    pub(crate) async fn look_at_broker(&self, name: &str) -> Result<Action> {
        self.watch();
        self.look_at(name, mqtt_broker::reconcile).await
    }

    pub(crate) async fn look_at_device(&self, name: &str) -> Result<Action> {
        self.watch();
        self.look_at(name, iot_device::reconcile).await
    }

    /// The same before any watch tells of what was written last.
    pub(crate) async fn look_at_device_unaware(&self, name: &str) -> Result<Action> {
        self.look_at(name, iot_device::reconcile).await
    }

    async fn look_at<K, F>(&self, name: &str, reconcile: impl FnOnce(Arc<K>, Arc<Context>) -> F) -> F::Output
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
        F: Future,
    {
        self.told(reconcile(self.stored(name), Arc::clone(&self.context))).await
    }

    /// Does `work`, and writes what it tells.
    pub(crate) fn told<T>(&self, work: impl Future<Output = T>) -> impl Future<Output = T> {
        // Boxed: the tests' own futures stay small.
        let work = Box::pin(work);
        async {
            let outcome = work.await;
            self.events.lock().await.catch_up().await;
            outcome
        }
    }

    fn stored<K: Resource<DynamicType = ()> + DeserializeOwned>(&self, name: &str) -> Arc<K> {
        Arc::new(self.server.get(name).unwrap())
    }

    /// What the watches of a running operator tell: what users wrote, and the metadata of what is labelled as ours.
    fn watch(&self) {
        let mut watches = self.watches.lock().unwrap();
        self.list(&mut watches.roots);
        self.list(&mut watches.devices);
        self.list(&mut watches.brokers);
        self.list(&mut watches.dashboards);

        let mut here = HashSet::new();
        self.note::<Secret>(&mut here);
        self.note::<ConfigMap>(&mut here);
        self.note::<Service>(&mut here);
        self.note::<Deployment>(&mut here);
        self.note::<PersistentVolumeClaim>(&mut here);
        self.note::<ServiceAccount>(&mut here);
        self.note::<Role>(&mut here);
        self.note::<RoleBinding>(&mut here);
        for gone in watches.children.difference(&here) {
            self.context.children.forget(gone);
        }
        watches.children = here;
    }

    fn list<K>(&self, writer: &mut Writer<K>)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + 'static,
    {
        for gone in writer.as_reader().state() {
            if self.server.get::<K>(&gone.name_any()).is_none_or(|now| now.uid() != gone.uid()) {
                self.context.forget(&Key::of::<K>(super::NAMESPACE, &gone.name_any()));
            }
        }
        writer.apply_watcher_event(&watcher::Event::Init);
        for object in self.server.all::<K>() {
            writer.apply_watcher_event(&watcher::Event::InitApply(object));
        }
        writer.apply_watcher_event(&watcher::Event::InitDone);
    }

    fn note<K: Resource<DynamicType = ()> + DeserializeOwned>(&self, here: &mut HashSet<Key>) {
        for object in self.server.all::<K>() {
            if object.labels().get(names::LABEL_MANAGED_BY).is_some_and(|by| by == names::MANAGER) {
                let key = Key::of::<K>(super::NAMESPACE, &object.name_any());
                self.context.children.note(key.clone(), Child::from_meta(object.meta()).unwrap());
                here.insert(key);
            }
        }
    }
}

/// Something to tell.
pub(crate) fn note(text: String) -> Note {
    Note { warning: false, reason: "Tried", action: "Try", text }
}

fn images() -> Images {
    Images {
        thermometer: "thermometer".into(),
        dashboard: "dashboard".into(),
        sidecar: "sidecar".into(),
        mosquitto: "mosquitto".into(),
        pull_policy: "Never".into(),
    }
}
