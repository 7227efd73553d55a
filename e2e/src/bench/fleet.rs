//! A user with many devices: writes them, and watches until all are Ready.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use api::{CertificateHolder as _, IotDevice};
use futures::{StreamExt as _, TryStreamExt as _, future::try_join, stream};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;
use tokio::{sync::oneshot, time::timeout};

use super::{AT_ONCE, device, device_name};
use crate::{Site, site::Reported as _};

/// On every device of a bench.
pub(super) const LABEL: &str = "ca-iot.dev/bench";

/// How long all of it may take before something must be wrong.
const PATIENCE: Duration = Duration::from_mins(10);

/// Many devices.
pub(super) struct Fleet {
    devices: Api<IotDevice>,
}

/// How a renewal of all went.
pub(super) struct Renewed {
    /// From the first trigger to the last Ready.
    pub(super) took: Duration,
    /// How many devices were seen not to be Ready meanwhile.
    pub(super) unready: usize,
}

impl Fleet {
    pub(super) fn of(site: &Site) -> Self {
        Self { devices: site.api() }
    }

    /// From the first create to the last Ready.
    pub(super) async fn enrol(&self, count: usize) -> Result<Duration> {
        let (listening, started) = oneshot::channel();
        let write = async {
            started.await?;
            let from = Instant::now();
            self.all(count, |devices, number| async move {
                devices.create(&PostParams::default(), &device(number)).await?;
                Ok(())
            })
            .await?;
            Ok(from)
        };
        let is_ready = |device: &IotDevice| device.is_ready();
        let (from, until) = try_join(write, self.watch(count, listening, is_ready, |_| ())).await?;
        Ok(until - from)
    }

    /// From the first trigger to the last new certificate that is Ready.
    pub(super) async fn renew(&self, count: usize, trigger: &str) -> Result<Renewed> {
        let ours = ListParams::default().labels(LABEL);
        let serial =
            |device: &IotDevice| Some(device.holder_status()?.certificate.as_ref()?.serial_number.clone());
        let before: HashMap<String, Option<String>> = self
            .devices
            .list(&ours)
            .await?
            .iter()
            .map(|device| (device.name_any(), serial(device)))
            .collect();
        ensure!(before.len() == count, "there are {} devices", before.len());

        let (listening, started) = oneshot::channel();
        let write = async {
            started.await?;
            let from = Instant::now();
            let trigger = trigger.to_owned();
            self.all(count, move |devices, number| {
                let spec = json!({"spec": {"renewal": {"trigger": trigger.clone()}}});
                async move {
                    let params = PatchParams::default();
                    devices.patch(&device_name(number), &params, &Patch::Merge(spec)).await?;
                    Ok(())
                }
            })
            .await?;
            Ok(from)
        };
        let is_new = |device: &IotDevice| {
            device.is_ready() && before.get(&device.name_any()).is_none_or(|old| *old != serial(device))
        };
        let mut unready = HashSet::new();
        let note = |device: &IotDevice| {
            // in force, whatever generation it was told of
            if !api::conditions::holds(device.conditions(), api::conditions::READY) {
                unready.insert(device.name_any());
            }
        };
        let (from, until) = try_join(write, self.watch(count, listening, is_new, note)).await?;
        Ok(Renewed { took: until - from, unready: unready.len() })
    }

    /// Watches until `holds` has held of `count` devices; says when it has begun, and returns when that was.
    async fn watch(
        &self,
        count: usize,
        listening: oneshot::Sender<()>,
        holds: impl Fn(&IotDevice) -> bool,
        mut note: impl FnMut(&IotDevice),
    ) -> Result<Instant> {
        let (mut listening, mut done) = (Some(listening), HashSet::new());
        let all = async {
            let changes = watcher(self.devices.clone(), watcher::Config::default().labels(LABEL));
            let mut changes = pin!(changes.default_backoff());
            while let Some(change) = changes.try_next().await? {
                match change {
                    watcher::Event::InitDone => {
                        if let Some(listening) = listening.take() {
                            let _ = listening.send(());
                        }
                    }
                    watcher::Event::Apply(device) | watcher::Event::InitApply(device) => {
                        note(&device);
                        if holds(&device) {
                            done.insert(device.name_any());
                        }
                    }
                    watcher::Event::Init | watcher::Event::Delete(_) => {}
                }
                if done.len() == count {
                    return Ok(Instant::now());
                }
            }
            anyhow::bail!("the watch ended")
        };
        let outcome = timeout(PATIENCE, all).await;
        outcome.with_context(|| format!("{} of {count} after {} s", done.len(), PATIENCE.as_secs()))?
    }

    /// Does `work` for all, [`AT_ONCE`] at a time.
    async fn all<F>(
        &self,
        count: usize,
        work: impl Fn(Api<IotDevice>, usize) -> F + Send + 'static,
    ) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        stream::iter(0..count)
            .map(|number| tokio::spawn(work(self.devices.clone(), number)))
            .buffer_unordered(AT_ONCE)
            .map(|done| done?)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    }
}
