//! What the operator has made, and what happens when somebody takes it away or was there first.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use api::{Dashboard, IotDevice, MqttBroker, RootCA};
use e2e::{Site, environment::measured, patience::eventually, site, site::PATIENCE};
use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Secret, Service},
        events::v1::Event,
    },
};
use kube::{
    Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// How soon what was taken away is back.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn what_is_deleted_is_back_within_five_seconds() -> Result<()> {
    site("deleted", async |site| {
        site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "e2e"}})).await?;
        site.apply::<MqttBroker>("mosquitto", json!({})).await?;
        site.apply::<Dashboard>("dashboard", json!({})).await?;
        site.apply::<IotDevice>("door", json!({"thermometer": {}})).await?;
        site.ready::<MqttBroker>("mosquitto").await?;
        site.ready::<Dashboard>("dashboard").await?;
        site.ready::<IotDevice>("door").await?;

        for secret in ["iotdevice-door", "mqttbroker-mosquitto", "dashboard-dashboard"] {
            comes_back::<Secret>(site, secret).await?;
        }
        for deployment in ["iotdevice-door", "mqttbroker-mosquitto", "dashboard-dashboard"] {
            comes_back::<Deployment>(site, deployment).await?;
        }
        for service in ["mqttbroker-mosquitto", "dashboard-dashboard"] {
            comes_back::<Service>(site, service).await?;
        }
        for config_map in ["mqttbroker-mosquitto", "root-ca-trust"] {
            comes_back::<ConfigMap>(site, config_map).await?;
        }
        site.ready::<MqttBroker>("mosquitto").await?;
        site.ready::<Dashboard>("dashboard").await?;
        site.ready::<IotDevice>("door").await?;
        Ok(())
    })
    .await
}

/// Deletes an object and waits until another one of its name is there.
async fn comes_back<K>(site: &Site, name: &str) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Send
        + Serialize
        + DeserializeOwned
        + 'static,
{
    let before = site.api::<K>().get(name).await?.uid();
    let from = Instant::now();
    site.api::<K>().delete(name, &DeleteParams::background()).await?;
    let is_another = |object: &K| object.uid() != before && object.meta().deletion_timestamp.is_none();
    site.wait(name, SOON, "back", is_another).await?;
    let took = from.elapsed();
    let kind = K::kind(&());
    let tells = |text: &str| match &*kind {
        "Secret" => text.starts_with("issued certificate"),
        _ => text == format!("{kind} {name} was deleted: it is back"),
    };
    told_since(site, from, tells).await?;
    measured(&format!("deleted, {kind} {name} is back after"), format_args!("{took:.0?}"))
}

/// Waits for an Event of the operator that is not older than `from` and says something of which `tells` is true.
async fn told_since(site: &Site, from: Instant, tells: impl Fn(&str) -> bool) -> Result<()> {
    // Events are dated by the clock of this machine's cluster: the same one
    let earliest = Timestamp::now() - from.elapsed() - Duration::from_millis(100);
    let is_it = |event: &Event| {
        event.event_time.as_ref().is_some_and(|time| time.0 >= earliest)
            && event.note.as_deref().is_some_and(&tells)
    };
    eventually("an Event tells of it", PATIENCE, async || {
        let events = site.api::<Event>().list(&ListParams::default()).await?;
        Ok(events.items.iter().any(is_it).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_secret_that_somebody_spoilt_is_replaced() -> Result<()> {
    site("spoilt", async |site| {
        site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "e2e"}})).await?;
        site.apply::<IotDevice>("door", json!({"thermometer": {}})).await?;
        site.apply::<IotDevice>("window", json!({})).await?;
        site.apply::<MqttBroker>("mosquitto", json!({})).await?;
        site.ready::<IotDevice>("door").await?;
        site.ready::<IotDevice>("window").await?;
        let others = site.secret("iotdevice-window").await?;
        let parts = |secret: &Secret| {
            ["tls.crt", "tls.key"].map(|part| e2e::identity::part(secret, part).unwrap_or_default())
        };
        let [their_certificate, their_key] = parts(&others);

        for what in ["another's key", "garbage", "half of it", "nothing", "another's certificate", "no CA"] {
            let before = site.secret("iotdevice-door").await?;
            let [certificate, _] = parts(&before);
            let spoilt = match what {
                "another's key" => json!({"tls.key": their_key}),
                "garbage" => json!({"tls.crt": "garbage"}),
                "half of it" => json!({"tls.crt": certificate[..certificate.len() / 2]}),
                "nothing" => json!({"tls.key": ""}),
                "another's certificate" => json!({"tls.crt": their_certificate, "tls.key": their_key}),
                _ => json!({"ca.crt": their_certificate}),
            };
            let from = Instant::now();
            let patch = Patch::Merge(json!({"stringData": spoilt}));
            site.api::<Secret>().patch("iotdevice-door", &PatchParams::default(), &patch).await?;
            let trust = e2e::identity::part(&before, "ca.crt")?;
            site.wait("iotdevice-door", SOON, &format!("mended of {what}"), |secret: &Secret| {
                let [certificate, key] = parts(secret);
                let files = pki::ClientFiles::check(&certificate, &key, &trust, Timestamp::now());
                let own = |files: pki::ClientFiles| files.certificate.common_name() == Some("door");
                files.is_ok_and(own) && e2e::identity::part(secret, "ca.crt").is_ok_and(|now| now == trust)
            })
            .await?;
            measured(
                &format!("spoilt by {what}, a Secret is right after"),
                format_args!("{:.0?}", from.elapsed()),
            )?;
            if what != "no CA" {
                told_since(site, from, |text| text.starts_with("issued certificate")).await?;
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_workload_that_somebody_changed_is_put_right() -> Result<()> {
    site("changed", async |site| {
        site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "e2e"}})).await?;
        site.apply::<MqttBroker>("mosquitto", json!({})).await?;
        site.apply::<IotDevice>("door", json!({"thermometer": {}})).await?;
        site.ready::<IotDevice>("door").await?;
        eventually("its Deployment is there", PATIENCE, async || {
            site.api::<Deployment>().get_opt("iotdevice-door").await.map_err(anyhow::Error::from)
        })
        .await?;
        let from = Instant::now();
        let patch = Patch::Merge(json!({"spec": {"template": {"spec": {"containers": [
            {"name": "thermometer", "image": "somebody/elses:1"},
        ]}}}}));
        let before = site.api::<Deployment>().get("iotdevice-door").await?;
        let image = |deployment: &Deployment| {
            let pod = deployment.spec.template.spec.as_ref();
            pod.and_then(|pod| pod.containers.first()?.image.clone())
        };
        site.api::<Deployment>().patch("iotdevice-door", &PatchParams::default(), &patch).await?;
        site.wait("iotdevice-door", SOON, "put right", |now: &Deployment| image(now) == image(&before))
            .await?;
        told_since(site, from, |text| text.starts_with("Deployment iotdevice-door was changed")).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn what_somebody_else_has_made_stays_as_it_is_and_is_named() -> Result<()> {
    Box::pin(site("foreign", async |site| {
        let data = json!({"data": {"mine": "bWluZQ=="}});
        let device = put::<Secret>(site, "iotdevice-door", &data).await?;
        let root = put::<Secret>(site, "rootca-taken", &data).await?;
        let config_map =
            put::<ConfigMap>(site, "mqttbroker-mosquitto", &json!({"data": {"mine": "mine"}})).await?;
        let pod = json!({
            "metadata": {"labels": {"app": "mine"}},
            "spec": {
                "containers": [{
                    "name": "mine", "image": "mine/mine:1",
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "runAsNonRoot": true,
                        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
                    },
                }],
            },
        });
        let spec =
            json!({"spec": {"replicas": 0, "selector": {"matchLabels": {"app": "mine"}}, "template": pod}});
        let deployment = put::<Deployment>(site, "iotdevice-boiler", &spec).await?;
        let service =
            put::<Service>(site, "dashboard-dashboard", &json!({"spec": {"ports": [{"port": 80}]}})).await?;

        site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "e2e"}})).await?;
        site.apply::<RootCA>("taken", json!({"subject": {"commonName": "taken"}})).await?;
        let spec = json!({"rootCARef": {"name": "root-ca"}});
        site.apply::<IotDevice>("door", spec.clone()).await?;
        site.apply::<MqttBroker>("mosquitto", spec.clone()).await?;
        site.apply::<Dashboard>("dashboard", spec).await?;
        let refused = site.refused::<IotDevice>("door", "NameTaken").await?;
        let message = &refused.status.unwrap_or_default().conditions[0].message;
        ensure!(message.contains("Secret iotdevice-door"), "{message}");
        site.refused::<RootCA>("taken", "NameTaken").await?;
        site.refused::<MqttBroker>("mosquitto", "NameTaken").await?;
        site.refused::<Dashboard>("dashboard", "NameTaken").await?;

        unchanged(site, &device).await?;
        unchanged(site, &root).await?;
        unchanged(site, &config_map).await?;
        unchanged(site, &service).await?;

        // a thermometer that has no pod of its own has its certificate all the same
        let boiler =
            json!({"rootCARef": {"name": "root-ca"}, "brokerRef": {"name": "mosquitto"}, "thermometer": {}});
        site.apply::<IotDevice>("boiler", boiler).await?;
        let is_told = |device: &IotDevice| {
            let conditions =
                device.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            let degraded = conditions.iter().find(|condition| condition.type_ == api::conditions::DEGRADED);
            degraded.is_some_and(|degraded| {
                degraded.reason == "NameTaken" && degraded.message.contains("Deployment iotdevice-boiler")
            })
        };
        site.wait("boiler", PATIENCE, "told that its Deployment is somebody else's", is_told).await?;
        site.ready::<IotDevice>("boiler").await?;
        // Kubernetes' own controller reports on it; what it is made of stays as it was
        let now = site.api::<Deployment>().get("iotdevice-boiler").await?;
        ensure!(now.spec == deployment.spec && now.metadata.labels == deployment.metadata.labels);
        ensure!(now.metadata.generation == deployment.metadata.generation);

        // out of the way, it is seen to without anybody's doing
        site.api::<Secret>().delete("iotdevice-door", &DeleteParams::default()).await?;
        site.ready::<IotDevice>("door").await?;
        Ok(())
    }))
    .await
}

/// An object that is nobody's but the user's.
async fn put<K>(site: &Site, name: &str, fields: &Value) -> Result<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned,
{
    let mut object = fields.clone();
    object["metadata"] = json!({"name": name});
    Ok(site.api::<K>().create(&PostParams::default(), &serde_json::from_value(object)?).await?)
}

async fn unchanged<K>(site: &Site, before: &K) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let name = before.name_any();
    let after = site.api::<K>().get(&name).await?;
    let what = K::kind(&());
    ensure!(after.resource_version() == before.resource_version(), "{what} {name} was written to");
    Ok(())
}
