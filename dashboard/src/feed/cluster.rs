//! The Kubernetes side: watches the four kinds and their events in one namespace, and asks whether they can still be
//! read.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use api::{Dashboard, IotDevice, MqttBroker, RootCA};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Event as KubeEvent;
use kube::api::ListParams;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;

use super::convert;
use crate::live::Live;
use crate::state::SourceName;
use crate::state::holder::{Holder, HolderId, Kind};

/// How often the API server is asked for one object of each kind: an outage is on the page within this time.
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBE_TIMEOUT: Duration = Duration::from_secs(4);

/// Follows the cluster until the end of the process.
pub async fn follow(live: Arc<Live>, config: Config, namespace: String) {
    let client = match Client::try_from(config) {
        Ok(client) => client,
        Err(error) => {
            let problem = format!("no client for the API server can be made: {error}");
            tracing::error!(%problem);
            live.with(|state| state.source_down(SourceName::Api, problem, Timestamp::now()));
            return;
        }
    };
    tokio::join!(
        follow_kind::<RootCA>(&live, &client, &namespace, Kind::RootCA, convert::root_ca),
        follow_kind::<MqttBroker>(&live, &client, &namespace, Kind::MqttBroker, convert::mqtt_broker),
        follow_kind::<Dashboard>(&live, &client, &namespace, Kind::Dashboard, convert::dashboard),
        follow_kind::<IotDevice>(&live, &client, &namespace, Kind::IotDevice, convert::iot_device),
        follow_events(&live, &client, &namespace),
        probe(&live, &client, &namespace),
    );
}

/// What a kind has to be for all this.
trait Watched:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static
{
}
impl<K> Watched for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static
{
}

async fn follow_kind<K: Watched>(
    live: &Live,
    client: &Client,
    namespace: &str,
    kind: Kind,
    holder: fn(&K) -> Holder,
) {
    let api = Api::<K>::namespaced(client.clone(), namespace);
    let mut events = watch(api, watcher::Config::default()).default_backoff().boxed();
    let mut listed = Vec::new();
    // The watcher never ends; it recovers by itself.
    while let Some(event) = events.next().await {
        let now = Timestamp::now();
        match event {
            Ok(event) => live.with(|state| {
                state.followed(kind, Ok(()), now);
                match event {
                    Event::Init => listed.clear(),
                    Event::InitApply(object) => listed.push(holder(&object)),
                    Event::InitDone => state.holders_listed(kind, std::mem::take(&mut listed)),
                    Event::Apply(object) => state.holder_applied(holder(&object)),
                    Event::Delete(object) => {
                        let name = object.meta().name.clone().unwrap_or_default();
                        state.holder_deleted(&HolderId::new(kind, name));
                    }
                }
            }),
            Err(error) => {
                tracing::warn!(kind = kind.as_str(), %error, "the watch is interrupted and starts again");
                let problem = watch_problem(&K::kind(&()), &K::plural(&()), namespace, &error);
                live.with(|state| state.followed(kind, Err(problem), now));
            }
        }
    }
}

/// Events of the four kinds; what the API server forgets after an hour stays here.
async fn follow_events(live: &Live, client: &Client, namespace: &str) {
    let api = Api::<KubeEvent>::namespaced(client.clone(), namespace);
    let ours = format!("involvedObject.apiVersion={}", RootCA::api_version(&()));
    let mut events = watch(api, watcher::Config::default().fields(&ours)).default_backoff().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init | Event::Delete(_)) => {}
            Ok(Event::InitDone) => live.with(|state| state.events_readable(None)),
            Ok(Event::InitApply(event) | Event::Apply(event)) => {
                if let Some((id, event)) = convert::event(&event) {
                    live.with(|state| state.happened(id, event));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "events are not followed, which is tried again");
                let problem = watch_problem("Event", "events", namespace, &error);
                live.with(|state| state.events_readable(Some(problem)));
            }
        }
    }
}

/// A watch that is merely quiet looks like one whose server is gone, so the server is asked.
async fn probe(live: &Live, client: &Client, namespace: &str) {
    let mut every = tokio::time::interval(PROBE_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let result = tokio::try_join!(
            readable::<RootCA>(client, namespace),
            readable::<MqttBroker>(client, namespace),
            readable::<Dashboard>(client, namespace),
            readable::<IotDevice>(client, namespace),
        );
        let now = Timestamp::now();
        live.with(|state| state.probed(result.map(drop), now));
    }
}

async fn readable<K: Watched>(client: &Client, namespace: &str) -> Result<(), String> {
    let api = Api::<K>::namespaced(client.clone(), namespace);
    let one = ListParams::default().limit(1);
    match tokio::time::timeout(PROBE_TIMEOUT, api.list_metadata(&one)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(problem(&K::kind(&()), &K::plural(&()), namespace, &error)),
        Err(_) => Err(format!("no answer within {} s", PROBE_TIMEOUT.as_secs())),
    }
}

/// The same of a watch.
fn watch_problem(kind: &str, plural: &str, namespace: &str, error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => problem(kind, plural, namespace, error),
        other => format!("{plural} cannot be followed: {other}"),
    }
}

/// What to do about it, as far as the error tells.
fn problem(kind: &str, plural: &str, namespace: &str, error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            format!("the dashboard's ServiceAccount may not list {plural} in namespace {namespace}")
        }
        kube::Error::Api(status) if status.code == 404 => {
            format!("the kind {kind} is not installed; `operator crds --apply` installs it")
        }
        kube::Error::Api(status) => status.message.clone(),
        kube::Error::SerdeError(error) => {
            format!("a {kind} cannot be understood ({error}): is the operator newer than this dashboard?")
        }
        other => {
            let mut cause: &dyn std::error::Error = other;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            format!("unreachable: {cause}")
        }
    }
}
