//! What the operator has made, and what happens when somebody takes it away or was there first.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use api::{Dashboard, IotDevice, MqttBroker, RootCA};
use e2e::{Site, environment::measured, site};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Secret, Service},
    },
};
use kube::{
    Resource, ResourceExt as _,
    api::{DeleteParams, PostParams},
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
    measured(
        &format!("deleted, {} {name} is back after", K::kind(&())),
        format_args!("{:.0?}", from.elapsed()),
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn what_somebody_else_has_made_stays_as_it_is_and_is_named() -> Result<()> {
    site("foreign", async |site| {
        let data = json!({"data": {"mine": "bWluZQ=="}});
        let device = put::<Secret>(site, "iotdevice-door", &data).await?;
        let root = put::<Secret>(site, "rootca-taken", &data).await?;
        let config_map =
            put::<ConfigMap>(site, "mqttbroker-mosquitto", &json!({"data": {"mine": "mine"}})).await?;
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

        // out of the way, it is seen to without anybody's doing
        site.api::<Secret>().delete("iotdevice-door", &DeleteParams::default()).await?;
        site.ready::<IotDevice>("door").await?;
        Ok(())
    })
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
