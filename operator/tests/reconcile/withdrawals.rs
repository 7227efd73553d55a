//! Devices that are suspended, revoked and brought back; devices that keep their key. The broker's side is on the real cluster.

use api::{CertificateState, IotDevice, Revoked};
use k8s_openapi::api::core::v1::Secret;
use pki::{Crl, KeyAlgorithm, PrivateKey, RevocationReason, SerialNumber};

use crate::support::resources::{DAY, device, root};
use crate::support::{Operator, Site, ready};

async fn site_with_door() -> (Site, Operator) {
    let (site, operator) = Site::with_door().await;
    site.wait(DAY);
    (site, operator)
}

fn listed(site: &Site, serial: SerialNumber) -> Option<RevocationReason> {
    let crl = Crl::from_pem(&site.file("rootca-root-ca", "g1.crl")).unwrap();
    crl.entry(serial).map(|entry| entry.reason)
}

fn serial(site: &Site) -> SerialNumber {
    site.client_files("iotdevice-door").certificate.serial()
}

#[tokio::test]
async fn a_suspended_device_gets_the_same_certificate_back() {
    let (site, operator) = site_with_door().await;
    let before = serial(&site);
    site.server.edit::<IotDevice>("door", |device| device["spec"]["suspended"] = true.into());
    operator.settle().await;
    let told = site.device("door");
    assert_eq!(told.state, Some(CertificateState::Suspended));
    assert_eq!(ready(&told.conditions).reason, "Suspended");
    assert_eq!(listed(&site, before), Some(RevocationReason::CertificateHold));
    let revocation = told.revocation.unwrap();
    assert_eq!((revocation.crl_number, revocation.listed_at.is_some()), (Some(2), true));

    // Not even what is due is renewed meanwhile.
    site.wait(DAY);
    operator.settle().await;
    assert_eq!(serial(&site), before);

    site.server.edit::<IotDevice>("door", |device| device["spec"]["suspended"] = false.into());
    operator.settle().await;
    let told = site.device("door");
    assert_eq!(ready(&told.conditions).status, "True", "{told:?}");
    assert_eq!((told.state, told.revocation), (Some(CertificateState::Valid), None));
    assert_eq!((serial(&site), listed(&site, before)), (before, None));
}

#[tokio::test]
async fn a_revoked_device_that_is_enrolled_afresh_gets_another_certificate_and_the_old_one_stays_revoked() {
    let (site, operator) = site_with_door().await;
    let before = serial(&site);
    let reason = Revoked { reason: RevocationReason::KeyCompromise, message: None };
    site.server.edit::<IotDevice>("door", |device| device["spec"]["revoked"] = serde_json::json!(reason));
    operator.settle().await;
    assert_eq!(site.device("door").state, Some(CertificateState::Revoked));
    assert_eq!(listed(&site, before), Some(RevocationReason::KeyCompromise));
    assert_eq!(serial(&site), before, "nothing new is issued");
    assert!(site.told("door").iter().any(|told| told.starts_with("Revoked: ")), "{:?}", site.told("door"));

    site.wait(DAY);
    site.server
        .edit::<IotDevice>("door", |device| drop(device["spec"].as_object_mut().unwrap().remove("revoked")));
    operator.settle().await;
    let after = serial(&site);
    assert_ne!(after, before);
    assert_eq!((listed(&site, before), listed(&site, after)), (Some(RevocationReason::KeyCompromise), None));
    assert_eq!(ready(&site.device("door").conditions).status, "True");
}

#[tokio::test]
async fn a_lost_device_whose_secret_is_gone_too_is_revoked_by_what_was_told_of_it() {
    let (site, operator) = site_with_door().await;
    let before = serial(&site);
    site.server.edit::<IotDevice>("door", |device| {
        device["spec"]["revoked"] = serde_json::json!({"reason": "cessationOfOperation"});
    });
    site.server.delete::<Secret>("iotdevice-door");
    operator.settle().await;
    assert_eq!(listed(&site, before), Some(RevocationReason::CessationOfOperation));
    assert!(site.server.get::<Secret>("iotdevice-door").is_none());
}

#[tokio::test]
async fn a_superseded_certificate_is_revoked_once_the_device_uses_the_next() {
    let (site, operator) = site_with_door().await;
    let before = serial(&site);
    site.server
        .edit::<IotDevice>("door", |device| device["spec"]["renewal"] = serde_json::json!({"trigger": "x"}));
    operator.settle().await;
    let after = serial(&site);
    assert_eq!(listed(&site, before), None, "it may still be in use");
    let acknowledgement = link::wire::CertificateAcknowledgement {
        serial_number: after.to_string(),
        not_after: site.now() + DAY,
        roots: Vec::new(),
    };
    operator.context.fleet.note_acknowledgement(crate::support::NAMESPACE, "door", &acknowledgement);
    operator.settle().await;
    assert_eq!(listed(&site, before), Some(RevocationReason::Superseded));
    assert_eq!(listed(&site, after), None);
}

#[tokio::test]
async fn a_device_that_keeps_its_key_gets_a_certificate_for_it_and_no_key_is_stored() {
    let site = Site::new();
    site.server.put(&root("root-ca"));
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP384).unwrap();
    let mut door = device("door");
    door.spec.csr = Some(request_for(&key));
    site.server.put(&door);
    let operator = site.operator();
    operator.settle().await;
    let secret = site.server.get::<Secret>("iotdevice-door").unwrap();
    assert_eq!(secret.type_.as_deref(), Some("ca-iot.dev/certificate"));
    assert_eq!(secret.data.unwrap().keys().collect::<Vec<_>>(), ["ca.crt", "tls.crt"]);
    let certificate = pki::Certificate::from_pem(&site.file("iotdevice-door", "tls.crt")).unwrap();
    assert!(key.public_key().fits(&certificate));
    assert_eq!(certificate.common_name(), Some("door"), "whatever the request says");
    assert!(!certificate.is_ca() && certificate.dns_names().is_empty());

    // It is renewed for the same key as long as the request stands, and issued anew for another.
    site.wait(61 * DAY);
    operator.settle().await;
    let renewed = pki::Certificate::from_pem(&site.file("iotdevice-door", "tls.crt")).unwrap();
    assert!(renewed.serial() != certificate.serial() && key.public_key().fits(&renewed));
    let next = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    site.server.edit::<IotDevice>("door", |device| device["spec"]["csr"] = request_for(&next).into());
    operator.settle().await;
    let replaced = pki::Certificate::from_pem(&site.file("iotdevice-door", "tls.crt")).unwrap();
    assert!(next.public_key().fits(&replaced));

    // The operator makes the key from now on: another type of Secret.
    site.server
        .edit::<IotDevice>("door", |device| drop(device["spec"].as_object_mut().unwrap().remove("csr")));
    operator.settle().await;
    site.client_files("iotdevice-door");
    assert_eq!(site.device("door").superseded.len(), 3, "none of those before is forgotten");
}

/// A signing request that asks for all that it should not get.
fn request_for(key: &PrivateKey) -> String {
    let mut params = rcgen::CertificateParams::new(vec!["bank.example".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "admin");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let pair = rcgen::KeyPair::from_pem(&key.to_pem()).unwrap();
    params.serialize_request(&pair).unwrap().pem().unwrap()
}
