//! What the operator may do, and what it does: the rights of its account beside the requests that the API server has written down;
//! and private keys, which are in Secrets and nowhere else.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use api::{Dashboard, IotDevice, MqttBroker, RootCA};
use e2e::{
    Site, environment, operator_pod,
    patience::eventually,
    site::{PATIENCE, empty_site},
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Pod, Secret},
    rbac::v1::{PolicyRule, Role},
};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};

/// Group, resource (`iotdevices/status`) and verb.
type Right = (String, String, String);

/// The audit log of deploy/kind-e2e.yaml, as the kubelet serves it.
const AUDIT_LOG: &str = "logs/kubernetes/audit/audit.log";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn the_operator_has_every_right_that_it_uses_and_uses_every_right_that_it_has() -> Result<()> {
    empty_site("rights", async |site| {
        site.install(&environment::chart(), &json!({"replicas": 2, "site": {"enabled": false}})).await?;
        live_through_everything(site).await?;

        let rules = rules(site).await?;
        let granted: BTreeSet<Right> = rules.iter().flat_map(rights).collect();
        let account = format!("system:serviceaccount:{}:ca-iot-operator", site.namespace);
        let mut used = BTreeSet::new();
        for request in audited(site, &account).await? {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let of = &request["objectRef"];
            ensure!(request["responseStatus"]["code"] != 403, "refused: {}", request["requestURI"]);
            let resource = match text(&of["subresource"]) {
                none if none.is_empty() => text(&of["resource"]),
                subresource => format!("{}/{subresource}", text(&of["resource"])),
            };
            let (verb, uri) = (text(&request["verb"]), text(&request["requestURI"]));
            if resource == "secrets" && matches!(&*verb, "list" | "watch") {
                let ours = "labelSelector=app.kubernetes.io%2Fmanaged-by%3Dca-iot";
                ensure!(uri.contains(ours), "Secrets of others are looked at: {uri}");
            }
            // a server-side apply that makes an object needs the right to create it, too
            if verb == "patch" && request["responseStatus"]["code"] == 201 {
                used.insert((text(&of["apiGroup"]), resource.clone(), "create".to_owned()));
            }
            used.insert((text(&of["apiGroup"]), resource, verb));
        }
        let missing: Vec<_> = used.difference(&granted).collect();
        ensure!(missing.is_empty(), "used without a right: {missing:?}");

        // Nobody can grant what they do not hold: the rights of dashboards are the operator's, too.
        let role = site.api::<Role>().get("dashboard-dashboard").await?;
        let passed_on: BTreeSet<Right> = role.rules.iter().flatten().flat_map(rights).collect();
        let unused: Vec<_> =
            granted.iter().filter(|right| !used.contains(right) && !passed_on.contains(right)).collect();
        ensure!(unused.is_empty(), "rights that nothing uses: {unused:?}");
        environment::measured(
            "rights of the operator: granted / used by a request / held for dashboards only",
            format_args!(
                "{} / {} / {}",
                granted.len(),
                used.len(),
                passed_on.iter().filter(|right| !used.contains(right)).count()
            ),
        )
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn private_keys_are_in_secrets_and_nowhere_else() -> Result<()> {
    empty_site("keys", async |site| {
        site.install(&environment::chart(), &json!({"site": {"enabled": false}})).await?;
        let mut keys = BTreeSet::new();
        keys_so_far(site, &mut keys).await?;
        live_through_everything(site).await?;
        keys_so_far(site, &mut keys).await?;
        ensure!(keys.len() >= 8, "only {} pieces of keys: nothing is shown here", keys.len());

        let mut places = Vec::new();
        let everything = "iot,pods,services,configmaps,deployments,persistentvolumeclaims,serviceaccounts,\
                          roles,rolebindings,leases,events,events.events.k8s.io,replicasets";
        places.push(("what is stored", site.kubectl(&["get", everything, "--output=json"]).await?));
        // the annotations of Secrets are for everybody who may list metadata
        let metadata = "--output=jsonpath={.items[*].metadata}";
        places.push(("metadata of Secrets", site.kubectl(&["get", "secrets", metadata]).await?));
        // the pod of the leader that was stopped goes, another comes: whoever is there then has a log
        let pods = eventually("every pod is there to stay", PATIENCE, async || {
            let pods = site.api::<Pod>().list(&ListParams::default()).await?.items;
            Ok(pods.iter().all(is_there_to_stay).then_some(pods))
        });
        for pod in pods.await? {
            let name = format!("pod/{}", pod.name_any());
            let logs = ["logs", &name, "--all-containers", "--tail=-1"];
            places.push(("a log", site.kubectl(&logs).await?));
        }
        let operator = operator_pod::wait_for_leader(site).await?;
        for path in ["metrics", "readyz"] {
            places.push(("the operator's own pages", operator_pod::ask(site, &operator, path).await?));
        }
        ensure!(places.iter().any(|(_, text)| text.contains("issued certificate")), "no log was read");
        for (place, text) in places {
            if let Some(key) = keys.iter().find(|key| text.contains(key.as_str())) {
                bail!("a private key is in {place}: {}…", &key[..8]);
            }
        }
        Ok(())
    })
    .await
}

fn is_there_to_stay(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && operator_pod::is_ready(pod)
}

/// Everything that an operator ever does: makes, renews, repairs and takes away.
async fn live_through_everything(site: &Site) -> Result<()> {
    let root = json!({"subject": {"commonName": "e2e"}, "deletionPolicy": "Delete"});
    site.apply::<RootCA>("root-ca", root.clone()).await?;
    let storage = json!({"storage": {"size": "16Mi"}});
    site.apply::<MqttBroker>("mosquitto", site.broker_spec(storage)).await?;
    site.apply::<Dashboard>("dashboard", json!({})).await?;
    site.apply::<IotDevice>("door", json!({"thermometer": {}})).await?;
    site.ready::<MqttBroker>("mosquitto").await?;
    site.ready::<Dashboard>("dashboard").await?;
    site.ready::<IotDevice>("door").await?;
    site.apply::<IotDevice>("door", json!({"thermometer": {}, "renewal": {"trigger": "1"}})).await?;
    site.ready::<IotDevice>("door").await?;
    site.apply::<IotDevice>("window", json!({})).await?;
    site.ready::<IotDevice>("window").await?;
    site.delete::<IotDevice>("window").await?;
    eventually("the device is seen off", PATIENCE, async || {
        Ok(site.api::<Secret>().get_opt("iotdevice-window").await?.is_none().then_some(()))
    })
    .await?;
    site.apply::<RootCA>("passing", root).await?;
    site.ready::<RootCA>("passing").await?;

    // no simulation any more: its Deployment goes
    site.apply::<IotDevice>("door", json!({"renewal": {"trigger": "1"}, "rootCARef": {"name": "root-ca"}}))
        .await?;
    eventually("the simulation is gone", PATIENCE, async || {
        Ok(site.api::<Deployment>().get_opt("iotdevice-door").await?.is_none().then_some(()))
    })
    .await?;
    site.delete::<RootCA>("passing").await?;
    eventually("the key of the root is gone", PATIENCE, async || {
        Ok(site.api::<Secret>().get_opt("rootca-passing").await?.is_none().then_some(()))
    })
    .await?;
    // the leader stops and gives the lease back; the other reads it, and takes it
    let leader = operator_pod::wait_for_leader(site).await?;
    site.api::<Pod>().delete(&leader, &DeleteParams::default()).await?;
    eventually("another leads", PATIENCE, async || {
        Ok(operator_pod::leader(site).await?.is_some_and(|now| now != leader).then_some(()))
    })
    .await?;
    let after = json!({"renewal": {"trigger": "2"}, "rootCARef": {"name": "root-ca"}});
    site.apply::<IotDevice>("door", after).await?;
    site.ready::<IotDevice>("door").await?;
    Ok(())
}

/// The rules of every Role of the operator's own.
async fn rules(site: &Site) -> Result<Vec<PolicyRule>> {
    let roles = ["ca-iot-operator", "ca-iot-operator-lease"];
    let mut rules = Vec::new();
    for role in roles {
        rules.extend(site.api::<Role>().get(role).await?.rules.unwrap_or_default());
    }
    Ok(rules)
}

fn rights(rule: &PolicyRule) -> Vec<Right> {
    let mut rights = Vec::new();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            rights.extend(rule.verbs.iter().map(|verb| (group.clone(), resource.clone(), verb.clone())));
        }
    }
    rights
}

/// What the API server has written down of `account`.
async fn audited(site: &Site, account: &str) -> Result<Vec<Value>> {
    let client = site.api::<Pod>().into_client();
    let nodes = kube::Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let node = nodes.items.first().context("no node")?.name_any();
    let url = format!("/api/v1/nodes/{node}/proxy/{AUDIT_LOG}");
    let log = client.request_text(http::Request::get(url).body(Vec::new())?).await.context(
        "no audit log: this API server does not write one as deploy/kind-e2e.yaml has it; delete the cluster and let \
         `cargo xtask test e2e` make another",
    )?;
    let here = log.lines().filter(|line| line.contains(account));
    let requests: Vec<Value> = here.filter_map(|line| serde_json::from_str(line).ok()).collect();
    ensure!(!requests.is_empty(), "the audit log tells nothing of {account}");
    Ok(requests)
}

/// What tells private keys from other text, of every key in a Secret: a line of PEM, and a piece encoded once more, behind what
/// all keys of a kind begin with.
async fn keys_so_far(site: &Site, keys: &mut BTreeSet<String>) -> Result<()> {
    for secret in site.api::<Secret>().list(&ListParams::default()).await?.items {
        let encoded = serde_json::to_value(&secret.data)?;
        for (name, value) in
            secret.data.iter().flatten().filter(|(name, _)| name.rsplit('.').next() == Some("key"))
        {
            let pem = String::from_utf8(value.0.clone())?;
            keys.insert(pem.lines().nth(1).context("a key of one line")?.to_owned());
            keys.extend(encoded[name].as_str().and_then(|text| text.get(108..148)).map(str::to_owned));
        }
    }
    Ok(())
}
