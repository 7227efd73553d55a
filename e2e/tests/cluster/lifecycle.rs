//! Suspended, revoked, deleted, and a root replaced: each once, as it goes when nothing is in the way. With everything in the way it is
//! a drill.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use api::{CertificateState, IotDevice, MqttBroker, RootCA};
use e2e::{
    Identity, Site, environment,
    fleet::{Device, Secrets},
    listener::Listener,
    page::fetch,
    patience::eventually,
    site::{PATIENCE, Reported as _, empty_site},
    stubborn::{Answer, knock},
};
use http::{Response, StatusCode, header::CONTENT_TYPE};
use k8s_openapi::api::core::v1::Secret;
use link::BrokerAddress;
use pki::{Crl, RevocationReason, SerialNumber};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_suspended_device_comes_back_as_it_was_a_revoked_one_afresh_and_a_deleted_one_not_at_all()
-> Result<()> {
    publishing_site("withdrawn", async |site| {
        let broker = broker(site).await?;
        site.apply::<IotDevice>("door", json!({})).await?;
        site.ready::<IotDevice>("door").await?;
        let identity = site.identity::<IotDevice>("door").await?;
        let serial = identity.certificate()?.serial();
        is_accepted(&broker, &identity).await?;

        // on hold: out within seconds, in the CRL as that, and back with the same certificate
        site.apply::<IotDevice>("door", json!({"suspended": true})).await?;
        let state = out(site).await?.status.and_then(|status| status.state);
        ensure!(state == Some(CertificateState::Suspended), "{state:?}");
        ensure!(is_refused(&broker, &identity).await?);
        is_published(site, "root-ca.crl", serial, Some(RevocationReason::CertificateHold)).await?;
        site.apply::<IotDevice>("door", json!({"suspended": false})).await?;
        site.ready::<IotDevice>("door").await?;
        is_accepted(&broker, &identity).await?;
        ensure!(site.identity::<IotDevice>("door").await?.certificate()?.serial() == serial);
        is_published(site, "root-ca.crl", serial, None).await?;

        // revoked: out for good; without `revoked` it is enrolled afresh
        site.apply::<IotDevice>("door", json!({"revoked": {"reason": "keyCompromise"}})).await?;
        out(site).await?;
        ensure!(is_refused(&broker, &identity).await?);
        site.apply::<IotDevice>("door", json!({})).await?;
        site.ready::<IotDevice>("door").await?;
        let afresh = site.identity::<IotDevice>("door").await?;
        ensure!(afresh.certificate()?.serial() != serial);
        is_accepted(&broker, &afresh).await?;
        ensure!(is_refused(&broker, &identity).await?, "the revoked certificate is believed again");

        // deleted: what it has is revoked, and only then its Secret goes
        site.delete::<IotDevice>("door").await?;
        eventually("the Secret is gone", PATIENCE, async || {
            Ok(site.api::<Secret>().get_opt("iotdevice-door").await?.is_none().then_some(()))
        })
        .await?;
        ensure!(is_refused(&broker, &afresh).await?);
        is_published(site, "root-ca.g1.crl", serial, Some(RevocationReason::KeyCompromise)).await?;
        let last = afresh.certificate()?.serial();
        is_published(site, "root-ca.g1.crl", last, Some(RevocationReason::CessationOfOperation)).await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_root_is_replaced_under_devices_that_talk_and_nothing_is_lost() -> Result<()> {
    publishing_site("replaced", async |site| {
        let broker = broker(site).await?;
        let names = ["listener", "a", "b", "c"];
        for name in names {
            site.apply::<IotDevice>(name, json!({})).await?;
        }
        site.apply::<IotDevice>("pod", json!({"thermometer": {"interval": "200ms"}})).await?;
        for name in names {
            site.ready::<IotDevice>(name).await?;
        }
        site.ready::<IotDevice>("pod").await?;
        let old = site.identity::<IotDevice>("a").await?;
        let secrets = Secrets::follow(site);
        let listener =
            Listener::open(secrets.device(broker.clone(), "listener").await?, Duration::from_mins(10))
                .await?;
        let mut devices = Vec::new();
        for name in &names[1..] {
            devices.push(Device::start(name, &broker, &secrets, Duration::from_millis(200)).await?);
        }
        let heard = |name: &str| listener.last_reading(name).is_some();
        eventually("everybody is heard", PATIENCE, async || {
            Ok(["a", "b", "c", "pod"].into_iter().all(heard).then_some(()))
        })
        .await?;

        let spec = json!({"subject": {"commonName": "e2e"}, "rotation": {"trigger": "1"}});
        site.apply::<RootCA>("root-ca", spec).await?;
        let replaced = |root: &RootCA| {
            let status = root.status.as_ref();
            root.is_ready()
                && status.is_some_and(|it| it.rotation.is_none() && it.active_generation == Some(2))
        };
        site.wait("root-ca", Duration::from_mins(4), "replaced", replaced).await?;
        ensure!(is_refused(&broker, &old).await?, "the old root is still believed");
        ensure!(publication(site, "crl", "root-ca.g2.crl").await?.status() == StatusCode::OK);
        eventually("the old root is not published any more", PATIENCE, async || {
            let crl = publication(site, "crl", "root-ca.g1.crl").await?;
            let roots = publication(site, "roots", "root-ca.pem").await?;
            let roots = String::from_utf8_lossy(roots.body()).matches("-----BEGIN CERTIFICATE-----").count();
            Ok((crl.status() == StatusCode::NOT_FOUND && roots == 1).then_some(()))
        })
        .await?;

        for device in &devices {
            let (unsent, dropped) = (device.finish(Duration::from_secs(30)).await, device.dropped());
            ensure!((unsent, dropped) == (0, 0), "{}: {unsent} unsent, {dropped} dropped", device.name);
            let (first, last) = device.sent().context("nothing was sent")?;
            eventually("all readings are heard", Duration::from_mins(1), async || {
                Ok((listener.voice(&device.name).missing(first, last) == 0).then_some(()))
            })
            .await?;
        }
        ensure!(listener.voice("pod").gaps() == 0, "readings of the pod are missing");
        // only now: it takes the session over
        is_accepted(&broker, &site.identity::<IotDevice>("a").await?).await?;

        // their certificates of the old root are within their dates, and on no list any more
        let revoked = site.identity::<IotDevice>("b").await?;
        site.apply::<IotDevice>("b", json!({"revoked": {"reason": "keyCompromise"}})).await?;
        let is_cut = |device: &IotDevice| {
            let steps = device.status.as_ref().and_then(|status| status.revocation.as_ref());
            steps.is_some_and(|steps| steps.session_cut_at.is_some())
        };
        site.wait("b", PATIENCE, "cut off", is_cut).await?;
        ensure!(is_refused(&broker, &revoked).await?, "a revoked device is let in");
        site.delete::<IotDevice>("c").await?;
        eventually("the device is seen off", PATIENCE, async || {
            Ok(site.api::<Secret>().get_opt("iotdevice-c").await?.is_none().then_some(()))
        })
        .await
    })
    .await
}

async fn broker(site: &Site) -> Result<BrokerAddress> {
    site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "e2e"}})).await?;
    let access: Value = json!([{"name": "listener", "read": ["devices/#"]}]);
    site.apply::<MqttBroker>("mosquitto", site.broker_spec(json!({"access": access}))).await?;
    site.ready::<MqttBroker>("mosquitto").await?;
    site.broker_address("mosquitto").await
}

/// Waits until the device's status tells that it is out.
async fn out(site: &Site) -> Result<IotDevice> {
    let is_out = |device: &IotDevice| {
        let revocation = device.status.as_ref().and_then(|status| status.revocation.as_ref());
        revocation.is_some_and(|revocation| revocation.session_cut_at.is_some())
    };
    site.wait("door", PATIENCE, "out", is_out).await
}

/// Whether the broker says no. A connection that nobody answered is tried again: it says nothing.
async fn is_refused(broker: &BrokerAddress, identity: &Identity) -> Result<bool> {
    eventually("the broker answers", PATIENCE, async || {
        Ok(match knock(broker, identity).await? {
            Answer::Accepted => Some(false),
            Answer::Refused(_) => Some(true),
            Answer::Unreachable(_) => None,
        })
    })
    .await
}

async fn is_accepted(broker: &BrokerAddress, identity: &Identity) -> Result<()> {
    eventually("the broker lets it in", PATIENCE, async || {
        Ok((knock(broker, identity).await? == Answer::Accepted).then_some(()))
    })
    .await
}

/// A site where CRLs and roots are published.
async fn publishing_site(test: &str, body: impl AsyncFnOnce(&Site) -> Result<()>) -> Result<()> {
    empty_site(test, async |site| {
        let publication = json!({"service": {"enabled": true, "type": "NodePort"}});
        let values = json!({"site": {"enabled": false}, "publication": publication});
        site.install(&environment::chart(), &values).await?;
        body(site).await
    })
    .await
}

/// Waits until the CRL that the operator serves lists this certificate for this reason; none: not at all.
async fn is_published(
    site: &Site,
    file: &str,
    serial: SerialNumber,
    reason: Option<RevocationReason>,
) -> Result<()> {
    eventually(format_args!("{file} says {reason:?} of {serial}"), PATIENCE, async || {
        let answer = publication(site, "crl", file).await?;
        ensure!(answer.status() == StatusCode::OK, "{answer:?}");
        ensure!(answer.headers()[CONTENT_TYPE] == "application/pkix-crl", "{answer:?}");
        let crl = Crl::from_der(answer.into_body())?;
        Ok((crl.entry(serial).map(|entry| entry.reason) == reason).then_some(()))
    })
    .await
}

async fn publication(site: &Site, what: &str, file: &str) -> Result<Response<Vec<u8>>> {
    let path = format!("/{what}/{}/{file}", site.namespace);
    fetch(&site.publication_address().await?, &path, "en").await
}
