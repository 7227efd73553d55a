//! How fast the operator is beside a client that only writes, and what it costs: `cargo xtask bench`.
//!
//! Both do the same on the same cluster, one after the other: [`BareClient`] is the floor, and what is promised is a
//! ratio to it, for two cores that everything shares give rates that move from run to run.

mod bare_client;
mod fleet;

use std::{env, time::Duration};

use anyhow::{Context as _, Result};
use api::{IotDevice, RootCA};
use k8s_openapi::api::{
    core::v1::{Pod, Secret},
    events::v1::Event,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, ObjectMeta},
};
use serde_json::json;
use tokio::time::Instant;

use self::{bare_client::BareClient, fleet::Fleet};
use crate::{
    Site,
    api_server::{Counter, Requests},
    environment,
    figures::{Figures, figures},
    operator_pod,
    site::empty_site,
};

/// How many requests are under way at a time, of the bare client as of the operator.
const AT_ONCE: usize = 32;
/// How long anything may take with thousands of devices before something must be wrong.
const PATIENCE: Duration = Duration::from_mins(10);
/// How many devices come and go before anything is measured.
const WARM_UP: usize = 200;
/// What is to be counted of the API server's requests.
const COUNTED: [&str; 4] = ["iotdevices", "secrets", "events", "rootcas"];
/// Verbs that change something, as the API server's metrics call them.
const WRITES: [&str; 6] = ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"];

/// What is promised of a size.
struct Promise {
    /// Devices.
    count: usize,
    /// MiB.
    memory: f64,
    /// How often it is measured; the middle one counts.
    rounds: usize,
}

/// What to measure.
pub struct Plan {
    sizes: Vec<Promise>,
    idle: Duration,
}

/// Rates of one size, devices a second.
struct Rates {
    count: usize,
    enrolment: f64,
}

/// How long one thing took, round by round.
#[derive(Default)]
struct Times {
    /// The bare client without Events.
    plain: Vec<Duration>,
    /// The bare client with Events.
    told: Vec<Duration>,
    /// The operator, until the last device was Ready.
    ready: Vec<Duration>,
    /// The operator, until the last Event was written.
    all_told: Vec<Duration>,
}

impl Plan {
    /// `CA_IOT_BENCH_DEVICES`: sizes, `1000,5000`; `CA_IOT_BENCH_ROUNDS`: how often the first is measured; `CA_IOT_BENCH_IDLE`: seconds.
    pub fn from_environment() -> Result<Self> {
        let read = |name: &str, usual: &str| env::var(name).unwrap_or_else(|_| usual.to_owned());
        let rounds = read("CA_IOT_BENCH_ROUNDS", "3").parse().context("CA_IOT_BENCH_ROUNDS")?;
        let sizes = read("CA_IOT_BENCH_DEVICES", "1000,5000");
        let sizes = sizes.split(',').enumerate().map(|(place, text)| {
            let count = text.trim().parse().context("CA_IOT_BENCH_DEVICES")?;
            let memory = if count <= 1000 { 60.0 } else { 150.0 };
            Ok(Promise { count, memory, rounds: if place == 0 { rounds } else { 1 } })
        });
        let idle = read("CA_IOT_BENCH_IDLE", "300").parse().context("CA_IOT_BENCH_IDLE")?;
        Ok(Self { sizes: sizes.collect::<Result<_>>()?, idle: Duration::from_secs(idle) })
    }
}

/// Measures, prints the table, and fails when a bound is missed.
pub async fn run(plan: Plan) -> Result<()> {
    empty_site("bench", async |site| {
        site.install_for_production(&environment::chart(), &json!({"site": {"enabled": false}})).await?;
        empty_site("bench-floor", async |floor| {
            figures("Promises and scale", async |figures| measure(&plan, site, floor, figures).await).await
        })
        .await
    })
    .await
}

async fn measure(plan: &Plan, site: &Site, floor: &Site, figures: &mut Figures) -> Result<()> {
    site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "bench"}})).await?;
    site.ready::<RootCA>("root-ca").await?;
    site.apply::<IotDevice>("like", json!({})).await?;
    site.ready::<IotDevice>("like").await?;
    let client = site.api::<Pod>().into_client();
    let counter = Counter::of(&client, &site.namespace, "ca-iot-operator").await?;
    let bare = BareClient::new(floor, site, "like").await?;

    bare.enrol(WARM_UP, true).await?;
    clear(floor).await?;
    Fleet::of(site).enrol(WARM_UP).await?;
    clear(site).await?;

    let mut first: Option<Rates> = None;
    for (place, size) in plan.sizes.iter().enumerate() {
        // what it needs for this many, not what it needed for those before
        let pod = renew_operator(site).await?;
        let rates = enrolment(size, site, floor, &bare, &counter, figures).await?;
        renewal(size, site, &bare, figures).await?;
        clear(floor).await?;
        let cost = operator_pod::cost(site, &pod).await?;
        figures.bounded(
            format_args!("operator's memory with {} devices, the most so far", size.count),
            format_args!("< {} MiB", size.memory),
            format_args!("{:.0} MiB (now {:.0} MiB)", cost.most_memory, cost.memory),
            cost.most_memory < size.memory,
        );
        match &first {
            None => first = Some(rates),
            Some(first) => {
                let ratio = rates.enrolment / first.enrolment;
                let what = format!("rate with {} devices beside that with {}", rates.count, first.count);
                figures.bounded(
                    what,
                    "0.85 to 1.15",
                    format_args!("{ratio:.2}"),
                    (0.85..=1.15).contains(&ratio),
                );
            }
        }
        if place == 0 {
            idle(plan.idle, size.count, site, &counter, &pod, figures).await?;
        }
        restart(size.count, site, figures).await?;
        clear(site).await?;
    }
    counter.end().await
}

/// All devices from the first create to the last Ready.
async fn enrolment(
    size: &Promise,
    site: &Site,
    floor: &Site,
    bare: &BareClient,
    counter: &Counter,
    figures: &mut Figures,
) -> Result<Rates> {
    let count = size.count;
    let client = site.api::<Pod>().into_client();
    let mut times = Times::default();
    let (mut asked, mut by_operator) = (Requests::default(), 0);
    for round in 0..size.rounds {
        if round > 0 {
            clear(site).await?;
        }
        times.plain.push(bare.enrol(count, false).await?);
        clear(floor).await?;
        let (before, counted) = (Requests::so_far(&client).await?, counter.so_far().await?);
        let ready = Fleet::of(site).enrol(count).await?;
        times.ready.push(ready);
        times.all_told.push(ready + events_written(count, &client, &before).await?);
        asked = Requests::so_far(&client).await?.since(&before);
        by_operator = counter.so_far().await? - counted;
        times.told.push(bare.enrol(count, true).await?);
        if round + 1 < size.rounds {
            clear(floor).await?;
        }
    }
    let [plain, told, ours] = times.compare(&format!("{count} devices, first create to"), figures);
    figures.note(
        format_args!("rate: operator / bare client / bare client with Events"),
        format_args!(
            "{:.0} / {:.0} / {:.0} devices a second",
            rate(count, ours),
            rate(count, plain),
            rate(count, told)
        ),
    );
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let each = |times: u64| format!("{times} ({:.3} for each device)", times as f64 / count as f64);
    figures.note("requests of the operator meanwhile (its FlowSchema)", each(by_operator));
    for (verb, resource, times) in asked.concerning(&COUNTED) {
        // reading Secrets, and who owns them, is what the garbage collector does about those of the round before
        figures.note(format_args!("requests of everybody meanwhile: {verb} {resource}"), each(times));
    }
    Ok(Rates { count, enrolment: rate(count, ours) })
}

/// Every certificate anew, at once.
async fn renewal(size: &Promise, site: &Site, bare: &BareClient, figures: &mut Figures) -> Result<()> {
    let count = size.count;
    let client = site.api::<Pod>().into_client();
    let mut times = Times::default();
    let mut unready = 0;
    // the floor has `count` devices left from the enrolment with Events
    for round in 0..size.rounds {
        times.plain.push(bare.renew(count, &format!("plain-{round}"), false).await?);
        let before = Requests::so_far(&client).await?;
        let renewed = Fleet::of(site).renew(count, &format!("all-at-once-{round}")).await?;
        times.ready.push(renewed.took);
        times.all_told.push(renewed.took + events_written(count, &client, &before).await?);
        unready += renewed.unready;
        times.told.push(bare.renew(count, &format!("told-{round}"), true).await?);
    }
    times.compare(&format!("renewal of all {count}, first trigger to"), figures);
    figures.exactly(format_args!("devices not Ready at any moment of it, of {count}"), 0, unready);
    Ok(())
}

/// How long it takes from now until the operator has written its Events, too: one for each of `count` devices since `before`.
/// What is measured next would have them beside it.
async fn events_written(count: usize, client: &Client, before: &Requests) -> Result<Duration> {
    let (from, all) = (Instant::now(), u64::try_from(count)?);
    crate::patience::eventually("every Event is written", PATIENCE, async || {
        let written = Requests::so_far(client).await?.since(before).of(&["POST"], "events");
        Ok((written >= all).then(|| from.elapsed()))
    })
    .await
}

impl Times {
    /// Puts the middle ones beside each other. Returns those of the bare client without Events and with them, and the operator's.
    fn compare(self, what: &str, figures: &mut Figures) -> [Duration; 3] {
        let Self { plain, told, ready, all_told } = self;
        let [plain, told, ready, all_told] = [plain, told, ready, all_told].map(crate::patience::median);
        let ratio = |ours: Duration, floor: Duration| ours.as_secs_f64() / floor.as_secs_f64();
        figures.bounded(
            format_args!(
                "{what} last Ready: times a bare client's {plain:.1?} for the same writes without Events"
            ),
            "≤ 1.6, with an Event for each",
            format_args!("{:.2} ({ready:.1?})", ratio(ready, plain)),
            ratio(ready, plain) <= 1.6,
        );
        figures.bounded(
            format_args!(
                "{what} last Ready: times a bare client's {told:.1?} for the same writes, Events too"
            ),
            "≤ 1.3",
            format_args!("{:.2} ({ready:.1?})", ratio(ready, told)),
            ratio(ready, told) <= 1.3,
        );
        figures.note(
            format_args!("{what} last Event: times the same without Events, with them"),
            format_args!("{:.2}, {:.2} ({all_told:.1?})", ratio(all_told, plain), ratio(all_told, told)),
        );
        [plain, told, ready]
    }
}

/// Nothing to do.
async fn idle(
    time: Duration,
    count: usize,
    site: &Site,
    counter: &Counter,
    pod: &str,
    figures: &mut Figures,
) -> Result<()> {
    settle(counter).await?;
    let (from, asked, cost) = (Instant::now(), counter.so_far().await?, operator_pod::cost(site, pod).await?);
    // the one thing here that is about time passing
    tokio::time::sleep(time).await;
    let (asked, spent) =
        (counter.so_far().await? - asked, operator_pod::cost(site, pod).await?.cpu - cost.cpu);
    let seconds = from.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let each_second = asked as f64 / seconds;
    let what = format!("two replicas idle with {count} devices for {seconds:.0} s");
    figures.bounded(
        format_args!("{what}: requests to the API server"),
        "< 0.25 a second",
        format_args!("{each_second:.3} a second ({asked})"),
        each_second < 0.25,
    );
    let share = 100.0 * spent / seconds;
    figures.bounded(
        format_args!("{what}: processor of the leader"),
        "< 0.3 % of a core",
        format_args!("{share:.2} %"),
        share < 0.3,
    );
    Ok(())
}

/// The leader is killed; another takes over and finds all as it should be.
async fn restart(count: usize, site: &Site, figures: &mut Figures) -> Result<()> {
    let client = site.api::<Pod>().into_client();
    let counter = Counter::of(&client, &site.namespace, "ca-iot-operator").await?;
    settle(&counter).await?;
    let (before, told) = (Requests::so_far(&client).await?, told(site).await?);
    let from = Instant::now();
    let pod = renew_operator(site).await?;
    let ready = from.elapsed();
    let all = u64::try_from(count)?;
    let read = crate::patience::eventually("every Secret was read again", PATIENCE, async || {
        let read = Requests::so_far(&client).await?.since(&before).of(&["GET"], "secrets");
        Ok((read >= all).then(|| from.elapsed()))
    })
    .await?;
    settle(&counter).await?;
    let asked = Requests::so_far(&client).await?.since(&before);
    // Kubernetes tells of the new pods, too: of Events, only the operator's own count
    let written = ["iotdevices", "iotdevices/status", "rootcas", "rootcas/status", "secrets"];
    let written: u64 = written.iter().map(|resource| asked.of(&WRITES, resource)).sum();
    let written = written + self::told(site).await? - told;
    figures.at_most(
        format_args!("restart with {count} devices: from the end of the old pod to the new leader's readyz"),
        Duration::from_secs(10),
        ready,
    );
    figures.note(
        format_args!("the same, until every Secret was read and checked again"),
        format_args!("{read:.1?}"),
    );
    figures.exactly(format_args!("needless writes after a restart with {count} devices"), 0, written);
    let cost = operator_pod::cost(site, &pod).await?;
    figures.note(
        format_args!("operator's memory after a restart with {count} devices"),
        format_args!("{:.0} MiB", cost.memory),
    );
    Ok(())
}

/// How many Events the operator has written here.
async fn told(site: &Site) -> Result<u64> {
    let ours = ListParams::default().fields("reportingController=ca-iot.dev/operator");
    Ok(site.api::<Event>().list_metadata(&ours).await?.items.len().try_into()?)
}

/// Takes all operators away and waits until a new one leads and is ready; returns its name.
async fn renew_operator(site: &Site) -> Result<String> {
    let pods: Api<Pod> = site.api();
    let old: Vec<_> = operator_pod::pods(site).await?.iter().map(kube::ResourceExt::name_any).collect();
    for pod in &old {
        pods.delete(pod, &DeleteParams::default()).await?;
    }
    crate::patience::eventually("another operator leads and is ready", PATIENCE, async || {
        let Some(leader) = operator_pod::leader(site).await?.filter(|leader| !old.contains(leader)) else {
            return Ok(None);
        };
        Ok(operator_pod::ask(site, &leader, "readyz").await.is_ok().then_some(leader))
    })
    .await
}

/// Waits until the operator asks for nothing but its lease.
async fn settle(counter: &Counter) -> Result<()> {
    quiet("the operator comes to rest", (2, Duration::from_secs(3)), async || counter.so_far().await).await
}

/// Waits until the garbage collector, too, is done with what was deleted: it asks after every object that had an owner.
async fn calm(client: &Client) -> Result<()> {
    quiet("nobody asks after what was deleted", (4, Duration::from_secs(2)), async || {
        let requests = Requests::so_far(client).await?;
        Ok(requests.concerning(&COUNTED).iter().map(|(_, _, times)| times).sum())
    })
    .await
}

/// Waits until there are no more than `few` new requests within a time.
async fn quiet(
    what: &str,
    (few, within): (u64, Duration),
    requests: impl AsyncFn() -> Result<u64>,
) -> Result<()> {
    crate::patience::eventually(what, PATIENCE, async || {
        let before = requests().await?;
        tokio::time::sleep(within).await;
        Ok((requests().await? - before <= few).then_some(()))
    })
    .await
}

/// Takes all devices away, and what was made for them.
async fn clear(site: &Site) -> Result<()> {
    let (now, ours) = (DeleteParams::background(), ListParams::default().labels(fleet::LABEL));
    site.api::<IotDevice>().delete_collection(&now, &ours).await?;
    let of_devices = ListParams::default().labels(&format!(
        "{}=IotDevice,{}!=like",
        api::names::LABEL_KIND,
        api::names::LABEL_NAME
    ));
    crate::patience::eventually("the devices are gone", PATIENCE, async || {
        site.api::<Secret>().delete_collection(&now, &of_devices).await?;
        let devices = site.api::<IotDevice>().list_metadata(&ours.clone().limit(1)).await?;
        let secrets = site.api::<Secret>().list_metadata(&of_devices.clone().limit(1)).await?;
        Ok((devices.items.is_empty() && secrets.items.is_empty()).then_some(()))
    })
    .await?;
    site.api::<Event>().delete_collection(&now, &ListParams::default()).await?;
    calm(&site.api::<Pod>().into_client()).await
}

fn device_name(number: usize) -> String {
    format!("device{number:05}")
}

fn device(number: usize) -> IotDevice {
    let mut device = IotDevice::new(&device_name(number), api::IotDeviceSpec::default());
    device.metadata = ObjectMeta {
        name: Some(device_name(number)),
        labels: Some([(fleet::LABEL.to_owned(), "true".to_owned())].into()),
        ..ObjectMeta::default()
    };
    device
}

fn rate(count: usize, time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let count = count as f64;
    count / time.as_secs_f64()
}
