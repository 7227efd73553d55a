//! Two operators that start at the same moment where there is nothing but what users wrote.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use api::{IotDevice, RootCA};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::{Site, identity::part, observer::Observer, operator_pod, patience::eventually, site::PATIENCE};

/// Starts two operators together, so many times, each time on a namespace with a `RootCA`, a device and nothing of an operator's; makes
/// sure that one root was ever there and that it has signed for the device. Every version of every Secret is judged by an
/// [`Observer`]. Returns the roots' fingerprints, one for each try.
pub async fn run(site: &Site, tries: usize) -> Result<BTreeSet<String>> {
    let (mut roots, secrets) = (BTreeSet::new(), site.api::<Secret>());
    for number in 1..=tries {
        operator_pod::scale(site, 0).await?;
        site.api::<Lease>().delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        let root = json!({"subject": {"commonName": "race"}, "deletionPolicy": "Delete"});
        site.apply::<RootCA>("root-ca", root).await?;
        site.apply::<IotDevice>("door", json!({})).await?;
        ensure!(secrets.get_opt("rootca-root-ca").await?.is_none(), "a root before anybody made one");

        let observer = Observer::start(site).await?;
        // returns when both are ready: by then the second has had its turn, and stands by
        operator_pod::scale(site, 2).await?;
        site.ready::<IotDevice>("door").await?;
        let verdict = observer.stop().await?;
        verdict.check()?;
        ensure!(verdict.roots == 1, "try {number}: {} roots", verdict.roots);
        let stored = site.secret("rootca-root-ca").await?;
        let stored = pki::Certificate::from_pem(&part(&stored, "g1.crt")?)?;
        site.identity::<IotDevice>("door").await?.certificate()?.check_signed_by(&stored)?;
        ensure!(roots.insert(stored.fingerprint()), "try {number}: the root of a try before");

        site.delete::<IotDevice>("door").await?;
        eventually("the device's Secret is gone", PATIENCE, async || {
            Ok(secrets.get_opt("iotdevice-door").await?.is_none().then_some(()))
        })
        .await?;
        operator_pod::scale(site, 0).await?;
        site.delete::<RootCA>("root-ca").await?;
        eventually("all of it is gone", PATIENCE, async || {
            let ours = ListParams::default().labels(&api::names::managed_selector());
            Ok(secrets.list(&ours).await?.items.is_empty().then_some(()))
        })
        .await?;
    }
    Ok(roots)
}
