//! The flow that users type, and how long they wait in it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use api::{Dashboard, IotDevice, MqttBroker, RootCA};
use e2e::{
    Site, default_site, environment::measured, page::Page, patience, site, site::PATIENCE,
    subscriber::Subscriber,
};
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::json;

/// How often a promise of time is tried; the middle one counts.
const TRIES: usize = 5;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn after_helm_install_a_device_takes_one_kubectl_apply_and_kubectl_get_tells_its_dates() -> Result<()> {
    default_site("flow", async |site| {
        let applied = site.kubectl(&["apply", "--filename", "deploy/samples/device001.yaml"]).await?;
        ensure!(applied.starts_with("iotdevice.ca-iot.dev/device001 "), "{applied}");

        let devices = site.kubectl(&["get", "iotdevices"]).await?;
        let mut lines = devices.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let header = lines.next().context("no header")?;
        ensure!(header == ["NAME", "READY", "STATE", "EXPIRES", "RENEWS", "ROOT-GEN", "AGE"], "{devices}");
        let device = lines.find(|columns| columns[0] == "device001").context("device001 is not listed")?;
        ensure!(device[1..3] == ["True", "Valid"], "{devices}");
        let [expires, renews] = [device[3], device[4]].map(str::parse::<jiff::Timestamp>);
        ensure!(expires? > renews?, "{devices}");

        let holders = site.kubectl(&["get", "iot", "--output=name"]).await?;
        for holder in ["rootca", "mqttbroker", "dashboard", "iotdevice"]
            .iter()
            .zip(["root-ca", "mosquitto", "dashboard", "device001"])
            .map(|(kind, name)| format!("{kind}.ca-iot.dev/{name}"))
        {
            ensure!(holders.lines().any(|line| line == holder), "{holder} is not in\n{holders}");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_third_device_is_ready_within_2_s_and_its_first_reading_is_on_the_page_within_15_s() -> Result<()> {
    site("third-device", async |site| {
        site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "e2e"}})).await?;
        let access = json!({"access": [{"name": "watcher", "read": ["devices/#"]}]});
        site.apply::<MqttBroker>("mosquitto", site.broker_spec(access)).await?;
        site.apply::<Dashboard>("dashboard", json!({"service": {"type": "NodePort"}})).await?;
        site.apply::<IotDevice>("watcher", json!({})).await?;
        for name in ["device001", "device002"] {
            site.apply::<IotDevice>(name, json!({"thermometer": {"interval": "2s"}})).await?;
        }
        site.ready::<MqttBroker>("mosquitto").await?;
        site.ready::<Dashboard>("dashboard").await?;
        let watcher = site.identity::<IotDevice>("watcher").await?;
        let address = site.broker_address("mosquitto").await?;
        let mut subscriber = Subscriber::open(address, &watcher, "devices/#").await?;
        let page = Page { address: site.page_address("dashboard").await? };
        subscriber.hears("devices/device001/telemetry", PATIENCE).await?;
        subscriber.hears("devices/device002/telemetry", PATIENCE).await?;

        let _alone = site.alone().await;
        let (mut ready, mut heard, mut shown) = (Vec::new(), Vec::new(), Vec::new());
        for number in 1..=TRIES {
            let times = enrol(site, &format!("third-{number}"), &mut subscriber, &page).await?;
            ready.push(times.ready);
            heard.push(times.heard);
            shown.push(times.shown);
        }
        measured("a third device is Ready after (each try)", format_args!("{ready:.1?}"))?;
        let [ready, heard, shown] = [ready, heard, shown].map(patience::median);
        measured("a third device is Ready after (median)", format_args!("{ready:.1?}"))?;
        measured("its first reading is at a subscriber after (median)", format_args!("{heard:.1?}"))?;
        measured("its first reading is on the page after (median)", format_args!("{shown:.1?}"))?;
        ensure!(ready < Duration::from_secs(2), "Ready after {ready:?}");
        ensure!(heard < Duration::from_secs(15), "heard after {heard:?}");
        ensure!(shown < Duration::from_secs(15), "shown after {shown:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn an_operator_that_is_killed_goes_on_where_it_was() -> Result<()> {
    site("killed", async |site| {
        site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "e2e"}})).await?;
        site.apply::<MqttBroker>("mosquitto", json!({})).await?;
        site.apply::<Dashboard>("dashboard", json!({})).await?;
        for number in 1..=40 {
            site.apply::<IotDevice>(&format!("before-{number}"), json!({})).await?;
        }
        site.ready::<Dashboard>("dashboard").await?;
        site.ready::<IotDevice>("before-40").await?;
        let before = site.identity::<IotDevice>("before-1").await?.certificate()?;

        let holder = |lease: &Lease| lease.spec.clone().unwrap_or_default().holder_identity;
        let killed = holder(&site.api::<Lease>().get("ca-iot-operator").await?);
        let operator = "app.kubernetes.io/name=operator";
        let from = Instant::now();
        site.kubectl(&["delete", "pods", "--selector", operator, "--grace-period=0", "--force"]).await?;
        let is_another =
            |lease: &Lease| holder(lease).is_some_and(|now| !now.is_empty() && Some(now) != killed);
        site.wait("ca-iot-operator", PATIENCE, "held by another", is_another).await?;
        site.apply::<IotDevice>("after", json!({})).await?;
        site.apply::<IotDevice>("before-2", json!({"renewal": {"trigger": "1"}})).await?;
        site.ready::<IotDevice>("after").await?;
        site.ready::<IotDevice>("before-2").await?;
        measured("a killed operator works again after", format_args!("{:.1?}", from.elapsed()))?;
        ensure!(site.identity::<IotDevice>("before-1").await?.certificate()? == before, "issued for nothing");
        Ok(())
    })
    .await
}

/// From just before a device is applied until …
struct Times {
    ready: Duration,
    heard: Duration,
    shown: Duration,
}

async fn enrol(site: &Site, name: &str, subscriber: &mut Subscriber, page: &Page) -> Result<Times> {
    const PROMISED: Duration = Duration::from_secs(30);
    let from = Instant::now();
    site.apply::<IotDevice>(name, json!({"thermometer": {"interval": "2s"}})).await?;
    site.ready::<IotDevice>(name).await?;
    let ready = from.elapsed();
    let topic = format!("devices/{name}/telemetry");
    let heard = async {
        subscriber.hears(&topic, PROMISED).await?;
        anyhow::Ok(from.elapsed())
    };
    let shown = async {
        patience::eventually(format_args!("{name} is on the page"), PROMISED, async || {
            Ok(page.latest().await?.remove(name))
        })
        .await?;
        anyhow::Ok(from.elapsed())
    };
    let (heard, shown) = tokio::try_join!(heard, shown)?;
    Ok(Times { ready, heard, shown })
}
