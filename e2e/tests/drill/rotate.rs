//! A root is replaced under a fleet that talks all the time: nothing is lost, whatever is killed meanwhile, and in the end
//! the old root is nobody's.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use api::{IotDevice, MqttBroker, RootCA, RotationPhase, RotationStatus};
use e2e::{
    Identity, Site,
    figures::{Figures, figures, time},
    fleet::{Device, Secrets},
    listener::Listener,
    observer::Observer,
    patience::eventually,
    site,
    site::{PATIENCE, Reported as _},
    stubborn::{Answer, knock},
};
use futures::{StreamExt as _, future::join_all};
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::{
    ResourceExt,
    api::ListParams,
    runtime::{WatchStreamExt as _, watcher},
};
use link::BrokerAddress;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{crowd::enrol, interference::Interference, stock::Stock};

/// Thermometers in this process and in pods of their own.
const IN_PROCESS: usize = 27;
const IN_PODS: usize = 3;

/// Clients that never acknowledge anything.
const STOCK: usize = 3;

const INTERVAL: Duration = Duration::from_millis(200);

/// How long the rotation waits for them.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_mins(1);
/// How much later it may move on.
const GRACE: Duration = Duration::from_secs(30);

/// How long all of it may take, whatever is done to it.
const DONE_WITHIN: Duration = Duration::from_mins(15);

/// With `distrustNow`: until the old root is refused everywhere.
const DISTRUSTED_WITHIN: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a drill: cargo xtask drill rotate"]
async fn undisturbed_a_root_is_replaced_and_nothing_is_lost() -> Result<()> {
    replace("rotate", "A root replaced under 30 thermometers and 3 stock clients", Interference::None).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a drill: cargo xtask drill rotate"]
async fn the_operator_is_killed_in_every_phase() -> Result<()> {
    replace("rotate-killed", "The same, the operator killed in every phase", Interference::KillOperator).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a drill: cargo xtask drill rotate"]
async fn the_broker_pod_is_deleted_in_every_phase() -> Result<()> {
    replace("rotate-broker", "The same, the broker's pod deleted in every phase", Interference::DeleteBroker)
        .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a drill: cargo xtask drill rotate"]
async fn the_api_server_is_stopped_for_a_minute() -> Result<()> {
    replace("rotate-api", "The same, the API server stopped for 60 s", Interference::StopApiServer).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a drill: cargo xtask drill rotate"]
async fn a_leaked_root_is_distrusted_within_a_minute() -> Result<()> {
    site("distrust", async |site| {
        figures("A leaked root (distrustNow) under 30 devices that acknowledge", async |figures| {
            let observer = Observer::start(site).await?;
            let scene = Scene::set(site, 30, 0, 0).await?;
            let thief = scene.copy_of(site, "device001").await?;
            let leaked = site.root_key("root-ca").await?;
            ensure!(knock(&scene.broker, &thief).await? == Answer::Accepted, "the thief is refused already");

            let from = Instant::now();
            patch(site, &json!({"trigger": "leak", "distrustNow": true})).await?;
            let refused = eventually("the old root is refused", DONE_WITHIN, async || {
                Ok(matches!(knock(&scene.broker, &thief).await?, Answer::Refused(_)).then(|| from.elapsed()))
            })
            .await?;
            let dropped = eventually("no device trusts the old root", DONE_WITHIN, async || {
                let old = leaked.certificate().fingerprint();
                let trusting = |name: &str| {
                    let said = scene.listener.voice(name).acknowledgement;
                    said.is_none_or(|said| said.roots.contains(&old))
                };
                Ok((!scene.names.iter().any(|name| trusting(name))).then(|| from.elapsed()))
            })
            .await?;
            figures.at_most("from kubectl patch until the broker refuses it", DISTRUSTED_WITHIN, refused);
            figures.at_most("until every device has acknowledged without it", DISTRUSTED_WITHIN, dropped);
            let done = finished(site, DONE_WITHIN).await?;
            figures.note("until the replacement was over", time(done.duration_since(from)));
            let forged = forge(site, &scene, &leaked).await?;
            figures.bounded(
                "a certificate made with the leaked key",
                "refused",
                format_args!("{:?}", knock(&scene.broker, &forged).await?),
                matches!(knock(&scene.broker, &forged).await?, Answer::Refused(_)),
            );
            old_key_figure(site, figures, &leaked).await?;
            scene.loss_figures(figures).await?;
            observer.stop().await?.figure(figures);
            Ok(())
        })
        .await
    })
    .await
}

async fn replace(test: &str, subject: &str, interference: Interference) -> Result<()> {
    site(test, async |site| {
        figures(subject, async |figures| {
            let observer = Observer::start(site).await?;
            let scene = Scene::set(site, IN_PROCESS, IN_PODS, STOCK).await?;
            let old = scene.copy_of(site, "device001").await?;
            let leaked = site.root_key("root-ca").await?;
            let pods = pods(site).await?;

            let from = Instant::now();
            let trigger = json!({"trigger": "drill", "acknowledgeWithin": format!("{}s", ACKNOWLEDGE_WITHIN.as_secs())});
            patch(site, &trigger).await?;
            let story = Story::follow(site, &scene, interference).await?;
            figures.note("from the trigger until it was over", time(from.elapsed()));
            story.figures(figures, interference);

            figures.bounded(
                "a certificate of the old root",
                "refused",
                format_args!("{:?}", knock(&scene.broker, &old).await?),
                matches!(knock(&scene.broker, &old).await?, Answer::Refused(_)),
            );
            old_key_figure(site, figures, &leaked).await?;
            if interference == Interference::None || interference == Interference::StopApiServer {
                let after = self::pods(site).await?;
                let held = after == pods;
                figures.bounded("pods restarted or replaced", 0, if held { "0".to_owned() } else { format!("{after:?}") }, held);
            }
            scene.loss_figures(figures).await?;
            if interference == Interference::None {
                scene.stock_figures(figures, story.retiring_at);
                let told = told_phases(site).await?;
                figures.exactly("phases that kubectl describe tells as Events", RotationPhase::ALL.len(), told);
            }
            observer.stop().await?.figure(figures);
            Ok(())
        })
        .await
    })
    .await
}

/// Everybody who takes part.
struct Scene {
    broker: BrokerAddress,
    listener: Listener,
    /// The devices in this process.
    devices: Vec<Device>,
    /// All who acknowledge: those, and those in pods.
    names: Vec<String>,
    in_pods: Vec<String>,
    stock: Vec<Stock>,
    _secrets: Secrets,
}

impl Scene {
    async fn set(site: &Site, in_process: usize, in_pods: usize, stock: usize) -> Result<Self> {
        site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "drill"}})).await?;
        let spec =
            json!({"storage": {"size": "100Mi"}, "access": [{"name": "watcher", "read": ["devices/#"]}]});
        site.apply::<MqttBroker>("mosquitto", site.broker_spec(spec)).await?;
        let numbered = |kind: &str, count| (1..=count).map(|n| format!("{kind}{n:03}")).collect::<Vec<_>>();
        let (names, in_pods, stocks) =
            (numbered("device", in_process), numbered("thermometer", in_pods), numbered("stock", stock));
        let physical: Vec<_> =
            ["watcher".to_owned()].into_iter().chain(names.clone()).chain(stocks.clone()).collect();
        enrol(site, &physical, &json!({})).await?;
        enrol(site, &in_pods, &json!({"thermometer": {"interval": "200ms"}})).await?;
        site.ready::<MqttBroker>("mosquitto").await?;
        let broker = site.broker_address("mosquitto").await?;
        let secrets = Secrets::follow(site);
        // one that acknowledges too, and for which the broker keeps what it misses while the broker itself is started anew
        let watcher = secrets.device(broker.clone(), "watcher").await?;
        let listener = Listener::open(watcher, Duration::from_mins(10)).await?;
        let mut devices = Vec::new();
        for name in &names {
            devices.push(Device::start(name, &broker, &secrets, INTERVAL).await?);
        }
        let mut running = Vec::new();
        for name in stocks {
            let identity = site.identity::<IotDevice>(&name).await?;
            running.push(Stock::start(&name, &broker, &identity, INTERVAL)?);
        }
        let names: Vec<_> = names.into_iter().chain(in_pods.clone()).collect();
        eventually("everybody is heard", PATIENCE, async || {
            let all = names.iter().chain(running.iter().map(|stock| &stock.name));
            Ok(all.map(|name| listener.last_reading(name)).all(|last| last.is_some()).then_some(()))
        })
        .await?;
        Ok(Self { broker, listener, devices, names, in_pods, stock: running, _secrets: secrets })
    }

    /// What a device has in its Secret now, kept when the Secret has moved on.
    async fn copy_of(&self, site: &Site, name: &str) -> Result<Identity> {
        site.identity::<IotDevice>(name).await
    }

    /// Ends the devices, and puts into the table what was lost of them.
    async fn loss_figures(&self, figures: &mut Figures) -> Result<()> {
        let within = Duration::from_secs(30);
        let unsent: usize =
            join_all(self.devices.iter().map(|device| device.finish(within))).await.iter().sum();
        let mut account = BTreeMap::new();
        for device in &self.devices {
            let (first, last) = device.sent().context("a device has not said anything")?;
            account.insert(device.name.clone(), (first, last));
        }
        let missing = |name: &str, (first, last): (u64, u64)| self.listener.voice(name).missing(first, last);
        let settled = eventually("all readings are heard", Duration::from_mins(1), async || {
            Ok(account.iter().all(|(name, sent)| missing(name, *sent) == 0).then_some(()))
        });
        let _ = settled.await;
        let readings: u64 = account.values().map(|(first, last)| last + 1 - first).sum();
        let lost: BTreeMap<_, _> = account
            .iter()
            .map(|(name, sent)| (name, missing(name, *sent)))
            .filter(|(_, lost)| *lost > 0)
            .collect();
        let gaps: u64 = self.in_pods.iter().map(|name| self.listener.voice(name).gaps()).sum();
        let heard: usize = self.in_pods.iter().map(|name| self.listener.voice(name).readings.len()).sum();
        let dropped: u64 = self.devices.iter().map(Device::dropped).sum();
        figures.note(
            "readings at QoS 1, of devices in this process and in pods",
            format_args!("{readings} + {heard}"),
        );
        figures.exactly("readings missing", 0, lost.values().sum::<u64>() + gaps);
        figures.exactly(
            "readings not taken by the broker in the end, or dropped from a queue",
            0,
            unsent as u64 + dropped,
        );
        for (name, lost) in lost.iter().take(5) {
            figures.note(format_args!("missing of {name}"), lost);
        }
        figures.note("sessions of the listener lost", self.listener.losses().len());
        Ok(())
    }

    /// Stock clients have the old files only: what they say counts as long as their root is trusted.
    fn stock_figures(&self, figures: &mut Figures, until: Option<Instant>) {
        let mut missing = 0;
        for stock in &self.stock {
            let (first, last) = stock.sent_before(until);
            missing += self.listener.voice(&stock.name).missing(first, last);
        }
        figures.exactly("readings of stock clients missing, until the old root retires", 0, missing);
    }
}

/// What was told of a replacement while it ran.
#[derive(Default)]
struct Story {
    phases: Vec<(RotationPhase, Instant)>,
    /// The last words of each phase.
    last: BTreeMap<String, RotationStatus>,
    retiring_at: Option<Instant>,
    ended: Option<Instant>,
    interfered: usize,
    columns: Vec<String>,
}

impl Story {
    /// Follows it to its end, and interferes at the beginning of each phase.
    async fn follow(site: &Site, scene: &Scene, interference: Interference) -> Result<Self> {
        let mut story = Self::default();
        let roots =
            watcher(site.api::<RootCA>(), watcher::Config::default()).default_backoff().applied_objects();
        let mut roots = std::pin::pin!(roots);
        let follow = async {
            while let Some(root) = roots.next().await {
                let Ok(root) = root else { continue };
                let Some(status) = &root.status else { continue };
                match &status.rotation {
                    Some(rotation) => {
                        let is_new = story.note(rotation);
                        if is_new && interference.concerns(rotation.phase) {
                            interference.strike(site, "mosquitto").await?;
                            story.interfered += 1;
                        }
                        if is_new && interference == Interference::None {
                            story
                                .columns
                                .push(site.kubectl(&["get", "rootca", "root-ca", "--no-headers"]).await?);
                        }
                    }
                    None if status.active_generation.is_some_and(|active| active > 1) => {
                        story.ended = Some(Instant::now());
                        return Ok(());
                    }
                    None => {}
                }
            }
            bail!("the watch has ended")
        };
        let Ok(outcome) = timeout(DONE_WITHIN, follow).await else {
            let seen: Vec<_> = story.phases.iter().map(|(phase, _)| phase).collect();
            let silent: Vec<_> =
                scene.names.iter().filter(|name| scene.listener.last_reading(name).is_none()).collect();
            bail!(
                "not over within {} s: {seen:?}; {:?}; silent: {silent:?}",
                DONE_WITHIN.as_secs(),
                story.last
            );
        };
        outcome?;
        ensure!(site.ready::<RootCA>("root-ca").await?.is_ready());
        Ok(story)
    }

    /// Says whether a phase has begun.
    fn note(&mut self, rotation: &RotationStatus) -> bool {
        let is_new = self.phases.last().is_none_or(|(phase, _)| *phase != rotation.phase);
        if is_new {
            self.phases.push((rotation.phase, Instant::now()));
            if rotation.phase == RotationPhase::Retiring {
                self.retiring_at = Some(Instant::now());
            }
        }
        self.last.insert(format!("{:?}", rotation.phase), rotation.clone());
        is_new
    }

    fn figures(&self, figures: &mut Figures, interference: Interference) {
        let names: Vec<_> = self.phases.iter().map(|(phase, _)| phase.to_string()).collect();
        let in_order = self.phases.iter().map(|(phase, _)| *phase).eq(RotationPhase::ALL);
        figures.bounded("phases", "all five, in order", names.join(" → "), in_order);
        let ends = self.phases.iter().skip(1).map(|(_, at)| *at).chain(self.ended);
        for ((phase, began), end) in self.phases.iter().zip(ends) {
            let last = self.last.get(&phase.to_string());
            let counts = last.map(|last| {
                format!("; trusting {}, reissued {} of {}", last.trusting, last.reissued, last.total)
            });
            let took = time(end - *began);
            figures.note(format_args!("{phase}"), format_args!("{took}{}", counts.unwrap_or_default()));
            if *phase == RotationPhase::Distributing {
                self.laggards_figure(figures);
                if interference == Interference::None {
                    let took = end - *began;
                    let bound =
                        format!("{} to {}", time(ACKNOWLEDGE_WITHIN), time(ACKNOWLEDGE_WITHIN + GRACE));
                    // started_at is told in whole seconds
                    let held = (ACKNOWLEDGE_WITHIN.saturating_sub(Duration::from_secs(2))
                        ..=ACKNOWLEDGE_WITHIN + GRACE)
                        .contains(&took);
                    figures.bounded("acknowledgeWithin is honoured", bound, time(took), held);
                }
            }
        }
        if interference != Interference::None {
            figures.bounded(interference.words(), "≥ 1", self.interfered, self.interfered > 0);
        }
        for (columns, (phase, _)) in self.columns.iter().zip(&self.phases) {
            let words = columns.split_whitespace().collect::<Vec<_>>().join(" ");
            let told = words.contains(&phase.to_string());
            figures.bounded(format_args!("kubectl get rootca in {phase}"), "tells the phase", words, told);
        }
    }

    fn laggards_figure(&self, figures: &mut Figures) {
        let named = self.last.get("Distributing").map(|last| last.laggards.clone()).unwrap_or_default();
        let all = (1..=STOCK).all(|n| named.iter().any(|name| *name == format!("stock{n:03}")));
        let held = all && named.len() == STOCK;
        figures.bounded(
            "laggards named at the end of Distributing",
            "the three stock clients",
            named.join(", "),
            held,
        );
    }
}

async fn patch(site: &Site, rotation: &Value) -> Result<()> {
    let patch = json!({"spec": {"rotation": rotation}}).to_string();
    site.kubectl(&["patch", "rootca", "root-ca", "--type=merge", "--patch", &patch]).await?;
    Ok(())
}

/// Waits until no replacement runs any more, and the second generation signs.
async fn finished(site: &Site, within: Duration) -> Result<Instant> {
    let over = |root: &RootCA| {
        let status = root.status.as_ref();
        status.is_some_and(|status| {
            status.rotation.is_none() && status.active_generation.is_some_and(|g| g > 1)
        })
    };
    site.wait("root-ca", within, "replaced", over).await?;
    Ok(Instant::now())
}

/// A certificate that a thief makes with the old key.
async fn forge(site: &Site, scene: &Scene, leaked: &pki::SigningRoot) -> Result<Identity> {
    let pair = e2e::identity::sign(leaked, "device002", jiff::Timestamp::now())?;
    let like = scene.copy_of(site, "device001").await?;
    Identity::signed(&pair, &like, &site.folder()?)
}

/// The old key must be in no Secret any more, under whatever name.
async fn old_key_figure(site: &Site, figures: &mut Figures, leaked: &pki::SigningRoot) -> Result<()> {
    let key = leaked.key().to_pem();
    let secrets = site.api::<Secret>().list(&ListParams::default()).await?.items;
    let holds = |secret: &Secret| {
        secret.data.iter().flatten().any(|(_, bytes)| String::from_utf8_lossy(&bytes.0).contains(key.trim()))
    };
    let holding: Vec<_> = secrets.iter().filter(|secret| holds(secret)).map(ResourceExt::name_any).collect();
    figures.bounded(
        format_args!("Secrets with the old root's key, of {}", secrets.len()),
        0,
        if holding.is_empty() { "0".to_owned() } else { holding.join(", ") },
        holding.is_empty(),
    );
    Ok(())
}

/// Every pod of the site but the operator's, with the number of restarts of each of its containers.
async fn pods(site: &Site) -> Result<Vec<(String, i32)>> {
    let pods =
        site.api::<Pod>().list(&ListParams::default().labels("app.kubernetes.io/name!=operator")).await?;
    let restarts = |pod: &Pod| {
        let status = pod.status.clone().unwrap_or_default();
        let containers = [status.init_container_statuses, status.container_statuses];
        containers.into_iter().flatten().flatten().map(|container| container.restart_count).sum()
    };
    Ok(pods.items.iter().map(|pod| (pod.name_any(), restarts(pod))).collect())
}

/// How many phases the root's Events name.
async fn told_phases(site: &Site) -> Result<usize> {
    let events = site.api::<Event>().list(&ListParams::default()).await?.items;
    let of_root = |event: &&Event| event.involved_object.kind.as_deref() == Some("RootCA");
    let words: Vec<_> = events
        .iter()
        .filter(of_root)
        .map(|event| {
            format!(
                "{} {}",
                event.reason.as_deref().unwrap_or_default(),
                event.message.as_deref().unwrap_or_default()
            )
        })
        .collect();
    Ok(RotationPhase::ALL
        .iter()
        .filter(|phase| words.iter().any(|words| words.contains(&phase.to_string())))
        .count())
}
