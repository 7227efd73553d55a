//! Certificates of two minutes, renewed again and again while readings flow.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use api::{IotDevice, MqttBroker, RootCA};
use e2e::{
    Site,
    environment::{measured, soak},
    handshake, site,
    site::PATIENCE,
    subscriber::{Account, Subscriber},
};
use kube::ResourceExt as _;
use serde_json::json;
use tokio::time::Instant;

/// How often the broker's certificate is looked at.
const LOOK: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn no_reading_is_lost_while_device_and_broker_renew_their_two_minute_certificates() -> Result<()> {
    site("renewals", async |site| {
        site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "e2e"}})).await?;
        let spec = json!({"duration": "2m", "access": [{"name": "watcher", "read": ["devices/#"]}]});
        site.apply::<MqttBroker>("mosquitto", site.broker_spec(spec)).await?;
        site.apply::<IotDevice>("watcher", json!({})).await?;
        let thermometer = json!({"interval": "200ms"});
        site.apply::<IotDevice>("kitchen", json!({"duration": "2m", "thermometer": thermometer})).await?;
        site.ready::<IotDevice>("watcher").await?;
        site.ready::<MqttBroker>("mosquitto").await?;
        let watcher = site.identity::<IotDevice>("watcher").await?;
        let address = site.broker_address("mosquitto").await?;
        let mut subscriber = Subscriber::open(address.clone(), &watcher, "devices/kitchen/#").await?;
        let (mut account, mut served) = (Account::default(), BTreeSet::new());
        let first = Instant::now() + PATIENCE;
        while account.readings == 0 {
            let message = subscriber.next(first).await?.context("the kitchen says nothing")?;
            account.note("kitchen", &message)?;
        }
        let pods = pods(site).await?;
        site.is_light();

        let duration = soak()?;
        let from = Instant::now();
        while from.elapsed() < duration {
            served.insert(handshake::served(&address, &watcher).await?.serial().to_string());
            let (look, before) = (Instant::now() + LOOK, account.readings);
            while let Some(message) = subscriber.next(look).await? {
                account.note("kitchen", &message)?;
            }
            ensure!(account.readings > before, "silent for {LOOK:?}, {:.0?} after the start", from.elapsed());
        }
        let lasted = from.elapsed();
        measured("renewals watched for", format_args!("{lasted:.0?}"))?;
        measured("  readings heard / missing", format_args!("{} / {}", account.readings, account.missing))?;
        measured(
            "  certificates of the device / of the broker",
            format_args!("{} / {}", account.serials.len(), served.len()),
        )?;
        measured("  sessions of the subscriber lost", subscriber.losses.len())?;

        ensure!(account.missing == 0 && account.restarts == 0, "{account:?}");
        // renewed when two thirds of its life are over, at the latest
        let renewals = usize::try_from(lasted.as_secs() / 90)?;
        ensure!(account.serials.len() > renewals, "the device has used {:?}", account.serials);
        ensure!(served.len() > renewals, "the broker has shown {served:?}");
        ensure!(subscriber.losses.is_empty() && subscriber.connects == 1, "{:?}", subscriber.losses);
        ensure!(self::pods(site).await? == pods, "a pod was restarted");
        Ok(())
    })
    .await
}

/// Every pod of device and broker with the number of restarts of each of its containers.
async fn pods(site: &Site) -> Result<Vec<(String, Vec<i32>)>> {
    let mut all = site.pods::<MqttBroker>("mosquitto").await?;
    all.extend(site.pods::<IotDevice>("kitchen").await?);
    Ok(all
        .iter()
        .map(|pod| {
            let status = pod.status.clone().unwrap_or_default();
            let containers = [status.init_container_statuses, status.container_statuses];
            let restarts =
                containers.into_iter().flatten().flatten().map(|container| container.restart_count);
            (pod.name_any(), restarts.collect())
        })
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_new_trigger_renews_once_with_a_new_key() -> Result<()> {
    site("trigger", async |site| {
        site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "e2e"}})).await?;
        site.apply::<IotDevice>("door", json!({})).await?;
        site.ready::<IotDevice>("door").await?;
        let before = site.identity::<IotDevice>("door").await?.certificate()?;

        let spec = json!({"renewal": {"trigger": "lost laptop"}});
        site.apply::<IotDevice>("door", spec.clone()).await?;
        let renewed: IotDevice = site.ready("door").await?;
        let after = site.identity::<IotDevice>("door").await?.certificate()?;
        ensure!(after.serial() != before.serial() && after.public_key() != before.public_key());
        let status = renewed.status.clone().unwrap_or_default();
        ensure!(
            status.superseded.iter().any(|old| old.serial_number == before.serial().to_string()),
            "{status:?}"
        );

        // the same value again, beside another change, asks for nothing
        let again = json!({"renewal": {"trigger": "lost laptop"}, "renewBefore": "720h"});
        site.apply::<IotDevice>("door", again).await?;
        site.ready::<IotDevice>("door").await?;
        ensure!(site.identity::<IotDevice>("door").await?.certificate()? == after);
        Ok(())
    })
    .await
}
