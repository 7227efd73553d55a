//! Devices that are suspended, revoked and brought back; devices that keep their key. The broker's side is on the real cluster.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::{CertificateState, IotDevice, Loaded, LoadedCrl, MqttBroker, Revoked, names};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use link::Failure;
use pki::{Crl, KeyAlgorithm, PrivateKey, RevocationReason, SerialNumber};

use crate::support::resources::{DAY, broker, device, root};
use crate::support::{NAMESPACE, Operator, Site, condition, ready};

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
async fn a_broker_that_is_away_keeps_nobody_in_at_another() {
    let (brokers, site, operator) = Brokers::with_door(&["east", "west"]).await;
    site.server.edit::<IotDevice>("door", |device| {
        device["spec"]["revoked"] = serde_json::json!({"reason": "keyCompromise"});
    });
    operator.settle().await;
    let told = site.device("door").revocation.unwrap();
    assert!(told.listed_at.is_some() && told.loaded_at.is_none(), "{told:?}");

    for name in ["east", "west"] {
        operator.context.fleet.note_loaded(NAMESPACE, name, &all_of_it(&operator));
    }
    brokers.is_away(Some("west"));
    operator.settle().await;
    brokers.are_asked(2).await;
    operator.settle().await;
    let told = site.device("door");
    let degraded = condition(&told.conditions, api::conditions::DEGRADED);
    assert!(degraded.message.contains("at the broker west"), "{degraded:?}");
    assert_eq!(told.revocation.unwrap().session_cut_at, None);

    brokers.is_away(None);
    site.wait(operator::fleet::CUT_AGAIN + Duration::from_secs(1));
    operator.settle().await;
    brokers.are_asked(3).await;
    operator.settle().await;
    assert!(site.device("door").revocation.unwrap().session_cut_at.is_some());
    assert!(site.told("door").iter().any(|told| told.starts_with("SessionCut: east, west use")));
    assert_eq!((brokers.asked("east"), brokers.asked("west")), (1, 2), "each is cut once, by itself");
}

#[tokio::test]
async fn nobody_is_cut_at_a_broker_that_does_not_use_the_list_yet() {
    let (brokers, site, operator) = Brokers::with_door(&["east", "west"]).await;
    let before = all_of_it(&operator);
    site.server.edit::<IotDevice>("door", |device| device["spec"]["suspended"] = true.into());
    operator.settle().await;
    operator.context.fleet.note_loaded(NAMESPACE, "east", &all_of_it(&operator));
    operator.context.fleet.note_loaded(NAMESPACE, "west", &before);
    operator.settle().await;
    brokers.are_asked(1).await;
    operator.settle().await;
    assert_eq!((brokers.asked("east"), brokers.asked("west")), (1, 0));
    let told = site.device("door").revocation.unwrap();
    assert_eq!((told.loaded_at, told.session_cut_at), (None, None), "not at every broker");
}

#[tokio::test]
async fn a_device_that_is_gone_is_cut_at_a_broker_that_was_not_asked_yet_what_it_uses() {
    let (brokers, site, operator) = Brokers::with_door(&["mosquitto"]).await;
    // An earlier operator saw it run; this one has only read so.
    let seen = serde_json::json!(all_of_it(&operator));
    site.server.edit::<MqttBroker>("mosquitto", |broker| broker["status"]["loaded"] = seen);
    site.server.delete::<IotDevice>("door");
    operator.settle().await;
    assert!(site.server.get::<Secret>("iotdevice-door").is_some(), "it may hold a session there");

    operator.context.fleet.note_loaded(NAMESPACE, "mosquitto", &all_of_it(&operator));
    operator.settle().await;
    brokers.are_asked(1).await;
    operator.settle().await;
    assert!(site.server.get::<Secret>("iotdevice-door").is_none());
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

/// Brokers that let in whoever asks, but for one that may be away.
#[derive(Default)]
struct Brokers {
    /// The hosts that were asked, in order.
    asked: Mutex<Vec<String>>,
    away: Mutex<Option<String>>,
}

// === impl Brokers ===

impl Brokers {
    /// A site with these brokers, a device that knows all of them, and an operator that has asked none what it uses.
    async fn with_door(names: &[&str]) -> (Arc<Self>, Site, Operator) {
        let brokers = Arc::new(Self::default());
        let mut site = Site::new();
        // When a session is cut is told by the real clock; and a CRL is put off that follows another at once.
        let begin = Timestamp::now();
        site.wait_until(begin - Duration::from_mins(1));
        let there = Arc::clone(&brokers);
        site.connect = Arc::new(move |address, _| {
            there.asked.lock().unwrap().push(address.host.clone());
            let is_away = there.away.lock().unwrap().as_ref() == Some(&address.host);
            let refused = || Failure::Unreachable("connection refused".into());
            Box::pin(async move { if is_away { Err(refused()) } else { Ok(()) } })
        });
        site.server.put(&root("root-ca"));
        for name in names {
            site.server.put(&broker(name));
        }
        site.server.put(&device("door"));
        let operator = site.operator();
        operator.settle().await;
        site.wait_until(begin);
        (brokers, site, operator)
    }

    fn is_away(&self, name: Option<&str>) {
        *self.away.lock().unwrap() = name.map(|name| names::broker_host(name, NAMESPACE));
    }

    fn asked(&self, name: &str) -> usize {
        let host = names::broker_host(name, NAMESPACE);
        self.asked.lock().unwrap().iter().filter(|asked| **asked == host).count()
    }

    /// Lets cuts that are under way end, until so many were tried in all.
    async fn are_asked(&self, count: usize) {
        let all = async {
            while self.asked.lock().unwrap().len() < count {
                tokio::task::yield_now().await;
            }
            tokio::task::yield_now().await; // the last one is noted
        };
        tokio::time::timeout(Duration::from_secs(10), all).await.unwrap();
    }
}

/// What a broker tells that uses all that the operator has signed.
fn all_of_it(operator: &Operator) -> Loaded {
    let root = operator.context.roots.usable(NAMESPACE, "root-ca").unwrap();
    let fingerprint = |signer: &operator::roots::Signer| signer.signing.certificate().fingerprint();
    let list = |signer: &operator::roots::Signer| LoadedCrl {
        root: fingerprint(signer),
        number: i64::try_from(signer.crl_number).unwrap(),
    };
    Loaded {
        serial_number: "1".into(),
        roots: root.generations.iter().map(fingerprint).collect(),
        crls: root.generations.iter().map(list).collect(),
        loaded_at: Time(operator.context.now()),
    }
}
