//! A broker that is down, or that lags behind: certificates are renewed all the same, and what devices wanted to say is said
//! afterwards.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use api::{CertificateHolder as _, IotDevice, MqttBroker, RootCA, conditions};
use e2e::{
    Site,
    environment::drill_time,
    figures::{Figures, Times, figures, time},
    fleet::{Device, Secrets},
    listener::Listener,
    observer::Observer,
    operator_pod::is_ready,
    patience::eventually,
    site,
    site::{PATIENCE, Reported as _},
};
use futures::{Stream, StreamExt as _, future::join_all};
use jiff::Timestamp;
use kube::{
    ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::{crowd::enrol, interference::while_volumes_lag};

const DEVICES: usize = 10;
const INTERVAL: Duration = Duration::from_secs(1);

/// Two thirds of it, and a little jitter earlier: a renewal every 80 s at the latest.
const DURATION: &str = "2m";
const RENEWED_WITHIN: Duration = Duration::from_secs(85);

/// How late a renewal may be that nothing stands in the way of.
const LATE: Duration = Duration::from_secs(5);

/// A kubelet looks after its volumes once a minute or so.
const LOADED_WITHIN: Duration = Duration::from_secs(100);

/// A listener that hears nothing for so long has heard all there was.
const SILENT: Duration = Duration::from_mins(1);

/// What nobody can pull: the pods of the broker wait for it.
const NO_SUCH_IMAGE: &str = "ca-iot/no-such-broker:0";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a drill: cargo xtask drill outage"]
async fn renewal_goes_on_while_the_broker_is_down() -> Result<()> {
    site("outage", async |site| {
        figures("A broker that is down", async |figures| {
            let observer = Observer::start(site).await?;
            let scene = Scene::set(site).await?;
            let mut down = broker_spec();
            down["image"] = NO_SUCH_IMAGE.into();
            site.apply::<MqttBroker>("mosquitto", site.broker_spec(down)).await?;
            eventually("no pod of the broker is ready", PATIENCE, async || {
                let pods = site.pods::<MqttBroker>("mosquitto").await?;
                Ok(pods.iter().all(|pod| !is_ready(pod)).then_some(()))
            })
            .await?;

            let outage = drill_time(Duration::from_mins(4))?;
            let from = Instant::now();
            let seen = Renewals::watch(site).until(from + outage).await?;
            let still_down = site.pods::<MqttBroker>("mosquitto").await?.iter().all(|pod| !is_ready(pod));
            ensure!(still_down, "the broker came back by itself: this was no outage");
            figures.note("the broker was down for", time(from.elapsed()));
            seen.figures(figures, outage)?;
            in_date_figure(site, figures).await?;

            let back = Instant::now();
            site.apply::<MqttBroker>("mosquitto", site.broker_spec(broker_spec())).await?;
            site.wait("mosquitto", PATIENCE, "served again", serves_its_newest).await?;
            figures.note(
                "from the mended spec until the broker serves its newest certificate",
                time(back.elapsed()),
            );
            scene.loss_figures(figures).await?;
            observer.stop().await?.figure(figures);
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a drill: cargo xtask drill outage"]
async fn renewal_goes_on_while_the_brokers_volume_lags() -> Result<()> {
    site("lag", async |site| {
        figures("A broker whose Secret volume lags", async |figures| {
            let observer = Observer::start(site).await?;
            let scene = Scene::set(site).await?;
            let before = site.ready::<MqttBroker>("mosquitto").await?;
            let lag = drill_time(Duration::from_mins(2))?;
            let (from, seen) = while_volumes_lag(site, async || {
                let from = Instant::now();
                Ok((from, Renewals::watch(site).until(from + lag).await?))
            })
            .await?;
            figures.note("nothing was brought to any volume for", time(from.elapsed()));
            seen.figures(figures, lag)?;
            let own = |broker: &MqttBroker| {
                broker
                    .holder_status()
                    .and_then(|status| status.certificate.clone())
                    .map(|own| own.serial_number)
            };
            let renewed = own(&site.api::<MqttBroker>().get("mosquitto").await?) != own(&before);
            figures.bounded("the broker's own certificate was renewed meanwhile", "yes", renewed, renewed);
            in_date_figure(site, figures).await?;

            let back = Instant::now();
            site.wait("mosquitto", PATIENCE, "in step again", serves_its_newest).await?;
            figures.at_most("until the broker serves its newest certificate", LOADED_WITHIN, back.elapsed());
            scene.loss_figures(figures).await?;
            observer.stop().await?.figure(figures);
            Ok(())
        })
        .await
    })
    .await
}

/// A broker with short certificates, and devices that talk.
struct Scene {
    listener: Listener,
    devices: Vec<Device>,
    _secrets: Secrets,
}

impl Scene {
    async fn set(site: &Site) -> Result<Self> {
        site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "drill"}})).await?;
        site.apply::<MqttBroker>("mosquitto", site.broker_spec(broker_spec())).await?;
        let names: Vec<_> = (1..=DEVICES).map(|number| format!("device{number:03}")).collect();
        enrol(site, &names, &json!({"duration": DURATION})).await?;
        enrol(site, &["watcher".to_owned()], &json!({})).await?;
        site.ready::<MqttBroker>("mosquitto").await?;
        let address = site.broker_address("mosquitto").await?;
        let secrets = Secrets::follow(site);
        let watcher = secrets.device(address.clone(), "watcher").await?;
        let listener = Listener::open(watcher, Duration::from_hours(1)).await?;
        let mut devices = Vec::new();
        for name in &names {
            devices.push(Device::start(name, &address, &secrets, INTERVAL).await?);
        }
        eventually("everybody is heard", PATIENCE, async || {
            Ok(names.iter().all(|name| listener.last_reading(name).is_some()).then_some(()))
        })
        .await?;
        Ok(Self { listener, devices, _secrets: secrets })
    }

    /// What was queued meanwhile is said afterwards.
    async fn loss_figures(&self, figures: &mut Figures) -> Result<()> {
        eventually("every device is connected again", PATIENCE, async || {
            Ok(self.devices.iter().all(Device::is_connected).then_some(()))
        })
        .await?;
        let unsent: usize =
            join_all(self.devices.iter().map(|device| device.finish(PATIENCE))).await.iter().sum();
        let missing = || {
            let of = |device: &Device| {
                let (first, last) = device.sent().unwrap_or_default();
                self.listener.voice(&device.name).missing(first, last)
            };
            self.devices.iter().map(of).sum::<u64>()
        };
        // Mosquitto passes on what it has saved at some hundred a second: as long as something comes, there is more to come
        let (from, mut progress) = (Instant::now(), (missing(), Instant::now()));
        while progress.0 > 0 && progress.1.elapsed() < SILENT {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = missing();
            if now < progress.0 {
                progress = (now, Instant::now());
            }
        }
        figures.note("from the last one that was sent until all were heard", time(from.elapsed()));
        let readings: u64 =
            self.devices.iter().filter_map(Device::sent).map(|(first, last)| last + 1 - first).sum();
        let dropped: u64 = self.devices.iter().map(Device::dropped).sum();
        figures.note("readings, most of them while nobody took them", readings);
        figures.exactly("readings missing in the end", 0, missing());
        figures.exactly("readings unsent or dropped from a queue", 0, unsent as u64 + dropped);
        Ok(())
    }
}

fn broker_spec() -> Value {
    let access = json!([{"name": "watcher", "read": ["devices/#"]}]);
    json!({"duration": DURATION, "storage": {"size": "100Mi"}, "access": access})
}

/// Whether it runs, with the certificate that was issued last.
fn serves_its_newest(broker: &MqttBroker) -> bool {
    let status = broker.status.as_ref();
    let loaded = status.and_then(|status| status.loaded.as_ref());
    let own = status.and_then(|status| status.holder.certificate.as_ref());
    broker.is_ready() && loaded.map(|loaded| &loaded.serial_number) == own.map(|own| &own.serial_number)
}

async fn in_date_figure(site: &Site, figures: &mut Figures) -> Result<()> {
    let broker = site.api::<MqttBroker>().get("mosquitto").await?;
    let own = broker.holder_status().and_then(|status| status.certificate.clone());
    let left = own.context("the broker has no certificate")?.not_after.0.duration_since(Timestamp::now());
    let words = format!("{} s left", left.as_secs());
    figures.bounded(
        "the broker's own certificate, in its Secret, is in date",
        "yes",
        words,
        left.is_positive(),
    );
    Ok(())
}

/// What was seen of all devices' renewals.
struct Renewals {
    changes: Pin<Box<dyn Stream<Item = Result<IotDevice, watcher::Error>> + Send>>,
    devices: BTreeMap<String, Seen>,
}

impl Renewals {
    fn watch(site: &Site) -> Self {
        let changes = watcher(site.api::<IotDevice>(), watcher::Config::default());
        let changes = changes.default_backoff().applied_objects();
        Self { changes: changes.boxed(), devices: BTreeMap::new() }
    }

    async fn until(mut self, deadline: Instant) -> Result<Self> {
        while let Ok(change) = timeout_at(deadline, self.changes.next()).await {
            let Some(device) = change else { bail!("the watch has ended") };
            let device = device?;
            if device.name_any() != "watcher" {
                self.devices.entry(device.name_any()).or_default().note(&device);
            }
        }
        Ok(self)
    }

    fn figures(&self, figures: &mut Figures, watched: Duration) -> Result<()> {
        let expected = usize::try_from(watched.as_secs() / RENEWED_WITHIN.as_secs())?;
        let renewals = |seen: &Seen| seen.serials.len().saturating_sub(1);
        let fewest = self.devices.values().map(renewals).min().unwrap_or(0);
        let late: Times = self.devices.values().flat_map(|seen| seen.late.clone()).collect();
        let trouble: usize = self.devices.values().map(|seen| seen.unready + seen.overdue).sum();
        figures.exactly("devices seen", DEVICES, self.devices.len());
        figures.bounded(
            format_args!("renewals of each device ({DURATION} certificates), fewest"),
            format_args!("≥ {expected}"),
            fewest,
            fewest >= expected,
        );
        figures.at_most("a renewal after its time, longest", LATE, late.longest()?);
        figures.exactly("devices not Ready, or RenewalOverdue, at any moment", 0, trouble);
        Ok(())
    }
}

/// What was seen of one device.
#[derive(Default)]
struct Seen {
    serials: BTreeSet<String>,
    due: Option<Timestamp>,
    late: Vec<Duration>,
    unready: usize,
    overdue: usize,
}

impl Seen {
    fn note(&mut self, device: &IotDevice) {
        let Some(status) = &device.status else { return };
        let Some(certificate) = &status.certificate else { return };
        self.unready += usize::from(!conditions::holds(&status.conditions, conditions::READY));
        self.overdue += usize::from(conditions::holds(&status.conditions, conditions::RENEWAL_OVERDUE));
        let renewed = self.serials.insert(certificate.serial_number.clone());
        if renewed && let Some(due) = self.due {
            let late = Timestamp::now().duration_since(due);
            self.late.push(Duration::try_from(late).unwrap_or_default());
        }
        self.due = Some(certificate.renewal_time.0);
    }
}
