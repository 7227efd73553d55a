//! A thousand devices that were made in the same minute are not renewed in the same second; and when all are asked for at once,
//! none is without a certificate meanwhile. How that compares with a client that only writes is measured by `cargo xtask bench`.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use api::{IotDevice, RootCA, conditions};
use e2e::{
    Site,
    figures::{Times, figures, time},
    observer::Observer,
    site,
};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use kube::{
    ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use crate::crowd::enrol;

const DEVICES: usize = 1000;

/// Due two minutes after they were made, or up to 48 s earlier: a tenth of the window of eight minutes.
const DURATION: &str = "10m";
const RENEW_BEFORE: &str = "8m";
const WINDOW: Duration = Duration::from_mins(8);
const JITTER: Duration = Duration::from_secs(48);

/// How late a renewal may be, on two cores with everything on them.
const LATE: Duration = Duration::from_secs(10);

/// Of the spread that the jitter asks for, at least so many percent.
const SPREAD_PERCENT: u32 = 80;

/// Triggers on their way at once.
const AT_ONCE: usize = 32;

type Changes = Pin<Box<dyn Stream<Item = Result<IotDevice, watcher::Error>> + Send>>;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a drill: cargo xtask drill renewal-storm"]
async fn a_thousand_devices_due_in_one_minute_are_renewed_spread_out() -> Result<()> {
    site("storm", async |site| {
        figures(&format!("{DEVICES} devices due in the same minute"), async |figures| {
            let observer = Observer::start(site).await?;
            site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "drill"}})).await?;
            site.ready::<RootCA>("root-ca").await?;
            let mut storm = Storm::watch(site);
            let from = Instant::now();
            let names: Vec<_> = (1..=DEVICES).map(|number| format!("device{number:04}")).collect();
            enrol(site, &names, &json!({"duration": DURATION, "renewBefore": RENEW_BEFORE})).await?;
            figures.note("made and Ready within", time(from.elapsed()));

            storm.until(2, from + Duration::from_mins(6)).await?;
            let (earliest, latest) = storm.extent()?;
            let asked = JITTER * SPREAD_PERCENT / 100;
            let (least, most) = storm.jitter()?;
            figures.bounded(
                "renewal times are earlier than renewBefore asks for by",
                format_args!("0 to {}, over {SPREAD_PERCENT} % of it", time(JITTER)),
                format_args!("{} to {}", time(least), time(most)),
                most <= JITTER && most.saturating_sub(least) >= asked,
            );
            figures.bounded(
                "renewals from the first to the last",
                format_args!("≥ {}", time(asked)),
                time(latest),
                latest >= asked,
            );
            figures.note("the first was renewed after", time(earliest));
            let busiest = storm.busiest_second();
            // evenly spread it would be a thousand over 48 s
            figures.no_more_than("renewals in the busiest second", DEVICES / 10, busiest);
            figures.at_most("a renewal after its time, p95", LATE, storm.late.percentile(95)?);
            figures.note("a renewal after its time", storm.late.summary()?);
            figures.exactly("devices not Ready at any moment", 0, storm.unready.len());
            observer.stop().await?.figure(figures);
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a drill: cargo xtask drill renewal-storm"]
async fn a_thousand_renewals_asked_for_at_once_leave_no_device_unready() -> Result<()> {
    site("storm-forced", async |site| {
        figures(&format!("Renewal of {DEVICES} devices, asked for at once"), async |figures| {
            let observer = Observer::start(site).await?;
            site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "drill"}})).await?;
            site.ready::<RootCA>("root-ca").await?;
            let mut storm = Storm::watch(site);
            let names: Vec<_> = (1..=DEVICES).map(|number| format!("device{number:04}")).collect();
            enrol(site, &names, &json!({})).await?;
            storm.until(1, Instant::now() + Duration::from_mins(5)).await?;
            storm.unready.clear();

            let from = Instant::now();
            let ask = async {
                stream::iter(&names)
                    .map(|name| async move {
                        site.apply::<IotDevice>(name, json!({"renewal": {"trigger": "drill"}}))
                            .await
                            .map(drop)
                    })
                    .buffer_unordered(AT_ONCE)
                    .try_collect::<Vec<()>>()
                    .await?;
                anyhow::Ok(from.elapsed())
            };
            let (asked, ()) = tokio::try_join!(ask, storm.until(2, from + Duration::from_mins(5)))?;
            let took = from.elapsed();
            figures.note("until all were asked for", time(asked));
            figures.note("until all have a new certificate", time(took));
            let rate = u128::from(DEVICES as u64) * 1000 / took.as_millis().max(1);
            figures.note("renewals a second", rate);
            figures.exactly("devices not Ready at any moment", 0, storm.unready.len());
            observer.stop().await?.figure(figures);
            Ok(())
        })
        .await
    })
    .await
}

/// What was seen of all devices.
struct Storm {
    changes: Changes,
    serials: BTreeMap<String, BTreeSet<String>>,
    due: BTreeMap<String, Timestamp>,
    /// When devices were renewed for the first time, and how long after their time.
    renewed: Vec<Timestamp>,
    made: Option<Timestamp>,
    late: Times,
    /// How much earlier than `renewBefore` asks for each certificate is due.
    jitters: BTreeMap<String, Duration>,
    unready: BTreeSet<String>,
}

impl Storm {
    fn watch(site: &Site) -> Self {
        let changes = watcher(site.api::<IotDevice>(), watcher::Config::default());
        Self {
            changes: changes.default_backoff().applied_objects().boxed(),
            serials: BTreeMap::new(),
            due: BTreeMap::new(),
            renewed: Vec::new(),
            made: None,
            late: Times::default(),
            jitters: BTreeMap::new(),
            unready: BTreeSet::new(),
        }
    }

    /// Watches until each device has had so many certificates.
    async fn until(&mut self, certificates: usize, deadline: Instant) -> Result<()> {
        let is_done = |serials: &BTreeMap<String, BTreeSet<String>>| {
            serials.len() == DEVICES && serials.values().all(|serials| serials.len() >= certificates)
        };
        while !is_done(&self.serials) {
            let Ok(change) = timeout_at(deadline, self.changes.next()).await else {
                let behind = self.serials.values().filter(|serials| serials.len() < certificates).count();
                bail!(
                    "{behind} of {} devices have had fewer than {certificates} certificates",
                    self.serials.len()
                );
            };
            self.note(&change.context("the watch has ended")??, Timestamp::now());
        }
        Ok(())
    }

    fn note(&mut self, device: &IotDevice, now: Timestamp) {
        let Some(status) = &device.status else { return };
        let Some(certificate) = &status.certificate else { return };
        let name = device.name_any();
        if !conditions::holds(&status.conditions, conditions::READY) {
            self.unready.insert(name.clone());
        }
        let serials = self.serials.entry(name.clone()).or_default();
        if !serials.insert(certificate.serial_number.clone()) {
            return;
        }
        self.made.get_or_insert(now);
        let window = positive(certificate.not_after.0.duration_since(certificate.renewal_time.0));
        self.jitters.insert(name.clone(), window.saturating_sub(WINDOW));
        let due = self.due.insert(name, certificate.renewal_time.0);
        if serials.len() == 2 {
            self.renewed.push(now);
            self.late.extend(due.map(|due| positive(now.duration_since(due))));
        }
    }

    /// When the first was renewed, counted from the first certificate, and how much later the last.
    fn extent(&self) -> Result<(Duration, Duration)> {
        let (first, last) = (self.renewed.iter().min(), self.renewed.iter().max());
        let (first, last) = (first.context("no renewal")?, last.context("no renewal")?);
        let made = self.made.context("nothing was made")?;
        Ok((positive(first.duration_since(made)), positive(last.duration_since(*first))))
    }

    fn jitter(&self) -> Result<(Duration, Duration)> {
        let all = self.jitters.values().copied();
        let (least, most) = (all.clone().min(), all.max());
        Ok((least.context("nothing was made")?, most.context("nothing was made")?))
    }

    fn busiest_second(&self) -> usize {
        let mut seconds: BTreeMap<i64, usize> = BTreeMap::new();
        for renewed in &self.renewed {
            *seconds.entry(renewed.as_second()).or_default() += 1;
        }
        seconds.into_values().max().unwrap_or_default()
    }
}

fn positive(time: SignedDuration) -> Duration {
    Duration::try_from(time).unwrap_or_default()
}
