//! Twenty thermometers and one who hears them all, while what is between them goes away and comes back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use api::{IotDevice, MqttBroker, RootCA};
use e2e::{
    Site, environment,
    figures::{Figures, figures, time},
    fleet::Secrets,
    listener::Listener,
    operator_pod,
    patience::eventually,
    program,
    site::{PATIENCE, empty_site},
};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use serde_json::json;

use crate::crowd::enrol;

const THERMOMETERS: usize = 20;
/// Every thermometer must have been heard again after each disturbance.
const HEARD_WITHIN: Duration = Duration::from_mins(3);
/// What a broker keeps for the listener while that is away.
const KEPT_FOR: Duration = Duration::from_mins(10);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a drill: cargo xtask drill readings"]
async fn none_is_lost_while_the_broker_the_runtime_and_the_operator_go_and_come_back() -> Result<()> {
    empty_site("readings", async |site| {
        let values = |format: &str| json!({"site": {"enabled": false}, "logFormat": format});
        site.install_for_production(&environment::chart(), &values("json")).await?;
        figures("Readings of 20 thermometers", async |figures| {
            site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "drill"}})).await?;
            let access = json!({"access": [{"name": "watcher", "read": ["devices/#"]}], "storage": {"size": "100Mi"}});
            site.apply::<MqttBroker>("mosquitto", site.broker_spec(access)).await?;
            let names: Vec<_> = (1..=THERMOMETERS).map(|number| format!("room{number:02}")).collect();
            enrol(site, &["watcher".to_owned()], &json!({})).await?;
            enrol(site, &names, &json!({"thermometer": {"interval": "500ms"}})).await?;
            site.ready::<MqttBroker>("mosquitto").await?;
            let secrets = Secrets::follow(site);
            let broker = site.broker_address("mosquitto").await?;
            let listener = Listener::open(secrets.observer(broker, "watcher").await?, KEPT_FOR).await?;
            heard_again(&listener, &names, figures, "at first").await?;

            for pod in site.pods::<MqttBroker>("mosquitto").await? {
                site.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default()).await?;
            }
            heard_again(&listener, &names, figures, "the broker's pod was deleted").await?;

            let nodes = Api::<Node>::all(site.api::<Pod>().into_client()).list(&ListParams::default()).await?;
            let node = nodes.items.first().context("no node")?.name_any();
            let restart = ["exec", &node, "systemctl", "restart", "containerd"];
            program("docker").args(restart).within(PATIENCE).succeeds().await?;
            heard_again(&listener, &names, figures, "the node's containerd was restarted").await?;

            let old: Vec<_> = operator_pod::pods(site).await?.iter().map(kube::ResourceExt::name_any).collect();
            site.upgrade_for_production(&environment::chart(), &values("text")).await?;
            eventually("the operators are others", PATIENCE, async || {
                let pods = operator_pod::pods(site).await?;
                Ok(pods.iter().all(|pod| !old.contains(&pod.name_any())).then_some(()))
            })
            .await?;
            for name in &names {
                let anew = json!({"thermometer": {"interval": "500ms"}, "renewal": {"trigger": "after the upgrade"}});
                site.apply::<IotDevice>(name, anew).await?;
            }
            for name in &names {
                site.ready::<IotDevice>(name).await?;
            }
            heard_again(&listener, &names, figures, "the operator was upgraded, and every certificate renewed").await?;

            let voices: Vec<_> = names.iter().map(|name| listener.voice(name)).collect();
            figures.note("readings heard", voices.iter().map(|voice| voice.readings.len()).sum::<usize>());
            figures.note("the listener's own session was lost", format_args!("{} times", listener.losses().len()));
            let restarts = restarts(site, &names).await?;
            figures.exactly("thermometers that were started anew", 0, restarts);
            figures.exactly("readings missing", 0, voices.iter().map(e2e::listener::Voice::gaps).sum::<u64>());
            Ok(())
        })
        .await
    })
    .await
}

/// Waits until each was heard after now, without a gap up to there: what waits in queues comes first.
async fn heard_again(listener: &Listener, names: &[String], figures: &mut Figures, what: &str) -> Result<()> {
    let from = Instant::now();
    eventually(format_args!("{what}: all are heard again"), HEARD_WITHIN, async || {
        let all = names.iter().all(|name| {
            let voice = listener.voice(name);
            voice.last.is_some_and(|last| last > from + Duration::from_secs(2)) && voice.gaps() == 0
        });
        Ok(all.then_some(()))
    })
    .await?;
    figures.note(format_args!("{what}: all are heard again, without a gap, after"), time(from.elapsed()));
    Ok(())
}

async fn restarts(site: &Site, names: &[String]) -> Result<i32> {
    let mut restarts = 0;
    for name in names {
        for pod in site.pods::<IotDevice>(name).await? {
            let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
            restarts += statuses.map(|status| status.restart_count).sum::<i32>();
        }
    }
    Ok(restarts)
}
