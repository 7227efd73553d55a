//! Two operators, as in the chart's values for production: one leads, and nothing is lost when it does not any more.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use api::{IotDevice, RootCA};
use e2e::{
    Site, environment,
    environment::measured,
    observer::Observer,
    operator_pod, root_race,
    site::{Reported as _, empty_site},
};
use k8s_openapi::api::{networking::v1::NetworkPolicy, policy::v1::PodDisruptionBudget};
use kube::ResourceExt as _;
use serde_json::json;

/// How long renewals may stand still when a leader is gone.
const TAKEOVER: Duration = Duration::from_secs(20);

/// More are made by `cargo xtask drill replicas`.
const RACES: usize = 3;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn two_operators_that_start_together_make_one_root() -> Result<()> {
    production("race", async |site| {
        let roots = root_race::run(site, RACES).await?;
        measured("two operators started together: tries / roots", format_args!("{RACES} / {}", roots.len()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_leader_that_is_frozen_or_killed_is_replaced_within_twenty_seconds() -> Result<()> {
    production("takeover", async |site| {
        site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "e2e"}})).await?;
        site.apply::<IotDevice>("door", json!({})).await?;
        site.ready::<IotDevice>("door").await?;
        let observer = Observer::start(site).await?;

        // Frozen is worse than killed: it neither gives the lease back nor is it started again.
        let frozen = operator_pod::wait_for_leader(site).await?;
        operator_pod::signal(site, &frozen, "SIGSTOP").await?;
        let without = renewed_after(site, "frozen").await?;
        measured("leader frozen: a renewal is done after", format_args!("{without:.1?}"))?;
        ensure!(without < TAKEOVER, "frozen: {without:?}");
        ensure!(operator_pod::leader(site).await?.is_some_and(|leader| leader != frozen));

        // It wakes up, finds that it leads no more, and ends before it writes anything.
        operator_pod::signal(site, &frozen, "SIGCONT").await?;
        let killed = operator_pod::wait_for_leader(site).await?;
        operator_pod::signal(site, &killed, "SIGKILL").await?;
        let without = renewed_after(site, "killed").await?;
        measured("leader killed: a renewal is done after", format_args!("{without:.1?}"))?;
        ensure!(without < TAKEOVER, "killed: {without:?}");

        let stopped = operator_pod::wait_for_leader(site).await?;
        site.kubectl(&["delete", "pod", &stopped, "--wait=false"]).await?;
        let without = renewed_after(site, "stopped").await?;
        measured("leader stopped: a renewal is done after", format_args!("{without:.1?}"))?;
        ensure!(without < TAKEOVER, "stopped: {without:?}");
        observer.stop().await?.check()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn every_pod_is_covered_by_one_network_policy_that_knows_its_ports() -> Result<()> {
    empty_site("policies", async |site| {
        let service = json!({"type": "NodePort", "nodePort": null});
        let ports =
            json!({"broker": {"service": service, "storage": null}, "dashboard": {"service": service}});
        site.install_for_production(&environment::chart(), &json!({"site": ports})).await?;
        site.apply::<IotDevice>("kitchen", json!({"thermometer": {}})).await?;
        site.ready::<IotDevice>("kitchen").await?;
        site.ready::<api::Dashboard>("dashboard").await?;
        site.ready::<api::MqttBroker>("mosquitto").await?;

        let policies = site.api::<NetworkPolicy>().list(&kube::api::ListParams::default()).await?.items;
        let pods = e2e::patience::eventually("a pod of each program", e2e::site::PATIENCE, async || {
            let pods = site.api::<k8s_openapi::api::core::v1::Pod>();
            let pods = pods.list(&kube::api::ListParams::default()).await?.items;
            Ok((pods.len() >= 5).then_some(pods))
        })
        .await?;
        for pod in &pods {
            let name = pod.name_any();
            let selects = |policy: &&NetworkPolicy| {
                let selector = policy.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref());
                let wanted = selector.and_then(|selector| selector.match_labels.as_ref());
                wanted.is_some_and(|wanted| {
                    wanted.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
                })
            };
            let here: Vec<_> = policies.iter().filter(selects).collect();
            ensure!(here.len() == 1, "{name} is under {} policies", here.len());
            // what listens is what is let in; a thermometer's own port is for the kubelet alone
            let spec = here[0].spec.clone().unwrap_or_default();
            let let_in = spec.ingress.iter().flatten().flat_map(|rule| rule.ports.iter().flatten());
            let let_in: Vec<_> = let_in.filter_map(|port| serde_json::to_value(&port.port).ok()).collect();
            let containers = pod
                .spec
                .iter()
                .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
            let listening: Vec<_> = containers
                .flat_map(|container| container.ports.iter().flatten().map(|port| json!(port.container_port)))
                .collect();
            ensure!(let_in.iter().all(|port| listening.contains(port)), "{name}: {let_in:?} {listening:?}");
            let closed = name.starts_with("iotdevice-");
            ensure!(let_in.is_empty() == closed, "{name}: {let_in:?}");
        }
        e2e::patience::eventually("a node can be drained", e2e::site::PATIENCE, async || {
            let budget = site.api::<PodDisruptionBudget>().get("ca-iot-operator").await?;
            Ok(budget.status.filter(|status| status.disruptions_allowed == Some(1)).map(drop))
        })
        .await
    })
    .await
}

/// The chart with its values for production, and no site.
async fn production(test: &str, body: impl AsyncFnOnce(&Site) -> Result<()>) -> Result<()> {
    empty_site(test, async |site| {
        site.install_for_production(&environment::chart(), &json!({"site": {"enabled": false}})).await?;
        body(site).await
    })
    .await
}

/// Asks for a renewal, and waits for it.
async fn renewed_after(site: &Site, trigger: &str) -> Result<Duration> {
    let from = Instant::now();
    site.apply::<IotDevice>("door", json!({"renewal": {"trigger": trigger}})).await?;
    let renewed = site.ready::<IotDevice>("door").await?;
    ensure!(renewed.is_ready());
    Ok(from.elapsed())
}
