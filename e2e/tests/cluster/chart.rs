//! The chart: what is in it, and what happens to what runs when it is upgraded or taken away.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use api::{Dashboard, IotDevice, MqttBroker, RootCA};
use e2e::{
    Site, environment, program,
    site::{PATIENCE, RELEASE, Reported, empty_site},
    subscriber::{Account, Subscriber},
};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{ResourceExt as _, api::ListParams};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Sets of values that differ in what is rendered.
const VARIANTS: [&[&str]; 4] = [
    &[],
    &["--set=watchAllNamespaces=true"],
    &["--set=site.enabled=false,replicas=2,logFormat=json"],
    &["--set=replicas=2,podDisruptionBudget.enabled=true,spread.enabled=true,networkPolicies.enabled=true"],
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn the_api_server_takes_all_of_the_chart_without_a_warning() -> Result<()> {
    empty_site("dry-run", async |site| {
        let chart = environment::chart();
        program("helm").args(["lint", "--strict"]).arg(&chart).succeeds().await?;
        site.install(&chart, &json!({"site": {"enabled": false}})).await?; // for the definitions
        let namespace = ["--namespace", &site.namespace];
        for values in VARIANTS {
            let rendered = program("helm")
                .args(["template", "another"])
                .arg(&chart)
                .args(namespace)
                .args(values)
                .succeeds()
                .await?;
            let applied = site
                .kubectl_program()
                .args(["apply", "--dry-run=server", "--filename=-"])
                .input(rendered)
                .run()
                .await?;
            ensure!(applied.succeeded() && !applied.stderr.contains("Warning"), "{values:?}: {applied:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn every_pod_runs_where_pod_security_restricted_is_enforced() -> Result<()> {
    empty_site("restricted", async |site| {
        site.install(&environment::chart(), &own_ports()).await?;
        site.apply::<IotDevice>("door", json!({"thermometer": {}})).await?;
        site.ready::<Dashboard>("dashboard").await?;
        site.ready::<MqttBroker>("mosquitto").await?;
        let deployments =
            ["ca-iot-operator", "mqttbroker-mosquitto", "dashboard-dashboard", "iotdevice-door"];
        for deployment in deployments {
            let rollout = format!("deployment/{deployment}");
            site.kubectl_program()
                .args(["rollout", "status", &rollout, "--timeout=120s"])
                .within(PATIENCE)
                .succeeds()
                .await?;
        }
        // a control: the namespace does refuse what is not restricted
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "careless"},
            "spec": {"containers": [{"name": "careless", "image": "ca-iot/operator:0.1.0"}]},
        });
        let careless = site.kubectl_program().args(["apply", "--filename=-"]).input(pod.to_string());
        let refused = careless.fails().await?;
        ensure!(refused.contains("violates PodSecurity"), "{refused}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn an_upgrade_from_the_first_chart_renews_the_definitions_and_interrupts_no_device() -> Result<()> {
    empty_site("upgrade", async |site| {
        let (first, current) = (first_chart(site).await?, environment::chart());
        // the definitions are everybody's
        let _alone = site.alone().await;
        define(site, &first).await?;
        let outcome = upgrade(site, &first, &current).await;
        define(site, &current).await?;
        outcome
    })
    .await
}

/// Installs the chart `first`, and upgrades to `current` under a device that talks.
async fn upgrade(site: &Site, first: &Path, current: &Path) -> Result<()> {
    // kubectl diff: 1 when there are differences
    let diff = || {
        site.kubectl_program()
            .args(["diff", "--server-side", "--force-conflicts", "--field-manager=ca-iot", "--filename"])
            .arg(current.join("crds"))
    };
    ensure!(
        !diff().run().await?.succeeded(),
        "the first chart has today's definitions: nothing is shown here"
    );

    site.install(first, &own_ports()).await?;
    site.apply::<IotDevice>("watcher", json!({"brokerRef": {"name": "mosquitto"}})).await?;
    let thermometer = json!({"thermometer": {"interval": "200ms"}});
    site.apply::<IotDevice>("kitchen", thermometer).await?;
    let access = json!({"access": [{"name": "watcher", "read": ["devices/#"]}], "ipAddresses": [site.node]});
    site.apply::<MqttBroker>("mosquitto", access).await?;
    site.ready::<MqttBroker>("mosquitto").await?;
    site.ready::<IotDevice>("watcher").await?;
    let watcher = site.identity::<IotDevice>("watcher").await?;
    let address = site.broker_address("mosquitto").await?;
    let mut subscriber = Subscriber::open(address, &watcher, "devices/kitchen/#").await?;
    subscriber.hears("devices/kitchen/telemetry", PATIENCE).await?;
    let pods = pods(site).await?;

    site.helm("upgrade", current, &own_ports()).await?;
    diff().succeeds().await.context("the definitions are not today's")?;
    site.ready::<IotDevice>("kitchen").await?;
    let (mut account, mut until) = (Account::default(), Instant::now() + Duration::from_secs(5));
    while let Some(message) = subscriber.next(until).await? {
        account.note("kitchen", &message)?;
        until = until.min(Instant::now() + Duration::from_secs(5));
    }
    environment::measured(
        "helm upgrade: readings heard / missing meanwhile",
        format_args!("{} / {}", account.readings, account.missing),
    )?;
    ensure!(account.readings > 25 && account.missing == 0 && account.restarts == 0, "{account:?}");
    ensure!(subscriber.losses.is_empty(), "{:?}", subscriber.losses);
    // the first chart gives the operator too few rights for a dashboard of today: that one comes with the upgrade
    let after = self::pods(site).await?;
    ensure!(pods.iter().all(|pod| after.contains(pod)), "a pod was replaced: {pods:?}, {after:?}");
    Ok(())
}

/// Writes the definitions of `chart` over what is there.
async fn define(site: &Site, chart: &Path) -> Result<()> {
    let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=ca-iot", "--filename"];
    site.kubectl_program().args(apply).arg(chart.join("crds")).succeeds().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn uninstalling_leaves_the_roots_key_and_a_new_installation_takes_it_up() -> Result<()> {
    empty_site("uninstall", async |site| {
        let chart = environment::chart();
        site.install(&chart, &own_ports()).await?;
        site.apply::<IotDevice>("door", json!({})).await?;
        site.ready::<MqttBroker>("mosquitto").await?;
        site.ready::<IotDevice>("door").await?;
        let root = site.root_key("root-ca").await?;
        let door = site.identity::<IotDevice>("door").await?.certificate()?;

        program("helm")
            .args(["uninstall", RELEASE, "--namespace", &site.namespace, "--wait", "--timeout=60s"])
            .within(PATIENCE)
            .succeeds()
            .await?;
        for gone in
            [site.api::<RootCA>().get_opt("root-ca").await?.is_none(), is_gone::<MqttBroker>(site).await?]
        {
            ensure!(gone, "something of the release hangs");
        }
        ensure!(site.root_key("root-ca").await?.key().to_pem() == root.key().to_pem());
        // a device is the user's, and with no operator left nothing holds on to it
        site.apply::<IotDevice>("window", json!({})).await?;
        site.delete::<IotDevice>("window").await?;

        site.install(&chart, &own_ports()).await?;
        site.ready::<RootCA>("root-ca").await?;
        ensure!(
            site.root_key("root-ca").await?.certificate().fingerprint() == root.certificate().fingerprint()
        );
        site.ready::<MqttBroker>("mosquitto").await?;
        site.ready::<IotDevice>("door").await?;
        ensure!(
            site.identity::<IotDevice>("door").await?.certificate()? == door,
            "nothing had to be issued anew"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_root_whose_key_is_not_to_be_kept_takes_it_along() -> Result<()> {
    e2e::site("not-kept", async |site| {
        let spec = json!({"subject": {"commonName": "e2e"}, "deletionPolicy": "Delete"});
        site.apply::<RootCA>("root-ca", spec).await?;
        site.ready::<RootCA>("root-ca").await?;
        site.delete::<RootCA>("root-ca").await?;
        e2e::patience::eventually("the key's Secret is gone", PATIENCE, async || {
            Ok(site.api::<Secret>().get_opt("rootca-root-ca").await?.is_none().then_some(()))
        })
        .await
    })
    .await
}

/// The default site on ports of the cluster's choice: the ones of the chart can be had once only.
fn own_ports() -> Value {
    let service = json!({"type": "NodePort", "nodePort": null});
    json!({"site": {"broker": {"service": service, "storage": null}, "dashboard": {"service": service}}})
}

async fn is_gone<K: Reported>(site: &Site) -> Result<bool> {
    Ok(site.api::<K>().list(&ListParams::default()).await?.items.is_empty())
}

/// All pods but the operator's, by name and UID.
async fn pods(site: &Site) -> Result<Vec<(String, Option<String>)>> {
    let managed = ListParams::default().labels(&api::names::managed_selector());
    let pods = site.api::<Pod>().list(&managed).await?;
    Ok(pods.items.iter().map(|pod| (pod.name_any(), pod.uid())).collect())
}

/// The first chart that was complete, out of the repository's history.
async fn first_chart(site: &Site) -> Result<PathBuf> {
    let git = || program("git").in_folder(environment::workspace());
    let commits =
        git().args(["log", "--reverse", "--format=%H", "--", "charts/ca-iot/crds"]).succeeds().await?;
    let first = commits.lines().next().context("the repository's history is needed: clone all of it")?;
    let folder = site.folder()?;
    let archive = folder.join("chart.tar").display().to_string();
    git().args(["archive", "--output", &archive, first, "charts/ca-iot"]).succeeds().await?;
    program("tar").in_folder(&folder).args(["-xf", &archive]).succeeds().await?;
    Ok(folder.join("charts/ca-iot"))
}
