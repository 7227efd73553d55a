//! A root is replaced while operators come and go: each phase waits for what the fleet shows, nobody is ever cut off from anybody,
//! and whoever takes over goes on from what is stored. The fleet here does what real ones do with their files.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::{IotDevice, Loaded, LoadedCrl, RootCA, RotationPhase};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use link::Failure;
use link::wire::CertificateAcknowledgement;
use pki::{Certificate, Crl, KeyAlgorithm, TrustBundle};
use serde_json::json;

use crate::support::resources::{DAY, broker, corporate_ca, dashboard, device, root, tls_secret};
use crate::support::{NAMESPACE, Operator, Site};

const DEVICES: [&str; 3] = ["door", "gate", "lock"];

/// The files that somebody has taken into use.
#[derive(Clone)]
struct InUse {
    certificate: Certificate,
    trust: TrustBundle,
}

/// What a site's devices and its broker have in use.
struct Field {
    site: Site,
    broker: Arc<Mutex<Option<InUse>>>,
    devices: BTreeMap<&'static str, InUse>,
    /// Devices that are switched off.
    asleep: Vec<&'static str>,
    /// The old root is not to be believed a moment longer, whatever that costs.
    at_once: bool,
}

// === impl Field ===

impl Field {
    /// A root, a broker that believes who its files say, a dashboard, and devices; all of them work.
    async fn new() -> Self {
        let mut site = Site::new();
        let broker_in_use: Arc<Mutex<Option<InUse>>> = Arc::default();
        let believed = Arc::clone(&broker_in_use);
        site.connect = Arc::new(move |_, identity| {
            let believed = believed.lock().unwrap().clone();
            Box::pin(async move {
                let roots = believed.ok_or_else(|| Failure::Unreachable("it has not started".into()))?.trust;
                let issuer = roots.roots().find(|root| identity.certificate().check_signed_by(root).is_ok());
                issuer.map(|_| ()).ok_or_else(|| Failure::CertificateRefused("unknown root".into()))
            })
        });
        site.server.put(&root("root-ca"));
        site.server.put(&broker("mosquitto"));
        site.server.put(&dashboard("dashboard"));
        for name in DEVICES {
            site.server.put(&device(name));
        }
        let mut field = Self {
            site,
            broker: broker_in_use,
            devices: BTreeMap::new(),
            asleep: Vec::new(),
            at_once: false,
        };
        let operator = field.site.operator();
        field.live(&operator).await;
        field
    }

    fn files(&self, secret: &str) -> InUse {
        let file = |key| self.site.file(secret, key);
        InUse {
            certificate: Certificate::from_pem(&file("tls.crt")).unwrap(),
            trust: TrustBundle::from_pem(&file("ca.crt")).unwrap(),
        }
    }

    /// The operator hears what is retained and comes to rest, then everybody takes into use what they have and says so; a second
    /// goes by.
    async fn live(&mut self, operator: &Operator) {
        self.say(operator);
        operator.settle().await;
        *self.broker.lock().unwrap() = Some(self.files("mqttbroker-mosquitto"));
        self.nobody_is_cut_off();
        for name in DEVICES.into_iter().filter(|name| !self.asleep.contains(name)) {
            let files = self.files(&format!("iotdevice-{name}"));
            self.devices.insert(name, files);
            self.nobody_is_cut_off();
        }
        self.say(operator);
        self.site.wait(Duration::from_secs(1));
    }

    /// What the broker has loaded, and what devices have acknowledged.
    fn say(&self, operator: &Operator) {
        let fleet = &operator.context.fleet;
        let Some(broker) = self.broker.lock().unwrap().clone() else { return };
        let loaded = Loaded {
            serial_number: broker.certificate.serial().to_string(),
            roots: broker.trust.fingerprints().map(str::to_owned).collect(),
            crls: self.crls(&broker.trust),
            loaded_at: Time(self.site.now()),
        };
        fleet.note_loaded(NAMESPACE, "mosquitto", &loaded);
        for (name, files) in &self.devices {
            let mut roots: Vec<_> = files.trust.fingerprints().map(str::to_owned).collect();
            roots.sort();
            let said = CertificateAcknowledgement {
                serial_number: files.certificate.serial().to_string(),
                not_after: files.certificate.not_after(),
                roots,
            };
            fleet.note_acknowledgement(NAMESPACE, name, &said);
        }
    }

    /// The revocation lists in the broker's Secret.
    fn crls(&self, trust: &TrustBundle) -> Vec<LoadedCrl> {
        let lists = Crl::all_from_pem(&self.site.file("mqttbroker-mosquitto", "ca.crl")).unwrap();
        let of_root = |list: &Crl| {
            let root = trust.roots().find(|root| list.verify(root).is_ok())?;
            Some(LoadedCrl { root: root.fingerprint(), number: i64::try_from(list.number()).unwrap() })
        };
        lists.iter().filter_map(of_root).collect()
    }

    /// The invariant of all of it: whoever is awake believes the broker, and is believed; unless the root is to go at once.
    fn nobody_is_cut_off(&self) {
        if self.at_once {
            return;
        }
        let broker = self.broker.lock().unwrap().clone().unwrap();
        let believes = |trust: &TrustBundle, it: &Certificate| {
            trust.roots().any(|root| it.check_signed_by(root).is_ok())
        };
        for (name, files) in self.devices.iter().filter(|(name, _)| !self.asleep.contains(*name)) {
            let phase = self.phase();
            assert!(believes(&files.trust, &broker.certificate), "{name} refuses the broker in {phase:?}");
            assert!(believes(&broker.trust, &files.certificate), "{name} is refused in {phase:?}");
        }
    }

    fn phase(&self) -> Option<RotationPhase> {
        self.site.root("root-ca").rotation.map(|rotation| rotation.phase)
    }

    fn rotate(&self, rotation: &serde_json::Value) {
        self.site.server.edit::<RootCA>("root-ca", |root| root["spec"]["rotation"] = rotation.clone());
    }

    /// Lives until the replacement is over; the phases that it went through. `next` is the operator of each second.
    async fn until_it_is_over(
        &mut self,
        mut next: impl FnMut(&Site, Operator) -> Operator,
    ) -> Vec<RotationPhase> {
        let mut seen = Vec::new();
        let mut operator = self.site.operator();
        for _ in 0..500 {
            self.live(&operator).await;
            match self.phase() {
                Some(phase) if seen.last() != Some(&phase) => seen.push(phase),
                None if !seen.is_empty() => return seen,
                _ => {}
            }
            operator = next(&self.site, operator);
        }
        panic!("it does not end: {seen:?}, {:?}", self.site.root("root-ca").rotation);
    }

    fn assert_replaced(&self, old: &Certificate) {
        let status = self.site.root("root-ca");
        assert_eq!((status.active_generation, status.rotation.is_some()), (Some(2), false), "{status:?}");
        for secret in ["iotdevice-door", "mqttbroker-mosquitto", "dashboard-dashboard"] {
            let files = self.files(secret);
            assert!(!files.trust.contains(old), "{secret} still trusts the old root");
            assert!(files.certificate.check_signed_by(old).is_err(), "{secret} is still of the old root");
        }
        let stored = self.site.server.get::<Secret>("rootca-root-ca").unwrap().data.unwrap_or_default();
        assert!(
            !stored.keys().any(|file| file.starts_with("g1.")),
            "the old key is still there: {:?}",
            stored.keys()
        );
    }
}

fn trusted(field: &Field) -> Certificate {
    field.devices["door"].trust.roots().next().unwrap().clone()
}

#[tokio::test]
async fn phase_by_phase_as_the_fleet_follows() {
    let mut field = Field::new().await;
    let old = trusted(&field);
    field.rotate(&json!({"trigger": "yearly"}));
    let seen = field.until_it_is_over(|_, operator| operator).await;
    assert_eq!(seen, RotationPhase::ALL);
    field.assert_replaced(&old);
    let told = field.site.told("root-ca");
    for phase in RotationPhase::ALL {
        assert!(told.iter().any(|line| line.contains(&format!("{phase}: "))), "{phase}: {told:#?}");
    }

    // The same trigger does not replace it again.
    let operator = field.site.operator();
    field.live(&operator).await;
    assert_eq!((field.phase(), field.site.root("root-ca").active_generation), (None, Some(2)));
}

#[tokio::test]
async fn with_another_operator_every_second() {
    let mut field = Field::new().await;
    let old = trusted(&field);
    field.rotate(&json!({"trigger": "yearly"}));
    let seen = field.until_it_is_over(|site, _| site.operator()).await;
    assert_eq!(seen, RotationPhase::ALL);
    field.assert_replaced(&old);
}

#[tokio::test]
async fn a_device_that_is_asleep_is_named_and_waited_for_as_long_as_was_said() {
    let mut field = Field::new().await;
    field.asleep = vec!["lock"];
    field.rotate(&json!({"trigger": "yearly", "acknowledgeWithin": "60s"}));
    let operator = field.site.operator();
    let from = field.site.now();
    while field.phase().is_none_or(|phase| phase == RotationPhase::Distributing) {
        field.live(&operator).await;
        if let Some(rotation) = field.site.root("root-ca").rotation
            && rotation.phase == RotationPhase::Distributing
        {
            assert!(
                rotation.laggards.is_empty() || rotation.laggards.contains(&"lock".to_owned()),
                "{rotation:?}"
            );
        }
    }
    let waited = Duration::try_from(field.site.now().duration_since(from)).unwrap();
    assert!((Duration::from_mins(1)..Duration::from_secs(70)).contains(&waited), "{waited:?}");
    let old = field.devices["lock"].trust.roots().next().unwrap().clone();
    field.until_it_is_over(|_, operator| operator).await;
    field.assert_replaced(&old);
}

#[tokio::test]
async fn paused_it_stands_still_and_a_second_trigger_waits_its_turn() {
    let mut field = Field::new().await;
    field.rotate(&json!({"trigger": "one"}));
    let operator = field.site.operator();
    field.live(&operator).await;
    assert_eq!(field.phase(), Some(RotationPhase::Distributing));
    field.rotate(&json!({"trigger": "two", "paused": true}));
    for _ in 0..10 {
        field.live(&operator).await;
        field.site.wait(DAY);
    }
    assert_eq!(field.phase(), Some(RotationPhase::Distributing));
    field.rotate(&json!({"trigger": "two"}));
    let generation = |field: &Field| field.site.root("root-ca").active_generation;
    for _ in 0..100 {
        field.live(&operator).await;
    }
    assert_eq!((field.phase(), generation(&field)), (None, Some(3)));
}

#[tokio::test]
async fn a_leaked_root_is_gone_without_waiting_for_whoever_is_asleep() {
    let mut field = Field::new().await;
    let old = trusted(&field);
    (field.asleep, field.at_once) = (vec!["lock"], true);
    field.rotate(&json!({"trigger": "leak", "distrustNow": true}));
    let from = field.site.now();
    field.until_it_is_over(|_, operator| operator).await;
    let took = Duration::try_from(field.site.now().duration_since(from)).unwrap();
    assert!(took < Duration::from_mins(1), "{took:?}");
    field.assert_replaced(&old);
    // Its own files are new, for when it wakes up.
    let woken = field.files("iotdevice-lock");
    assert!(!woken.trust.contains(&old));
    assert!(field.site.server.get::<IotDevice>("lock").is_some());
}

#[tokio::test]
async fn another_algorithm_or_a_ca_of_ones_own_is_the_next_generation() {
    let mut field = Field::new().await;
    let old = trusted(&field);
    field.site.server.edit::<RootCA>("root-ca", |root| root["spec"]["keyAlgorithm"] = json!("EcdsaP384"));
    assert_eq!(field.until_it_is_over(|_, operator| operator).await, RotationPhase::ALL);
    field.assert_replaced(&old);
    let made = trusted(&field);
    assert_eq!(made.public_key().algorithm(), KeyAlgorithm::EcdsaP384);

    let own = corporate_ca(field.site.now());
    let secret = tls_secret("corporate", &own.certificate().to_pem(), &own.key().to_pem());
    field.site.server.put(&secret);
    field.site.server.edit::<RootCA>("root-ca", |root| {
        root["spec"]["importFrom"] = json!({"secretName": "corporate"});
    });
    assert_eq!(field.until_it_is_over(|_, operator| operator).await, RotationPhase::ALL);
    assert_eq!(trusted(&field), *own.certificate());
    assert_eq!(field.site.root("root-ca").active_generation, Some(3));
}

#[tokio::test]
async fn after_it_devices_are_revoked_and_seen_off_as_before() {
    let mut field = Field::new().await;
    field.rotate(&json!({"trigger": "monday"}));
    field.until_it_is_over(|_, operator| operator).await;
    let operator = field.site.operator();
    field.live(&operator).await;
    assert_eq!(field.site.device("door").superseded[0].root_generation, Some(1), "it is within its dates");
    field.asleep = vec!["door", "gate"];
    field.site.server.edit::<IotDevice>("door", |device| {
        device["spec"]["revoked"] = json!({"reason": "keyCompromise"});
    });
    field.site.server.delete::<IotDevice>("gate");
    for _ in 0..10 {
        field.live(&operator).await;
    }
    let revocation = field.site.device("door").revocation.unwrap();
    assert!(revocation.loaded_at.is_some() && revocation.session_cut_at.is_some(), "{revocation:?}");
    assert!(field.site.server.get::<Secret>("iotdevice-gate").is_none(), "its ledger is still there");
}

#[tokio::test]
async fn a_spec_that_cannot_be_fulfilled_does_not_keep_a_leaked_root_trusted() {
    let mut field = Field::new().await;
    let old = trusted(&field);
    (field.asleep, field.at_once) = (vec!["lock"], true);
    field.site.server.edit::<IotDevice>("lock", |device| {
        device["spec"]["ipAddresses"] = json!(["10.0.0.0/8"]);
    });
    field.rotate(&json!({"trigger": "leak", "distrustNow": true}));
    let from = field.site.now();
    field.until_it_is_over(|_, operator| operator).await;
    let took = Duration::try_from(field.site.now().duration_since(from)).unwrap();
    assert!(took < Duration::from_mins(1), "{took:?}");
    field.assert_replaced(&old);
}

#[tokio::test]
async fn however_long_laggards_are_waited_for() {
    let mut field = Field::new().await;
    field.asleep = vec!["lock"];
    field.rotate(&json!({"trigger": "monday", "acknowledgeWithin": "2000000h"}));
    let operator = field.site.operator();
    for _ in 0..5 {
        field.live(&operator).await;
    }
    assert_eq!(field.phase(), Some(RotationPhase::Distributing));
}

#[tokio::test]
async fn an_imported_root_is_not_replaced_by_one_that_is_made_here() {
    let site = Site::new();
    let own = corporate_ca(site.now());
    site.server.put(&tls_secret("corporate", &own.certificate().to_pem(), &own.key().to_pem()));
    let mut imported = root("root-ca");
    imported.spec.import_from = Some(api::ImportFrom { secret_name: "corporate".into() });
    site.server.put(&imported);
    site.server.put(&device("door"));
    let operator = site.operator();
    operator.settle().await;
    let is_own = |site: &Site| site.client_files("iotdevice-door").trust.contains(own.certificate());

    // past half of its life, and asked to
    let life = Duration::try_from(own.certificate().not_after().duration_since(site.now())).unwrap();
    site.wait(life * 2 / 3);
    operator.settle().await;
    assert!(is_own(&site) && site.root("root-ca").rotation.is_none());
    site.server.edit::<RootCA>("root-ca", |root| root["spec"]["rotation"] = json!({"trigger": "monday"}));
    operator.settle().await;
    let told = site.root("root-ca");
    assert!(is_own(&site) && told.rotation.is_none());
    assert!(
        told.conditions
            .iter()
            .any(|it| it.type_ == "Degraded" && it.message.contains("spec.importFrom.secretName")),
        "{:?}",
        told.conditions
    );
    site.wait(life);
    operator.settle().await;
    let told = site.root("root-ca");
    assert!(told.conditions.iter().any(|it| it.message.contains("expired at")), "{:?}", told.conditions);
}

#[tokio::test]
async fn it_is_replaced_by_itself_before_its_end() {
    let mut field = Field::new().await;
    let old = trusted(&field);
    field.rotate(&json!({"beforeExpiry": "2400h"}));
    let operator = field.site.operator();
    // everybody renews as usual meanwhile
    while field.phase().is_none() {
        field.live(&operator).await;
        assert!(field.site.now() < old.not_after() - 90 * DAY, "the root comes to its end");
        field.site.wait(5 * DAY);
    }
    assert!(field.site.now() >= old.not_after() - 100 * DAY, "too early");
    field.until_it_is_over(|_, operator| operator).await;
    field.assert_replaced(&old);
}
