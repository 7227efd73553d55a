//! Devices that keep their private key: the operator gets a signing request, and of it takes the key and nothing else.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use api::{IotDevice, MqttBroker, RootCA};
use e2e::{Site, identity::part, program, site, site::Reported as _};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{ResourceExt, api::ListParams};
use pki::{Certificate, PrivateKey, Usage};
use serde_json::json;

/// What a request asks for that a device is not to have.
const GREEDY: &str = "
[req]
distinguished_name = dn
prompt = no
req_extensions = extensions
[dn]
CN = mosquitto.broker
O = Somebody else
[extensions]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
extendedKeyUsage = serverAuth
subjectAltName = DNS:mqttbroker-mosquitto, DNS:localhost, IP:127.0.0.1
";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_device_keeps_its_key_and_gets_what_the_policy_says_whatever_its_request_asks_for() -> Result<()> {
    site("own-key", async |site| {
        site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "e2e"}})).await?;
        site.apply::<MqttBroker>("mosquitto", site.broker_spec(json!({}))).await?;
        let folder = site.folder()?;
        let key = key(&folder, "door.key").await?;
        let request = request(&folder, &key, GREEDY).await?;
        let spec = json!({"csr": request, "dnsNames": ["door.plant.example"]});
        site.apply::<IotDevice>("door", spec.clone()).await?;
        site.ready::<IotDevice>("door").await?;

        let secret = site.secret("iotdevice-door").await?;
        ensure!(secret.type_.as_deref() == Some("ca-iot.dev/certificate"), "{:?}", secret.type_);
        let files: Vec<_> = secret.data.iter().flat_map(|data| data.keys()).collect();
        ensure!(files == ["ca.crt", "tls.crt"], "{files:?}");
        let certificate = Certificate::from_pem(&part(&secret, "tls.crt")?)?;
        ensure!(certificate.common_name() == Some("door"), "{certificate:?}");
        ensure!(certificate.subject() == "CN=door", "{certificate:?}");
        ensure!(!certificate.is_ca() && !certificate.signs_certificates() && !certificate.signs_crls());
        ensure!(certificate.usage() == Some(Usage::Client), "{certificate:?}");
        ensure!(certificate.dns_names() == ["door.plant.example"], "{:?}", certificate.dns_names());
        ensure!(certificate.ip_addresses().is_empty(), "{:?}", certificate.ip_addresses());

        // it works with the key that only the device has, and that key is nowhere in the cluster
        std::fs::write(folder.join("door.crt"), part(&secret, "tls.crt")?)?;
        std::fs::write(folder.join("ca.crt"), part(&secret, "ca.crt")?)?;
        site.ready::<MqttBroker>("mosquitto").await?;
        let broker = site.broker_address("mosquitto").await?;
        let file = |name: &str| folder.join(name).display().to_string();
        program("mosquitto_pub")
            .args(["-h", &broker.host, "-p", &broker.port.to_string(), "-q", "1"])
            .args(["--cafile", &file("ca.crt"), "--cert", &file("door.crt"), "--key", &file("door.key")])
            .args(["-t", "devices/door/telemetry", "-m", "{}"])
            .succeeds()
            .await?;
        let holders = holders_of(site, &key, &certificate).await?;
        ensure!(holders.is_empty(), "the key is in {holders:?}");

        // renewed for the same key while the request stands; another request is another key
        let mut renewed = spec;
        renewed["renewal"] = json!({"trigger": "1"});
        site.apply::<IotDevice>("door", renewed.clone()).await?;
        site.ready::<IotDevice>("door").await?;
        let again = stored(site).await?;
        ensure!(again.serial() != certificate.serial() && again.public_key() == certificate.public_key());
        let other = self::key(&folder, "other.key").await?;
        renewed["csr"] = self::request(&folder, &other, GREEDY).await?.into();
        site.apply::<IotDevice>("door", renewed).await?;
        site.ready::<IotDevice>("door").await?;
        ensure!(stored(site).await?.public_key() != certificate.public_key());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_request_that_proves_nothing_is_refused_with_the_reason() -> Result<()> {
    site("bad-request", async |site| {
        site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "e2e"}})).await?;
        site.ready::<RootCA>("root-ca").await?;
        let folder = site.folder()?;
        let openssl = |arguments: &[&str]| program("openssl").args(arguments).in_folder(&folder).succeeds();

        let weak = "req -newkey rsa:1024 -nodes -keyout weak.key -subj /CN=door";
        let weak = openssl(&weak.split(' ').collect::<Vec<_>>()).await?;
        refused(site, "weak", &weak, &["spec.csr", "1024", "2048"]).await?;

        // the signature of one request under the key of another
        let key = key(&folder, "door.key").await?;
        let good = request(&folder, &key, GREEDY).await?;
        refused(site, "forged", &with_last_octet_changed(&folder, &good).await?, &["spec.csr", "signature"])
            .await?;
        refused(
            site,
            "garbage",
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
            &["spec.csr"],
        )
        .await?;
        refused(site, "key", &std::fs::read_to_string(&key)?, &["spec.csr"]).await?;
        Ok(())
    })
    .await
}

async fn refused(site: &Site, name: &str, csr: &str, words: &[&str]) -> Result<()> {
    site.apply::<IotDevice>(name, json!({"csr": csr})).await?;
    let device = site.refused::<IotDevice>(name, "InvalidSpec").await?;
    let message = &device.conditions().first().context("no condition")?.message;
    ensure!(words.iter().all(|word| message.contains(word)), "{name}: {message}");
    ensure!(
        site.api::<Secret>().get_opt(&format!("iotdevice-{name}")).await?.is_none(),
        "{name} has a Secret"
    );
    Ok(())
}

async fn key(folder: &Path, name: &str) -> Result<PathBuf> {
    let make = ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", name];
    program("openssl").args(make).in_folder(folder).succeeds().await?;
    Ok(folder.join(name))
}

async fn request(folder: &Path, key: &Path, config: &str) -> Result<String> {
    std::fs::write(folder.join("request.cnf"), config)?;
    let make = ["req", "-new", "-config", "request.cnf", "-key"];
    program("openssl").args(make).arg(key).in_folder(folder).succeeds().await
}

/// The last octets of a request are its signature.
async fn with_last_octet_changed(folder: &Path, request: &str) -> Result<String> {
    std::fs::write(folder.join("good.csr"), request)?;
    let to_der = ["req", "-in", "good.csr", "-outform", "DER", "-out", "forged.der"];
    program("openssl").args(to_der).in_folder(folder).succeeds().await?;
    let mut der = std::fs::read(folder.join("forged.der"))?;
    *der.last_mut().context("an empty request")? ^= 1;
    std::fs::write(folder.join("forged.der"), der)?;
    let to_pem = ["req", "-inform", "DER", "-in", "forged.der"];
    program("openssl").args(to_pem).in_folder(folder).succeeds().await
}

async fn stored(site: &Site) -> Result<Certificate> {
    Ok(Certificate::from_pem(&part(&site.secret("iotdevice-door").await?, "tls.crt")?)?)
}

/// Every Secret and `ConfigMap` of the namespace in which the key of `certificate` stands, as it is in its file or in
/// another form.
async fn holders_of(site: &Site, key: &Path, certificate: &Certificate) -> Result<Vec<String>> {
    let pem = std::fs::read_to_string(key)?;
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let holds = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let fits = PrivateKey::from_pem(&text).is_ok_and(|key| key.public_key().fits(certificate));
        fits || text.split_whitespace().collect::<String>().contains(&body)
    };
    ensure!(holds(pem.as_bytes()), "this search would not find it");
    let secrets = site.api::<Secret>().list(&ListParams::default()).await?.items;
    let maps = site.api::<ConfigMap>().list(&ListParams::default()).await?.items;
    ensure!(!secrets.is_empty() && !maps.is_empty(), "nothing to search");
    let in_secret = |secret: &&Secret| secret.data.iter().flatten().any(|(_, bytes)| holds(&bytes.0));
    let in_map = |map: &&ConfigMap| map.data.iter().flatten().any(|(_, text)| holds(text.as_bytes()));
    let secrets = secrets.iter().filter(in_secret).map(ResourceExt::name_any);
    let maps = maps.iter().filter(in_map).map(ResourceExt::name_any);
    Ok(secrets.chain(maps).collect())
}
