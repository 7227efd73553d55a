//! Roots that were there before: they are loaded, not replaced.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use api::{IotDevice, RootCA};
use e2e::{Site, environment::measured, identity::another_root, site, site::Reported as _};
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

/// How soon an import that was mended in place is taken up.
const TAKEN_UP: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn an_import_is_refused_for_what_is_wrong_with_it_and_taken_up_within_two_seconds_of_its_mending()
-> Result<()> {
    site("bad-imports", async |site| {
        let (good, other) = (another_root()?, another_root()?);
        let certificate = good.certificate().to_pem();
        for (name, certificate, key, words) in bad_imports(&good, &other)? {
            let secret = format!("import-{name}");
            write_import(site, &secret, &certificate, &key).await?;
            let theirs = site.secret(&secret).await?;
            let spec = json!({"subject": {"commonName": name}, "importFrom": {"secretName": secret}});
            site.apply::<RootCA>(name, spec).await?;
            let refused = site.refused::<RootCA>(name, "ImportRefused").await?;
            let conditions = refused.status.unwrap_or_default().conditions;
            let message = &conditions.first().context("no condition")?.message;
            for word in words.iter().chain([&&*secret]) {
                ensure!(message.contains(word), "{name}: {word:?} is not in {message:?}");
            }
            ensure!(site.secret(&secret).await? == theirs, "{name}: it was written to");
            let made = site.api::<Secret>().get_opt(&format!("rootca-{name}")).await?;
            ensure!(made.is_none(), "{name}: a root was made all the same");
        }
        let _alone = site.alone().await;
        let mut longest = Duration::ZERO;
        for (name, ..) in bad_imports(&good, &other)? {
            let from = Instant::now();
            write_import(site, &format!("import-{name}"), &certificate, &good.key().to_pem()).await?;
            let root: RootCA = site.wait(name, TAKEN_UP, "taken up", RootCA::is_ready).await?;
            longest = longest.max(from.elapsed());
            ensure!(fingerprint(&root)? == good.certificate().fingerprint());
        }
        measured("an import that was mended in place is Ready after, at most", format_args!("{longest:.1?}"))
    })
    .await
}

/// What is wrong, the two files, and what the refusal says.
type BadImport = (&'static str, String, String, &'static [&'static str]);

fn bad_imports(good: &SigningRoot, other: &SigningRoot) -> Result<Vec<BadImport>> {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
    let sign = |change: &dyn Fn(&mut CertificateParams)| -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(rcgen::DnType::CommonName, "Somebody");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        change(&mut params);
        Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
    };
    let (certificate, key) = (good.certificate().to_pem(), good.key().to_pem().to_string());
    let (expired, expired_key) = sign(&|params| params.not_after = rcgen::date_time_ymd(2001, 1, 1))?;
    let (leaf, leaf_key) = sign(&|params| params.is_ca = IsCa::ExplicitNoCa)?;
    let (silent, silent_key) = sign(&|params| params.key_usages = vec![KeyUsagePurpose::CrlSign])?;
    // what `openssl pkcs8 -topk8` makes of a key with a password; what is in it is never looked at
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    Ok(vec![
        ("invalid", certificate.replacen("MII", "AAA", 1), key.clone(), &["tls.crt"]),
        ("expired", expired, expired_key, &["expired"]),
        ("not-a-ca", leaf, leaf_key, &["CA"]),
        ("no-cert-sign", silent, silent_key, &["keyCertSign"]),
        ("wrong-key", certificate.clone(), other.key().to_pem().to_string(), &["key"]),
        ("encrypted", certificate.clone(), encrypted, &["encrypted"]),
        ("garbage", "garbage".to_owned(), "garbage".to_owned(), &["tls.crt"]),
        ("no-key", certificate, String::new(), &["tls.key"]),
    ])
}

/// Creates or changes a Secret as its owner would.
async fn write_import(site: &Site, name: &str, certificate: &str, key: &str) -> Result<()> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
        "stringData": {"tls.crt": certificate, "tls.key": key},
    });
    site.kubectl_program().args(["apply", "--filename=-"]).input(secret.to_string()).succeeds().await?;
    Ok(())
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
