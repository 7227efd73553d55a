//! Watches everything that the operator writes in a namespace, every version of it, and judges each by the rules that
//! must hold at any moment: during a drill or a test, whatever else that does.
//!
//! The rules are in [`judge`], without a cluster, and are tried there with what breaks them.

mod judge;

use std::{fmt::Debug, pin::Pin, time::Duration};

use anyhow::{Context as _, Result, bail};
use api::{Dashboard, IotDevice, MqttBroker, RootCA, names};
use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::{NamespaceResourceScope, api::core::v1::Secret};
use kube::{
    Api, Resource,
    api::ListParams,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

pub use self::judge::Verdict;
use self::judge::{Judge, Since};
use crate::{Site, figures::Figures};

/// How often it is looked whether a list has lapsed while nothing was written.
const LOOK: Duration = Duration::from_millis(500);

/// One who watches a namespace. See [`Observer::start`].
#[derive(Debug)]
pub struct Observer {
    stop: oneshot::Sender<()>,
    watching: JoinHandle<Result<Judge>>,
    secrets: Api<Secret>,
}

type Events<K> = Pin<Box<dyn Stream<Item = Result<Event<K>, watcher::Error>> + Send>>;

impl Observer {
    /// Starts to watch what the operator makes and reports in the site's namespace; returns when everything that is there
    /// already was looked at.
    pub async fn start(site: &Site) -> Result<Self> {
        let ours = watcher::Config::default().labels(&names::managed_selector());
        let secrets = site.api::<Secret>();
        let watches = Watches {
            secrets: events(secrets.clone(), ours),
            roots: events(site.api::<RootCA>(), watcher::Config::default()),
            devices: events(site.api::<IotDevice>(), watcher::Config::default()),
            brokers: events(site.api::<MqttBroker>(), watcher::Config::default()),
            dashboards: events(site.api::<Dashboard>(), watcher::Config::default()),
        };
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let watching = tokio::spawn(watches.judge(ready, stopped));
        is_ready.await.context("the observer has ended before it began")?;
        Ok(Self { stop, watching, secrets })
    }

    /// Ends it, after a last look at every Secret.
    pub async fn stop(self) -> Result<Verdict> {
        // that it has ended already is told by the task itself
        let _ = self.stop.send(());
        let mut judge = self.watching.await??;
        let ours = ListParams::default().labels(&names::managed_selector());
        for secret in self.secrets.list(&ours).await?.items {
            judge.secret(&secret, Since::Earlier, Timestamp::now());
        }
        Ok(judge.verdict())
    }
}

impl Verdict {
    /// Puts it into a drill's table.
    pub fn figure(&self, figures: &mut Figures) {
        figures.bounded(
            format_args!("observer: versions of Secrets looked at ({})", self.looked_at()),
            "≥ 1",
            self.secrets,
            self.secrets > 0 && self.certificates > 0,
        );
        figures.bounded(
            "observer: leaf that outlives its root, foreign key, shared DN, CRL number gone back, lapsed CRL, missing \
             CRL, serial used twice, certificate stored when due",
            0,
            self.violations.len(),
            self.violations.is_empty(),
        );
        for violation in self.violations.iter().take(20) {
            figures.note("observer", violation);
        }
    }

    /// An error when anything was found, or nothing was looked at.
    pub fn check(&self) -> Result<()> {
        if self.secrets == 0 || self.certificates == 0 {
            bail!("the observer has seen nothing: {}", self.looked_at());
        }
        if self.violations.is_empty() { Ok(()) } else { bail!("{}", self.violations.join("\n")) }
    }
}

fn events<K>(api: Api<K>, config: watcher::Config) -> Events<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    // the API server may be stopped meanwhile
    watcher(api, config).default_backoff().boxed()
}

struct Watches {
    secrets: Events<Secret>,
    roots: Events<RootCA>,
    devices: Events<IotDevice>,
    brokers: Events<MqttBroker>,
    dashboards: Events<Dashboard>,
}

impl Watches {
    async fn judge(
        mut self,
        ready: oneshot::Sender<()>,
        mut stopped: oneshot::Receiver<()>,
    ) -> Result<Judge> {
        const KINDS: usize = 5;
        let mut judge = Judge::default();
        let mut ready = Some(ready);
        let mut listed = 0;
        let mut clock = interval(LOOK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let is_listed = tokio::select! {
                _ = &mut stopped => return Ok(judge),
                _ = clock.tick() => { judge.clock(Timestamp::now()); false }
                Some(event) = self.secrets.next() => note(&mut judge, event, |judge, event| match event {
                    Seen::There(secret, since) => judge.secret(&secret, since, Timestamp::now()),
                    Seen::Gone(secret) => judge.gone(&secret),
                }),
                Some(event) = self.roots.next() => note(&mut judge, event, |judge, event| {
                    if let Seen::There(root, _) = event { judge.root(&root) }
                }),
                Some(event) = self.devices.next() => note(&mut judge, event, |judge, event| {
                    if let Seen::There(device, _) = event { judge.holder(&device, Timestamp::now()) }
                }),
                Some(event) = self.brokers.next() => note(&mut judge, event, |judge, event| {
                    if let Seen::There(broker, _) = event {
                        judge.holder(&broker, Timestamp::now());
                        judge.loaded(&broker);
                    }
                }),
                Some(event) = self.dashboards.next() => note(&mut judge, event, |judge, event| {
                    if let Seen::There(dashboard, _) = event { judge.holder(&dashboard, Timestamp::now()) }
                }),
                else => bail!("the watches have ended"),
            };
            listed += usize::from(is_listed);
            if listed >= KINDS
                && let Some(ready) = ready.take()
            {
                let _ = ready.send(());
            }
        }
    }
}

enum Seen<K> {
    There(K, Since),
    Gone(K),
}

/// Hands over what has happened; says whether that was the end of a list.
fn note<K>(
    judge: &mut Judge,
    event: Result<Event<K>, watcher::Error>,
    mut each: impl FnMut(&mut Judge, Seen<K>),
) -> bool {
    match event {
        Ok(Event::Apply(object)) => each(judge, Seen::There(object, Since::Now)),
        Ok(Event::InitApply(object)) => each(judge, Seen::There(object, Since::Earlier)),
        Ok(Event::Delete(object)) => each(judge, Seen::Gone(object)),
        Ok(Event::InitDone) => return true,
        Ok(Event::Init) => {}
        Err(_) => judge.interrupted(),
    }
    false
}
