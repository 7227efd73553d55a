//! Roots that were there before: they are loaded, not replaced.

use anyhow::{Context as _, Result, ensure};
use api::{IotDevice, RootCA};
use e2e::{Site, identity::another_root, site};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use pki::SigningRoot;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn an_imported_root_signs_as_it_is() -> Result<()> {
    site("imported", async |site| {
        let plant = another_root()?;
        create_tls_secret(site, "plant-root", &plant, &plant).await?;
        let theirs = site.secret("plant-root").await?;
        site.kubectl(&["apply", "--filename", "deploy/samples/imported-root.yaml"]).await?;

        ensure!(fingerprint(&site.ready("plant").await?)? == plant.certificate().fingerprint());
        site.apply::<IotDevice>("door", json!({"rootCARef": {"name": "plant"}})).await?;
        site.ready::<IotDevice>("door").await?;
        let door = site.identity::<IotDevice>("door").await?;
        door.certificate()?.check_signed_by(plant.certificate())?;
        ensure!(site.secret("plant-root").await?.resource_version() == theirs.resource_version());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn an_import_that_cannot_be_used_says_why_overwrites_nothing_and_is_taken_up_once_mended() -> Result<()>
{
    site("bad-import", async |site| {
        let (plant, other) = (another_root()?, another_root()?);
        create_tls_secret(site, "plant-root", &plant, &other).await?;
        let theirs = site.secret("plant-root").await?;
        site.kubectl(&["apply", "--filename", "deploy/samples/imported-root.yaml"]).await?;

        let refused = site.refused::<RootCA>("plant", "ImportRefused").await?;
        let message =
            refused.status.unwrap_or_default().conditions.first().context("no condition")?.message.clone();
        ensure!(message.contains("plant-root") && message.contains("key"), "{message}");
        ensure!(site.secret("plant-root").await?.resource_version() == theirs.resource_version());
        ensure!(
            site.api::<Secret>().get_opt("rootca-plant").await?.is_none(),
            "a root was made all the same"
        );

        site.kubectl(&["delete", "secret", "plant-root"]).await?;
        create_tls_secret(site, "plant-root", &plant, &plant).await?;
        ensure!(fingerprint(&site.ready("plant").await?)? == plant.certificate().fingerprint());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_root_that_is_deleted_and_made_anew_is_the_same_root() -> Result<()> {
    site("retained", async |site| {
        let spec = json!({"subject": {"commonName": "e2e"}});
        site.apply::<RootCA>("root-ca", spec.clone()).await?;
        site.apply::<IotDevice>("door", json!({})).await?;
        let before = fingerprint(&site.ready("root-ca").await?)?;
        let key = site.root_key("root-ca").await?.key().to_pem();
        site.ready::<IotDevice>("door").await?;
        let door = site.identity::<IotDevice>("door").await?.certificate()?;

        site.delete::<RootCA>("root-ca").await?;
        site.refused::<IotDevice>("door", "WaitingForRoot").await?;
        site.apply::<RootCA>("root-ca", spec).await?;
        ensure!(fingerprint(&site.ready("root-ca").await?)? == before);
        ensure!(site.root_key("root-ca").await?.key().to_pem() == key);
        site.ready::<IotDevice>("door").await?;
        ensure!(
            site.identity::<IotDevice>("door").await?.certificate()? == door,
            "nothing had to be issued anew"
        );
        Ok(())
    })
    .await
}

/// What `kubectl create secret tls` makes; it does not mind a key that belongs to another certificate.
async fn create_tls_secret(
    site: &Site,
    name: &str,
    certificate: &SigningRoot,
    key: &SigningRoot,
) -> Result<()> {
    let folder = site.folder()?;
    std::fs::write(folder.join("tls.crt"), certificate.certificate().to_pem())?;
    std::fs::write(folder.join("tls.key"), key.key().to_pem().as_bytes())?;
    site.kubectl_program()
        .args(["create", "secret", "generic", name, "--type=Opaque"])
        .arg(format!("--from-file={}", folder.join("tls.crt").display()))
        .arg(format!("--from-file={}", folder.join("tls.key").display()))
        .succeeds()
        .await?;
    Ok(())
}

fn fingerprint(root: &RootCA) -> Result<String> {
    let generation = root.status.as_ref().and_then(|status| status.generations.first());
    Ok(generation.context("no generation is told")?.fingerprint.clone())
}
