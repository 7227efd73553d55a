//! Client, lease, watches, controllers, HTTP and shutdown: the only place where they meet.
//!
//! Only the holder of the lease runs watches and controllers. Losing the lease ends the process, so that no work outlives
//! it; Kubernetes starts it again. Whatever was under way is found in the cluster and finished by whoever leads next.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use api::{Dashboard, IotDevice, MqttBroker, RootCA};
use futures::channel::mpsc;
use futures::future::{Either, join_all, select};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use k8s_controller::LeaderElection;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{self, Action};
use kube::runtime::reflector::{self, ObjectRef, Store, store::Writer};
use kube::runtime::{Controller, PredicateConfig, WatchStreamExt as _, predicates, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::certificate::Verified;
use crate::children::{Children, Key, by_kind};
use crate::cli::{LogFormat, Options};
use crate::cluster::Cluster;
use crate::context::{Backoff, Context, Objects};
use crate::error::Error;
use crate::http::{self, Readiness};
use crate::metrics::Metrics;
use crate::roots::Roots;
use crate::workloads::Images;
use crate::{dashboard, iot_device, mqtt_broker, root_ca};

/// How many objects of a kind are worked on side by side.
const CONCURRENCY: u16 = 32;
/// After how many failures in a row, doubling from this, an object is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long a root waits for more devices to come or go before it counts them.
const COUNT_AFTER: Duration = Duration::from_secs(2);
/// The lease is renewed this often; another replica takes over 15 s after the last time.
const RENEW_LEASE: Duration = Duration::from_secs(5);

type Keys = mpsc::UnboundedReceiver<Key>;

/// Runs until SIGTERM or SIGINT, or until the lease is lost.
pub async fn run(options: Options) -> anyhow::Result<()> {
    start_log(options.log_format);
    let client =
        Client::try_default().await.context("no way to reach a cluster: set KUBECONFIG, or run in a pod")?;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let readiness = Readiness::default();
    readiness.wait_for("start", "starting");

    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("cannot listen on {}: choose another --listen", options.listen))?;
    tracing::info!(address = %options.listen, "serving /healthz, /readyz and /metrics");
    tokio::spawn(axum::serve(listener, http::routes(readiness.clone(), registry)).into_future());

    let election =
        LeaderElection::new(client.clone(), &options.lease_namespace, "ca-iot-operator", &options.identity)
            .with_retry_period(RENEW_LEASE);
    let lead = async {
        wait_for_definitions(&client, options.namespace.as_deref(), &readiness).await;
        // A standby is ready: it has nothing to wait for but its turn.
        readiness.reached("start");
        election.with_lease(control(client.clone(), &options, metrics, readiness.clone())).await
    };
    match select(pin!(lead), pin!(stop_signal()?)).await {
        Either::Left(_) => anyhow::bail!("the lease was lost: ending, so that only its holder writes"),
        Either::Right(_) => {
            election.release().await;
            tracing::info!("stopped");
            Ok(())
        }
    }
}

/// Watches and controllers, for as long as this replica leads.
async fn control(client: Client, options: &Options, metrics: Metrics, readiness: Readiness) {
    metrics.leads(true);
    let scope = Scope { client: client.clone(), namespace: options.namespace.clone() };
    let children = Arc::new(Children::default());
    let (owners, changed) = mpsc::unbounded();
    let (route, [for_roots, for_devices, for_brokers, for_dashboards]) =
        by_kind(changed, [kind::<RootCA>(), kind::<IotDevice>(), kind::<MqttBroker>(), kind::<Dashboard>()]);
    let (device_news, devices_of_root) = mpsc::unbounded();
    let (broker_news, brokers_of_root) = mpsc::unbounded();
    let (dashboard_news, dashboards_of_root) = mpsc::unbounded();

    let (roots, root_writer) = reflector::store();
    let (devices, device_writer) = reflector::store();
    let (brokers, broker_writer) = reflector::store();
    let (dashboards, dashboard_writer) = reflector::store();
    let context = Arc::new(Context {
        cluster: Cluster::new(client, options.identity.clone(), Arc::clone(&children)),
        children: Arc::clone(&children),
        objects: Objects {
            roots: roots.clone(),
            devices: devices.clone(),
            brokers: brokers.clone(),
            dashboards: dashboards.clone(),
        },
        roots: Roots::telling(vec![device_news, broker_news.clone(), dashboard_news.clone()]),
        verified: Verified::default(),
        images: images(options),
        backoff: Backoff::default(),
        retries: Backoff::default(),
        metrics,
        clock: Arc::new(jiff::Timestamp::now),
    });

    // What was made is known before anything is decided.
    let mut watches = Vec::new();
    watches.push(scope.follow::<Secret>(&children, &owners, &readiness));
    watches.push(scope.follow::<ConfigMap>(&children, &owners, &readiness));
    watches.push(scope.follow::<Service>(&children, &owners, &readiness));
    watches.push(scope.follow::<Deployment>(&children, &owners, &readiness));
    watches.push(scope.follow::<PersistentVolumeClaim>(&children, &owners, &readiness));
    watches.push(scope.follow::<ServiceAccount>(&children, &owners, &readiness));
    watches.push(scope.follow::<Role>(&children, &owners, &readiness));
    watches.push(scope.follow::<RoleBinding>(&children, &owners, &readiness));
    let mut background = pin!(async { futures::join!(join_all(watches), route) }.fuse());
    let synced = pin!(async {
        while !readiness.pending().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    select(&mut background, synced).await;
    tracing::info!("leading: what was made is known, the controllers start");

    // Whoever counts or lists objects of another kind is told when they come and go.
    let (device_count, counted) = mpsc::unbounded();
    let count_devices = coalesce(counted, owners.clone(), roots.clone());
    let dashboards_changed = broker_news;
    let brokers_changed = dashboard_news;
    let devices_changed = device_count;
    let controllers = [
        start(
            &scope,
            &context,
            (roots, root_writer),
            [for_roots, mpsc::unbounded().1],
            root_ca::reconcile,
            |_| {},
        )
        .boxed(),
        start(
            &scope,
            &context,
            (devices, device_writer),
            [for_devices, devices_of_root],
            iot_device::reconcile,
            move |device| {
                let _ = devices_changed.unbounded_send(device.namespace().unwrap_or_default());
            },
        )
        .boxed(),
        start(
            &scope,
            &context,
            (brokers, broker_writer),
            [for_brokers, brokers_of_root],
            mqtt_broker::reconcile,
            move |broker| {
                let _ = brokers_changed.unbounded_send(key_of(broker));
            },
        )
        .boxed(),
        start(
            &scope,
            &context,
            (dashboards, dashboard_writer),
            [for_dashboards, dashboards_of_root],
            dashboard::reconcile,
            move |dashboard| {
                let _ = dashboards_changed.unbounded_send(key_of(dashboard));
            },
        )
        .boxed(),
    ];
    futures::join!(background, join_all(controllers), count_devices);
}

/// One controller. It looks at an object when the object changes, when something it made changes, and when what all of its
/// kind depend on changes; `came_or_went` hears of objects that are new or gone.
async fn start<K, F>(
    scope: &Scope,
    context: &Arc<Context>,
    (reader, writer): (Store<K>, Writer<K>),
    [own, shared]: [Keys; 2],
    reconcile: impl Fn(Arc<K>, Arc<Context>) -> F + Send + Sync + 'static,
    came_or_went: impl Fn(&K) + Send + 'static,
) where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
    K: Looked,
    F: Future<Output = Result<Action, Error>> + Send + 'static,
{
    let watched = Arc::clone(context);
    let objects = watcher(scope.api::<K>(), watcher::Config::default())
        .default_backoff()
        .inspect_ok(move |event| match event {
            watcher::Event::Apply(object) | watcher::Event::InitApply(object) if !object.was_looked_at() => {
                came_or_went(object)
            }
            watcher::Event::Delete(object) => {
                forget(&watched, object);
                came_or_went(object);
            }
            _ => {}
        })
        .reflect(writer)
        .applied_objects()
        .predicate_filter(predicates::generation, PredicateConfig::default());
    let own = own.map(|owner| ObjectRef::new(&owner.name).within(&owner.namespace));
    let all = reader.clone();
    let shared = shared.flat_map(move |owner| {
        let here =
            all.state().into_iter().filter(move |object| object.namespace() == Some(owner.namespace.clone()));
        futures::stream::iter(here.map(|object| ObjectRef::from_obj(&*object)))
    });
    Controller::for_stream(objects, reader)
        .with_config(controller::Config::default().concurrency(CONCURRENCY))
        .reconcile_on(own)
        .reconcile_on(shared)
        .run(
            move |object, context: Arc<Context>| {
                let started = std::time::Instant::now();
                let key = key_of(&*object);
                let work = reconcile(object, Arc::clone(&context));
                async move {
                    let result = work.await;
                    context.metrics.reconciled(&key.kind, started.elapsed(), result.is_ok());
                    if result.is_ok() {
                        context.retries.succeeded(&key);
                    }
                    result
                }
            },
            |object, error, context| {
                let key = key_of(&*object);
                let retry_in = context.retries.failed(&key, RETRY_AFTER);
                let Key { kind, namespace, name } = key;
                tracing::warn!(%kind, %namespace, %name, ?retry_in, "{error}");
                Action::requeue(retry_in)
            },
            Arc::clone(context),
        )
        .for_each(|result| {
            // Failures of reconcilers are told above; what remains is about watches, which go on by themselves.
            if let Err(controller::Error::QueueError(error)) = result {
                tracing::warn!(kind = %K::kind(&()), %error, "watching failed; trying again");
            }
            std::future::ready(())
        })
        .await;
}

/// Whether the operator has looked at an object before.
trait Looked {
    fn was_looked_at(&self) -> bool;
}

impl<K: kube::core::object::HasStatus> Looked for K {
    fn was_looked_at(&self) -> bool {
        self.status().is_some()
    }
}

/// Where to work.
struct Scope {
    client: Client,
    namespace: Option<String>,
}

impl Scope {
    fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    fn metadata_api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(
        &self,
    ) -> Api<PartialObjectMeta<K>> {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    fn follow<'a, K>(
        &self,
        children: &'a Children,
        owners: &mpsc::UnboundedSender<Key>,
        readiness: &Readiness,
    ) -> futures::future::BoxFuture<'a, ()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let what = format!("list of {}s", K::kind(&()));
        readiness.wait_for(&what, "not read yet");
        let readiness = readiness.clone();
        children.follow(self.metadata_api::<K>(), owners.clone(), move || readiness.reached(&what)).boxed()
    }
}

/// An object is gone: so is all that was kept in memory of it.
fn forget<K: Resource<DynamicType = ()>>(context: &Context, object: &K) {
    let Key { kind, namespace, name } = key_of(object);
    context.metrics.forget(&kind, &namespace, &name);
    if kind == self::kind::<RootCA>() {
        context.roots.forget(&namespace, &name);
    }
    context.verified.forget(&namespace, &api::names::owned::<K>(&name));
    context.retries.succeeded(&key_of(object));
    context.backoff.succeeded(&key_of(object));
}

/// Tells every root of a namespace to count its devices, once for many that come or go together.
async fn coalesce(
    mut namespaces: mpsc::UnboundedReceiver<String>,
    owners: mpsc::UnboundedSender<Key>,
    roots: Store<RootCA>,
) {
    while let Some(first) = namespaces.next().await {
        tokio::time::sleep(COUNT_AFTER).await;
        let mut changed = std::collections::BTreeSet::from([first]);
        while let Ok(namespace) = namespaces.try_recv() {
            changed.insert(namespace);
        }
        for root in roots.state() {
            if changed.contains(&root.namespace().unwrap_or_default()) {
                let _ = owners.unbounded_send(key_of(&*root));
            }
        }
    }
}

/// A cluster without our definitions is one that is still being set up: wait, and say so.
async fn wait_for_definitions(client: &Client, namespace: Option<&str>, readiness: &Readiness) {
    async fn wait<K>(client: &Client, namespace: Option<&str>, readiness: &Readiness)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let scope = Scope { client: client.clone(), namespace: namespace.map(str::to_owned) };
        let what = K::plural(&());
        while let Err(error) = scope.api::<K>().list_metadata(&ListParams::default().limit(1)).await {
            let why =
                format!("cannot be listed ({error}); install the definitions with `operator crds --apply`");
            tracing::warn!(kind = %K::kind(&()), "{why}");
            readiness.wait_for(&*what, why);
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        readiness.reached(&what);
    }
    wait::<RootCA>(client, namespace, readiness).await;
    wait::<IotDevice>(client, namespace, readiness).await;
    wait::<MqttBroker>(client, namespace, readiness).await;
    wait::<Dashboard>(client, namespace, readiness).await;
}

fn images(options: &Options) -> Images {
    Images {
        thermometer: options.thermometer_image.clone(),
        dashboard: options.dashboard_image.clone(),
        sidecar: options.sidecar_image.clone(),
        mosquitto: options.mosquitto_image.clone(),
        pull_policy: options.image_pull_policy.clone(),
    }
}

fn kind<K: Resource<DynamicType = ()>>() -> String {
    K::kind(&()).into_owned()
}

fn key_of<K: Resource<DynamicType = ()>>(object: &K) -> Key {
    Key::of::<K>(&object.namespace().unwrap_or_default(), &object.name_any())
}

fn start_log(format: LogFormat) {
    use tracing_subscriber::EnvFilter;
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    match format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
}

fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        futures::future::select(pin!(terminate.recv()), pin!(interrupt.recv())).await;
    })
}
