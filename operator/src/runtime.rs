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
use futures::FutureExt as _;
use futures::channel::oneshot;
use futures::future::{BoxFuture, Either, join_all, select};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector;
use kube::{Api, Client, Resource};
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::certificate::Verified;
use crate::children::Children;
use crate::cli::{LogFormat, Options};
use crate::cluster::Cluster;
use crate::context::{Backoff, Clock, Context, Objects, Waiting};
use crate::error::in_short;
use crate::events::{Events, Writer};
use crate::fleet::Fleet;
use crate::http::{self, Readiness};
use crate::lease::Election;
use crate::metrics::Metrics;
use crate::process::ProcessMetrics;
use crate::publication::Publication;
use crate::roots::Roots;
use crate::triggers::Triggers;
use crate::workloads::Images;
use crate::{controller, dashboard, departures, iot_device, mqtt_broker, root_ca};

/// How long Events are still written when all else has ended.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT, or until the lease is lost.
pub async fn run(options: Options) -> anyhow::Result<()> {
    start_log(options.log_format);
    let client =
        Client::try_default().await.context("no way to reach a cluster: set KUBECONFIG, or run in a pod")?;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    registry.register_collector(Box::new(ProcessMetrics));
    let readiness = Readiness::default();
    readiness.wait_for("start", "starting");

    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("cannot listen on {}: choose another --listen", options.listen))?;
    tracing::info!(address = %options.listen, "serving /healthz, /readyz and /metrics");
    tokio::spawn(axum::serve(listener, http::routes(readiness.clone(), registry)).into_future());

    let listener = TcpListener::bind(options.publish)
        .await
        .with_context(|| format!("cannot listen on {}: choose another --publish", options.publish))?;
    tracing::info!(address = %options.publish, "serving /crl and /roots");
    let publication = Publication::new(client.clone(), options.namespace.clone());
    tokio::spawn(axum::serve(listener, publication.routes()).into_future());

    let election = Election::new(client.clone(), &options.lease_namespace, &options.identity);
    let (events, mut writer) = Events::new(client.clone(), options.identity.clone());
    let lead = async {
        wait_for_definitions(&client, options.namespace.as_deref(), &readiness).await;
        // A standby is ready: it has nothing to wait for but its turn.
        readiness.reached("start");
        let events = (events, &mut writer);
        election.lead(control(client.clone(), &options, events, metrics, readiness.clone()).boxed()).await
    };
    // All that is under way ends with a signal, and what it leaves is finished by whoever leads next.
    if let Either::Left(_) = select(Box::pin(lead), pin!(stop_signal()?)).await {
        anyhow::bail!("the lease was lost: ending, so that only its holder writes");
    }
    election.release().await;
    // What takes longer is lost.
    let _ = timeout(LAST_WORDS, writer.catch_up()).await;
    tracing::info!("stopped");
    Ok(())
}

/// Watches and controllers, for as long as this replica leads.
async fn control(
    client: Client,
    options: &Options,
    (events, writer): (Events, &mut Writer),
    metrics: Metrics,
    readiness: Readiness,
) {
    metrics.leads(true);
    let scope = Scope { client: client.clone(), namespace: options.namespace.clone() };
    let (triggers, queues) = Triggers::new();
    let children = Arc::new(Children::default());
    let (roots, devices) = (reflector::store(), reflector::store());
    let (brokers, dashboards) = (reflector::store(), reflector::store());
    let clock: Clock = Arc::new(jiff::Timestamp::now);
    let context = Arc::new(Context {
        cluster: Cluster::new(client, events, Arc::clone(&children), Arc::clone(&clock)),
        children: Arc::clone(&children),
        objects: Objects::new(roots.0.clone(), devices.0.clone(), brokers.0.clone(), dashboards.0.clone()),
        roots: Roots::new(triggers.clone()),
        fleet: Arc::new(Fleet::new(triggers.clone(), Fleet::connect())),
        crl_url: options.crl_url.clone(),
        triggers: triggers.clone(),
        verified: Verified::default(),
        images: images(options),
        backoff: Backoff::default(),
        retries: Backoff::default(),
        waiting: Waiting::default(),
        metrics,
        clock,
    });

    // What was made is known before anything is decided.
    let (watches, synced): (Vec<_>, Vec<_>) = [
        scope.follow::<Secret>(&children, &triggers, &readiness),
        scope.follow::<ConfigMap>(&children, &triggers, &readiness),
        scope.follow::<Service>(&children, &triggers, &readiness),
        scope.follow::<Deployment>(&children, &triggers, &readiness),
        scope.follow::<PersistentVolumeClaim>(&children, &triggers, &readiness),
        scope.follow::<ServiceAccount>(&children, &triggers, &readiness),
        scope.follow::<Role>(&children, &triggers, &readiness),
        scope.follow::<RoleBinding>(&children, &triggers, &readiness),
    ]
    .into_iter()
    .unzip();
    let (watches, synced) = (pin!(join_all(watches)), pin!(join_all(synced)));
    let Either::Right((_, watches)) = select(watches, synced).await else { return };
    tracing::info!("leading: what was made is known, the controllers start");
    let what = "what users wrote";
    readiness.wait_for(what, "not read yet");
    let ready = async {
        context.objects.are_read().await;
        readiness.reached(what);
    };

    futures::join!(
        watches,
        ready,
        writer.run(),
        triggers.wake_roots(queues.counts, queues.revocations),
        departures::run(Arc::clone(&context), queues.departures),
        controller::run(scope.api(), &context, roots, queues.roots, root_ca::reconcile),
        controller::run(scope.api(), &context, devices, queues.devices, iot_device::reconcile),
        controller::run(scope.api(), &context, brokers, queues.brokers, mqtt_broker::reconcile),
        controller::run(scope.api(), &context, dashboards, queues.dashboards, dashboard::reconcile),
    );
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

    /// The watch of what was made of a kind, and a signal that it has been read once.
    fn follow<'a, K>(
        &self,
        children: &'a Children,
        triggers: &'a Triggers,
        readiness: &Readiness,
    ) -> (BoxFuture<'a, ()>, oneshot::Receiver<()>)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let what = format!("list of {}", K::plural(&()));
        readiness.wait_for(&what, "not read yet");
        let readiness = readiness.clone();
        let (synced, signal) = oneshot::channel();
        let watch = children.follow(self.api::<PartialObjectMeta<K>>(), triggers, move || {
            readiness.reached(&what);
            // Nobody waits any more when the process is about to end.
            let _ = synced.send(());
        });
        (watch.boxed(), signal)
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
            let problem = in_short(&error);
            let why = match error {
                kube::Error::Api(answer) if answer.code == 404 => {
                    format!(
                        "cannot be listed ({problem}): install the definitions with `operator crds --apply`"
                    )
                }
                _ => format!("cannot be listed: {problem}"),
            };
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

/// Unless `RUST_LOG` says otherwise. What kube's client says of a failure is said again by whoever asked, with what for; and of an answer
/// that it does not understand it says all of it, which may be a Secret.
const LOGGED: &str = "info,kube_runtime=warn,kube_client=off";

fn start_log(format: LogFormat) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOGGED));
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
