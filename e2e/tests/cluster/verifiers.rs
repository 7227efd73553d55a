//! What the operator issues, under the eyes of other people's verifiers: each key algorithm for root, CRL, broker and device.

use anyhow::{Result, ensure};
use api::{IotDevice, MqttBroker, RootCA};
use e2e::{Identity, Site, handshake, program, site, site::Reported};
use futures::future::try_join_all;
use serde_json::json;

use crate::stock_clients::{ACCEPTED, CONNECT, s_client, script};

const ALGORITHMS: [&str; 6] = ["EcdsaP256", "EcdsaP384", "Ed25519", "Rsa2048", "Rsa3072", "Rsa4096"];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn openssl_and_pkilint_find_nothing_and_rustls_openssl_and_python_connect() -> Result<()> {
    site("verifiers", async |site| {
        for algorithm in ALGORITHMS {
            let name = algorithm.to_lowercase();
            let subject = json!({
                "commonName": format!("e2e {algorithm}"), "organization": "Example Ltd", "country": "TW",
            });
            site.apply::<RootCA>(&name, json!({"subject": subject, "keyAlgorithm": algorithm})).await?;
            let leaf = json!({
                "rootCARef": {"name": name},
                "keyAlgorithm": algorithm,
                "subject": {"organization": "Example Ltd", "organizationalUnit": "Cold storage", "country": "TW"},
            });
            let mut device = leaf.clone();
            device["dnsNames"] = json!([format!("{name}.example.com")]);
            device["ipAddresses"] = json!(["192.0.2.7", "2001:db8::7"]);
            device["uris"] = json!([format!("https://example.com/devices/{name}")]);
            site.apply::<IotDevice>(&name, device).await?;
            site.apply::<MqttBroker>(&name, site.broker_spec(leaf)).await?;
        }
        for algorithm in ALGORITHMS {
            examine(site, &algorithm.to_lowercase()).await?;
        }
        Ok(())
    })
    .await
}

async fn examine(site: &Site, name: &str) -> Result<()> {
    site.ready::<IotDevice>(name).await?;
    site.ready::<MqttBroker>(name).await?;
    let device = identity::<IotDevice>(site, name).await?;
    let broker = identity::<MqttBroker>(site, name).await?;
    let crl = broker.file("ca.crl");
    for (identity, purpose) in [(&device, "sslclient"), (&broker, "sslserver")] {
        program("openssl")
            .args(["verify", "-x509_strict", "-crl_check", "-purpose", purpose])
            .args(["-CAfile", &identity.ca(), "-CRLfile", &crl, &identity.crt()])
            .succeeds()
            .await?;
    }
    let certificates = [device.ca(), device.crt(), broker.crt()];
    let certificates = certificates.iter().map(|file| pkilint("lint_pkix_cert", &["lint"], file));
    try_join_all(certificates).await?;
    pkilint("lint_crl", &["lint", "--type=CRL", "--profile=PKIX"], &crl).await?;

    let address = site.broker_address(name).await?;
    ensure!(handshake::served(&address, &device).await? == broker.certificate()?);
    for version in ["-tls1_2", "-tls1_3"] {
        let ended = s_client(&address, &device).args(["-verify_return_error", version]).run().await?;
        ensure!(ended.stdout.ends_with(ACCEPTED), "{name}: {ended:?}");
    }
    let said = script("ssl_client.py", &address, &device).input(CONNECT).succeeds().await?;
    ensure!(said == "TLSv1.3 20020000\n", "{name}: {said}");
    Ok(())
}

async fn identity<K: Reported>(site: &Site, name: &str) -> Result<Identity> {
    site.identity::<K>(name).await
}

/// What pkilint says of names inside the cluster, whatever the certificate: it knows only those of the public Internet. Brokers
/// bear `localhost` and the short names of their Service, and are to be reached by them.
const INSIDE: [&str; 2] =
    ["Invalid domain name syntax: \"localhost\"", "Invalid domain name syntax: \"mqttbroker-"];

/// pkilint prints its findings, two lines each; of a severity above NOTICE there must be none.
async fn pkilint(linter: &str, arguments: &[&str], file: &str) -> Result<()> {
    let findings = program(linter)
        .args(arguments)
        .args(["--severity=WARNING", file])
        .within(e2e::site::PATIENCE)
        .run()
        .await?;
    ensure!(findings.stderr.is_empty(), "{findings:?}");
    let found: Vec<_> = findings
        .stdout
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("GeneralNameDnsNameSyntaxValidator @ "))
        .filter(|line| !INSIDE.iter().any(|finding| line.contains(finding)))
        .collect();
    ensure!(found.is_empty(), "{linter} {file}:\n{}", found.join("\n"));
    Ok(())
}
