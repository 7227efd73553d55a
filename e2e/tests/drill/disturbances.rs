//! What the operator stands on goes away for a while: it recovers by itself, and nothing is issued without a reason.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result};
use api::{CertificateHolder as _, IotDevice, RootCA};
use e2e::{
    Site, environment,
    figures::{Figures, figures},
    observer::Observer,
    operator_pod, program,
    site::empty_site,
};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, ResourceExt as _, api::ListParams};
use serde_json::json;
use tokio::time::Instant;

use crate::interference::Interference;

const DEVICES: usize = 50;
/// From the end of a disturbance until a renewal that is asked for is done.
const RECOVERED_WITHIN: Duration = Duration::from_secs(20);
/// etcd stands still for most of each third of a second, for a minute.
const SLOW_ETCD: &str =
    "for n in $(seq 170); do pkill -STOP -x etcd; sleep 0.25; pkill -CONT -x etcd; sleep 0.1; done";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a drill: cargo xtask drill disturbances"]
async fn the_api_server_is_stopped_and_etcd_is_slow() -> Result<()> {
    empty_site("disturbances", async |site| {
        site.install_for_production(&environment::chart(), &json!({"site": {"enabled": false}})).await?;
        figures("What the operator stands on goes away for a while", async |figures| {
            site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "drill"}})).await?;
            for number in 1..=DEVICES {
                site.apply::<IotDevice>(&format!("device{number:02}"), json!({})).await?;
            }
            site.apply::<IotDevice>("asked", json!({})).await?;
            for number in 1..=DEVICES {
                site.ready::<IotDevice>(&format!("device{number:02}")).await?;
            }
            let observer = Observer::start(site).await?;
            let before = serials(site).await?;

            Interference::StopApiServer.strike(site, "").await?;
            recovered(site, figures, "the API server was stopped for 60 s").await?;

            let node =
                Api::<Node>::all(site.api::<IotDevice>().into_client()).list(&ListParams::default()).await?;
            let node = node.items.first().context("no node")?.name_any();
            let slowed = program("docker")
                .args(["exec", &node, "sh", "-c", SLOW_ETCD])
                .within(Duration::from_mins(4))
                .run();
            // work to do meanwhile
            let asked = site.apply::<IotDevice>("asked", json!({"renewal": {"trigger": "meanwhile"}}));
            let (slowed, _) = tokio::join!(slowed, asked);
            program("docker").args(["exec", &node, "pkill", "-CONT", "-x", "etcd"]).run().await?;
            slowed?;
            recovered(site, figures, "etcd was slowed for 60 s").await?;

            let after = serials(site).await?;
            let renewed = before.iter().filter(|(name, serial)| after.get(*name) != Some(*serial)).count();
            figures.exactly("certificates issued without a reason", 0, renewed);
            let restarts: i32 = operator_pod::pods(site)
                .await?
                .iter()
                .filter_map(|pod| {
                    Some(pod.status.as_ref()?.container_statuses.as_ref()?.first()?.restart_count)
                })
                .sum();
            figures.note("operators started again by Kubernetes (a lost lease ends the process)", restarts);
            observer.stop().await?.figure(figures);
            Ok(())
        })
        .await
    })
    .await
}

/// Asks for a renewal, and puts into the table how long that takes.
async fn recovered(site: &Site, figures: &mut Figures, what: &str) -> Result<()> {
    let from = Instant::now();
    site.apply::<IotDevice>("asked", json!({"renewal": {"trigger": what}})).await?;
    site.ready::<IotDevice>("asked").await?;
    figures.at_most(
        format_args!("{what}: from its end until a renewal is done"),
        RECOVERED_WITHIN,
        from.elapsed(),
    );
    Ok(())
}

/// The certificates of those that nobody asks anything of.
async fn serials(site: &Site) -> Result<BTreeMap<String, String>> {
    let devices = site.api::<IotDevice>().list(&ListParams::default()).await?;
    let bystanders = devices.items.into_iter().filter(|device| device.name_any() != "asked");
    Ok(bystanders
        .filter_map(|device| {
            let serial = device.holder_status()?.certificate.as_ref()?.serial_number.clone();
            Some((device.name_any(), serial))
        })
        .collect())
}
