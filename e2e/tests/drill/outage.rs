//! A broker that is down: certificates are renewed all the same, and what devices wanted to say is said afterwards.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use api::{CertificateHolder as _, IotDevice, MqttBroker, RootCA, conditions};
use e2e::{
    environment::drill_time,
    figures::{Times, figures, time},
    patience::eventually,
    site,
    site::{PATIENCE, Reported as _},
};
use futures::TryStreamExt as _;
use jiff::Timestamp;
use kube::{
    ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

const DEVICES: usize = 10;

/// Two thirds of it, and a little jitter earlier: a renewal every 80 s at the latest.
const DURATION: &str = "2m";
const RENEWED_WITHIN: Duration = Duration::from_secs(85);

/// How late a renewal may be that nothing stands in the way of.
const LATE: Duration = Duration::from_secs(5);

/// What nobody can pull: the pods of the broker wait for it.
const NO_SUCH_IMAGE: &str = "ca-iot/no-such-broker:0";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a drill: cargo xtask drill outage"]
async fn renewal_goes_on_while_the_broker_is_down() -> Result<()> {
    site("outage", async |site| {
        figures("A broker that is down", async |figures| {
            site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "drill"}})).await?;
            let broker = json!({"duration": DURATION, "storage": {"size": "100Mi"}});
            site.apply::<MqttBroker>("mosquitto", site.broker_spec(broker.clone())).await?;
            for number in 1..=DEVICES {
                site.apply::<IotDevice>(&format!("device{number:03}"), json!({"duration": DURATION})).await?;
            }
            site.ready::<MqttBroker>("mosquitto").await?;

            let mut down = broker.clone();
            down["image"] = NO_SUCH_IMAGE.into();
            site.apply::<MqttBroker>("mosquitto", site.broker_spec(down)).await?;
            eventually("no pod of the broker is ready", PATIENCE, async || {
                let pods = site.pods::<MqttBroker>("mosquitto").await?;
                Ok(pods.iter().all(|pod| !is_ready(pod)).then_some(()))
            })
            .await?;

            let outage = drill_time(Duration::from_mins(4))?;
            let from = Instant::now();
            let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
            let events = watcher(site.api::<IotDevice>(), watcher::Config::default()).applied_objects();
            let mut events = std::pin::pin!(events);
            while let Ok(event) = timeout_at(from + outage, events.try_next()).await {
                let device = event?.context("the watch has ended")?;
                seen.entry(device.name_any()).or_default().note(&device);
            }
            let still_down = site.pods::<MqttBroker>("mosquitto").await?.iter().all(|pod| !is_ready(pod));
            ensure!(still_down, "the broker came back by itself: this was no outage");

            let expected = usize::try_from(outage.as_secs() / RENEWED_WITHIN.as_secs())?;
            let fewest = seen.values().map(|seen| seen.serials.len().saturating_sub(1)).min().unwrap_or(0);
            let late: Times = seen.values().flat_map(|seen| seen.late.clone()).collect();
            let unready: usize = seen.values().map(|seen| seen.unready).sum();
            let overdue: usize = seen.values().map(|seen| seen.overdue).sum();
            figures.note("the broker was down for", time(from.elapsed()));
            figures.exactly("devices seen", DEVICES, seen.len());
            figures.bounded(
                format_args!("renewals of each device ({DURATION} certificates), fewest"),
                format_args!("≥ {expected}"),
                fewest,
                fewest >= expected,
            );
            figures.at_most("a renewal after its time, longest", LATE, late.longest()?);
            figures.exactly("devices not Ready, or RenewalOverdue, at any moment", 0, unready + overdue);
            let broker_renewed = site.api::<MqttBroker>().get("mosquitto").await?;
            let own = broker_renewed.holder_status().and_then(|status| status.certificate.clone());
            let left =
                own.context("the broker has no certificate")?.not_after.0.duration_since(Timestamp::now());
            figures.bounded(
                "the stopped broker's own certificate is in date",
                "yes",
                format_args!("{} s left", left.as_secs()),
                left.is_positive(),
            );

            let back = Instant::now();
            site.apply::<MqttBroker>("mosquitto", site.broker_spec(broker)).await?;
            let served = |broker: &MqttBroker| {
                let status = broker.status.as_ref();
                let loaded = status.and_then(|status| status.loaded.as_ref());
                let own = status.and_then(|status| status.holder.certificate.as_ref());
                broker.is_ready()
                    && loaded.map(|loaded| &loaded.serial_number) == own.map(|own| &own.serial_number)
            };
            site.wait("mosquitto", PATIENCE, "served again", served).await?;
            figures.note(
                "from the mended spec until the broker serves its newest certificate",
                time(back.elapsed()),
            );
            Ok(())
        })
        .await
    })
    .await
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

fn is_ready(pod: &k8s_openapi::api::core::v1::Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
