//! A certificate from its first write to its renewal, and through everything that can happen to its Secret between.

use std::time::Duration;

use api::{CertificateSpec, GoDuration, IotDevice, Renewal, RootCA};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt as _};
use pki::{PrivateKey, SigningRoot};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::resources::{DAY, HOUR, broker, device, device_with, root, thermometer, tls_secret};
use crate::support::{Fault, Operator, Site, ready};

fn serial(site: &Site, secret: &str) -> String {
    site.client_files(secret).certificate.serial().to_string()
}

/// Takes away all objects of a kind.
fn none_of<K: Resource<DynamicType = ()> + DeserializeOwned>(site: &Site) {
    for object in site.server.all::<K>() {
        site.server.delete::<K>(&object.name_any());
    }
}

fn stored_serial(site: &Site, secret: &str) -> String {
    pki::Certificate::from_pem(&site.file(secret, "tls.crt")).unwrap().serial().to_string()
}

/// What is damaged, and how.
type Damage = (&'static str, fn(&mut Value));

#[tokio::test]
async fn a_certificate_costs_one_secret_one_status_and_one_event() {
    let site = Site::new();
    site.server.put(&root("root-ca"));
    let operator = site.operator();
    operator.settle().await;
    site.server.put(&device("door"));
    site.server.take_requests();

    operator.look_at_device("door").await.unwrap();
    assert_eq!(
        site.server.take_requests().iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["create secrets iotdevice-door", "apply iotdevices/status door", "create events "],
        "and nothing is read"
    );
    let files = site.client_files("iotdevice-door");
    let status = site.device("door");
    assert_eq!(files.certificate.common_name(), Some("door"));
    assert_eq!(status.certificate.unwrap().serial_number, files.certificate.serial().to_string());
    assert_eq!(ready(&status.conditions).status, "True");
    let told = site.told("door");
    assert_eq!(told.len(), 1);
    assert!(told[0].ends_with("because there is no Secret with a certificate yet"), "{told:?}");
}

#[tokio::test]
async fn a_renewal_costs_the_same_and_reads_nothing_either() {
    let (site, operator) = Site::with_door().await;
    let renewal_time = site.device("door").certificate.unwrap().renewal_time.0;
    site.server.take_requests();
    for asked in [Some("monday"), Some("tuesday"), None] {
        match asked {
            Some(trigger) => site.server.put(&triggered("door", trigger)),
            None => site.wait_until(renewal_time + 2 * DAY),
        }
        operator.look_at_device("door").await.unwrap();
        assert_eq!(
            site.server.take_requests().iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["patch secrets iotdevice-door", "apply iotdevices/status door", "create events "],
            "{asked:?}"
        );
        site.client_files("iotdevice-door");
    }
    assert_eq!(site.device("door").superseded.len(), 3);
}

#[tokio::test]
async fn nothing_is_written_over_a_secret_that_was_changed_unseen() {
    let (site, operator) = Site::with_door().await;
    site.server
        .edit::<Secret>("iotdevice-door", |secret| secret["metadata"]["labels"]["team"] = json!("blue"));
    let changed = site.server.get::<Secret>("iotdevice-door").unwrap();
    site.server.put(&triggered("door", "monday"));
    operator.look_at_device_unaware("door").await.unwrap_err();
    assert_eq!(site.server.get::<Secret>("iotdevice-door").unwrap(), changed);

    operator.settle().await;
    let renewed = site.server.get::<Secret>("iotdevice-door").unwrap();
    assert_eq!(renewed.metadata.labels, changed.metadata.labels, "what others wrote stays");
    assert_eq!(site.told("door").len(), 2, "and it is renewed once");
}

#[tokio::test]
async fn nothing_is_written_or_even_read_while_nothing_changes() {
    let (site, operator) = Site::with_door().await;
    operator.look_at_device("door").await.unwrap();
    site.wait(DAY);
    operator.look_at_device("door").await.unwrap();
    assert_eq!(site.server.take_requests(), []);
}

#[tokio::test]
async fn a_restarted_operator_changes_nothing() {
    let site = Site::with_everything().await;
    site.wait(HOUR);
    let before = site.server.contents();
    site.server.take_requests();

    site.operator().settle().await;
    assert_eq!(site.server.contents(), before);
    for write in site.writes() {
        // Workloads are applied once by every process, so that what was changed meanwhile is put right.
        assert!(write.starts_with("apply "), "{write}");
        for careful in ["secrets", "status", "events"] {
            assert!(!write.contains(careful), "{write}");
        }
    }
}

#[tokio::test]
async fn a_deleted_secret_comes_back_and_its_serial_is_not_forgotten() {
    let (site, operator) = Site::with_door().await;
    let lost = serial(&site, "iotdevice-door");
    site.server.delete::<Secret>("iotdevice-door");
    operator.settle().await;

    assert_ne!(serial(&site, "iotdevice-door"), lost);
    let status = site.device("door");
    assert_eq!(ready(&status.conditions).status, "True");
    assert_eq!(status.superseded.iter().map(|old| &old.serial_number).collect::<Vec<_>>(), [&lost]);
}

#[tokio::test]
async fn what_cannot_be_used_is_replaced_and_the_event_says_why() {
    let (site, operator) = Site::with_door().await;
    site.server.put(&device("window"));
    operator.settle().await;
    let text = |text: &str| serde_json::to_value(k8s_openapi::ByteString(text.into())).unwrap();
    let other = |file: &str| text(&site.file("iotdevice-window", file));
    let stranger = PrivateKey::generate(pki::KeyAlgorithm::EcdsaP256).unwrap().to_pem();

    let damages: [(Value, &str); 6] = [
        (json!({"tls.key": text("garbage")}), "tls.key"),
        (json!({"tls.crt": text("-----BEGIN CERTIFICATE-----\nAAAA")}), "tls.crt"),
        (json!({"tls.key": text("")}), "tls.key"),
        (json!({"tls.key": text(&stranger)}), "the key does not belong to the certificate"),
        (json!({"tls.crt": other("tls.crt")}), "the key does not belong to the certificate"),
        (json!({"tls.key": text("\u{0}\u{1}")}), "tls.key"),
    ];
    for (damage, why) in damages {
        let before = serial(&site, "iotdevice-door");
        site.server.edit::<Secret>("iotdevice-door", |secret| {
            secret["data"].as_object_mut().unwrap().extend(damage.as_object().unwrap().clone());
        });
        operator.settle().await;
        assert_ne!(serial(&site, "iotdevice-door"), before, "{damage}");
        let told = site.told_last("door");
        assert!(told.starts_with("Issued: ") && told.contains(why), "{damage}: {told}");
        assert!(site.device("door").superseded.iter().any(|old| old.serial_number == before), "{damage}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_device_is_not_taken_for_ones_own() {
    let (site, operator) = Site::with_door().await;
    site.server.put(&device("window"));
    operator.settle().await;
    let window = site.server.get::<Secret>("iotdevice-window").unwrap();
    // The whole pair, and what is noted of it: only the name in it is wrong.
    site.server.edit::<Secret>("iotdevice-door", |secret| {
        secret["data"] = serde_json::to_value(&window.data).unwrap();
    });
    operator.settle().await;
    assert_eq!(site.client_files("iotdevice-door").certificate.common_name(), Some("door"));
}

#[tokio::test]
async fn trust_that_was_cut_short_is_put_back_beside_the_same_certificate() {
    let (site, operator) = Site::with_door().await;
    let before = site.server.get::<Secret>("iotdevice-door").unwrap();
    for damage in [json!(""), json!("LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0t"), Value::Null] {
        site.server.edit::<Secret>("iotdevice-door", |secret| secret["data"]["ca.crt"] = damage);
        operator.settle().await;
        assert_eq!(site.server.get::<Secret>("iotdevice-door").unwrap().data, before.data);
    }
    assert_eq!(site.told("door").len(), 1, "nothing was issued");
}

#[tokio::test]
async fn a_label_or_the_owner_that_was_taken_off_is_put_back_beside_the_same_certificate() {
    let (site, operator) = Site::with_door().await;
    let before = site.server.get::<Secret>("iotdevice-door").unwrap();
    let damages: [Damage; 5] = [
        ("an owner", |meta| {
            meta["ownerReferences"] =
                serde_json::json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]);
        }),
        ("whose it is", |meta| drop(meta["labels"].as_object_mut().unwrap().remove("ca-iot.dev/name"))),
        ("whose it is, changed", |meta| meta["labels"]["ca-iot.dev/name"] = "window".into()),
        ("who made it", |meta| {
            meta["labels"].as_object_mut().unwrap().remove("app.kubernetes.io/managed-by");
        }),
        ("all labels", |meta| drop(meta.as_object_mut().unwrap().remove("labels"))),
    ];
    for (what, damage) in damages {
        site.server.edit::<Secret>("iotdevice-door", |secret| damage(&mut secret["metadata"]));
        operator.settle().await;
        let after = site.server.get::<Secret>("iotdevice-door").unwrap();
        assert_eq!(after.data, before.data, "{what}");
        assert_eq!(after.metadata.labels, before.metadata.labels, "{what}");
        assert_eq!(after.metadata.owner_references.unwrap_or_default(), [], "{what}: it outlives the device");
        assert_eq!(ready(&site.device("door").conditions).status, "True", "{what}");
    }
    assert_eq!(site.told("door").len(), 1, "nothing was issued");
}

#[tokio::test]
async fn what_others_wrote_on_the_secret_stays() {
    let (site, operator) = Site::with_door().await;
    site.server.edit::<Secret>("iotdevice-door", |secret| {
        secret["metadata"]["annotations"]["backup.example/at"] = "noon".into();
        secret["metadata"]["labels"]["team"] = "blue".into();
        secret["data"].as_object_mut().unwrap().remove("ca.crt");
    });
    operator.settle().await;
    site.client_files("iotdevice-door");
    let metadata = site.server.get::<Secret>("iotdevice-door").unwrap().metadata;
    assert_eq!(metadata.annotations.unwrap()["backup.example/at"], "noon");
    assert_eq!(metadata.labels.unwrap()["team"], "blue");
}

#[tokio::test]
async fn a_changed_spec_renews_and_the_old_serial_stays_known_until_it_expires() {
    let (site, operator) = Site::with_door().await;
    let first = serial(&site, "iotdevice-door");
    let ends = site.client_files("iotdevice-door").certificate.not_after();
    let longer = CertificateSpec {
        dns_names: vec!["door.plant.example".into()],
        duration: GoDuration::from(200 * DAY),
        ..CertificateSpec::default()
    };
    site.server.put(&device_with("door", longer));
    operator.settle().await;
    let told = site.told_last("door");
    assert!(told.contains("because the spec asks for something else than what was issued"), "{told}");
    assert_eq!(site.client_files("iotdevice-door").certificate.dns_names(), ["door.plant.example"]);
    assert_eq!(site.device("door").superseded[0].serial_number, first);

    // It survives the loss of the status, for the Secret is the ledger.
    site.server.edit::<IotDevice>("door", |device| drop(device.as_object_mut().unwrap().remove("status")));
    site.operator().settle().await;
    assert_eq!(site.device("door").superseded[0].serial_number, first);

    site.wait_until(ends + Duration::from_secs(1));
    site.server.put(&triggered("door", "after the end"));
    operator.settle().await;
    let superseded = site.device("door").superseded;
    assert_eq!(superseded.len(), 1, "{superseded:?}");
    assert_ne!(superseded[0].serial_number, first, "it has expired");
}

fn triggered(name: &str, trigger: &str) -> IotDevice {
    let renewal = Renewal { trigger: Some(trigger.to_owned()) };
    device_with(name, CertificateSpec { renewal, ..CertificateSpec::default() })
}

#[tokio::test]
async fn a_trigger_renews_once_for_each_value() {
    let (site, operator) = Site::with_door().await;
    let mut serials = vec![serial(&site, "iotdevice-door")];
    for trigger in ["monday", "tuesday"] {
        site.server.put(&triggered("door", trigger));
        operator.settle().await;
        serials.push(serial(&site, "iotdevice-door"));
        assert!(site.told_last("door").contains(&format!("spec.renewal.trigger changed to {trigger:?}")));
        operator.settle().await;
        site.operator().settle().await;
        assert_eq!(Some(&serial(&site, "iotdevice-door")), serials.last(), "once");
    }
    serials.dedup();
    assert_eq!(serials.len(), 3);
    assert_eq!(site.told("door").len(), 3);
}

#[tokio::test]
async fn another_root_issues_everything_anew() {
    let (site, operator) = Site::with_door().await;
    site.server.put(&broker("mosquitto"));
    operator.settle().await;
    let before = serial(&site, "iotdevice-door");
    site.server.delete::<Secret>("rootca-root-ca");
    operator.settle().await;

    assert_ne!(serial(&site, "iotdevice-door"), before);
    let told = site.told_last("door");
    assert!(told.contains("because the certificate was not signed by the present root"), "{told}");
    let broker = site.server_files("mqttbroker-mosquitto");
    let device = site.client_files("iotdevice-door");
    assert!(broker.trust.contains(device.trust.roots().next().unwrap()));
}

#[tokio::test]
async fn a_certificate_is_renewed_when_it_was_said_to_be() {
    let (site, operator) = Site::with_door().await;
    let status = site.device("door").certificate.unwrap();
    let due: Timestamp = status.renewal_time.0;
    assert!(due > site.now() + 50 * DAY && due < status.not_after.0 - 30 * DAY, "{due}");
    let action = operator.look_at_device("door").await.unwrap();
    let wait = Duration::try_from(due.duration_since(site.now())).unwrap();
    assert_eq!(action, Action::requeue(wait + Duration::from_millis(1100)));

    site.wait_until(due - Duration::from_secs(1));
    operator.look_at_device("door").await.unwrap();
    assert_eq!(serial(&site, "iotdevice-door"), status.serial_number);

    site.wait_until(due);
    operator.look_at_device("door").await.unwrap();
    let renewed = site.device("door");
    assert_ne!(renewed.certificate.unwrap().serial_number, status.serial_number);
    assert_eq!(renewed.superseded[0].serial_number, status.serial_number);
    assert!(site.told_last("door").contains("because renewal is due since"), "{}", site.told_last("door"));
}

#[tokio::test]
async fn a_device_that_was_away_for_a_year_gets_a_new_certificate() {
    let (site, operator) = Site::with_door().await;
    let root: RootCA = site.server.get("root-ca").unwrap();
    assert_eq!(Duration::from(root.spec.duration), 365 * DAY);
    site.wait(360 * DAY);
    operator.settle().await;
    // Shorter than asked for: it ends with its root.
    let files = site.client_files("iotdevice-door");
    let ends = files.trust.roots().map(pki::Certificate::not_after);
    assert_eq!(Some(files.certificate.not_after()), ends.min(), "the next root does not sign yet");
}

/// A site with a thermometer `boiler` and its pod, which mounts the first certificate, and the operator that saw to it.
async fn site_with_pod() -> (Site, Operator) {
    let site = Site::new();
    site.server.put(&root("root-ca"));
    site.server.put(&broker("mosquitto"));
    site.server.put(&thermometer("boiler"));
    let operator = site.operator();
    operator.settle().await;
    let mut pod = crate::support::resources::here(Pod::default());
    pod.metadata.name = Some("boiler-0".into());
    pod.metadata.labels = site.server.get::<Secret>("iotdevice-boiler").unwrap().metadata.labels;
    pod.metadata.creation_timestamp = Some(Time(site.now()));
    site.server.put(&pod);
    (site, operator)
}

/// The annotation that has the kubelet look at once.
fn touched(site: &Site) -> Option<String> {
    let annotations = site.server.get::<Pod>("boiler-0").unwrap().metadata.annotations;
    annotations.and_then(|annotations| annotations.get("ca-iot.dev/touched").cloned())
}

#[tokio::test]
async fn a_new_certificate_reaches_the_pod_at_once() {
    let (site, operator) = site_with_pod().await;
    site.server.put(&device("door"));
    operator.settle().await;
    site.operator().settle().await;
    assert_eq!(touched(&site), None, "it mounts the certificate already");

    site.wait_until(site.device("boiler").certificate.unwrap().renewal_time.0);
    operator.settle().await;
    assert_eq!(touched(&site), Some(site.now().to_string()));
    site.server.take_requests();
    site.wait(HOUR);
    site.operator().settle().await;
    assert!(!site.writes().iter().any(|write| write.contains(" pods ")), "it was told");
}

#[tokio::test]
async fn a_pod_is_told_of_its_certificate_by_the_next_operator_when_one_is_killed_in_between() {
    let (site, operator) = site_with_pod().await;
    let before = serial(&site, "iotdevice-boiler");
    site.wait_until(site.device("boiler").certificate.unwrap().renewal_time.0);
    let renewed_at = site.now();
    site.server.fail([Fault::CrashAfter]);
    let _ = operator.look_at_device("boiler").await;
    site.server.recover();
    assert_ne!(serial(&site, "iotdevice-boiler"), before);
    assert_eq!(touched(&site), None);

    site.wait(HOUR);
    site.operator().settle().await;
    assert_eq!(touched(&site), Some(renewed_at.to_string()));
}

#[tokio::test]
async fn a_device_made_anew_gets_its_own_certificate_and_the_one_before_is_revoked() {
    let (site, operator) = Site::with_door().await;
    let before = site.client_files("iotdevice-door").certificate.serial();
    // As after `kubectl delete` and `kubectl apply` while no operator ran.
    site.wait(DAY);
    site.server.edit::<IotDevice>("door", |device| device["metadata"]["uid"] = "the-new-one".into());
    operator.settle().await;
    let after = site.client_files("iotdevice-door").certificate.serial();
    assert_ne!(before, after);
    let crl = pki::Crl::from_pem(&site.file("rootca-root-ca", "g1.crl")).unwrap();
    assert_eq!(
        crl.entry(before).map(|entry| entry.reason),
        Some(pki::RevocationReason::CessationOfOperation)
    );
    assert_eq!(crl.entry(after), None);
}

#[tokio::test]
async fn what_is_restored_from_a_backup_goes_on_with_its_certificates() {
    let site = Site::with_everything().await;
    let secrets = ["iotdevice-door", "mqttbroker-mosquitto", "dashboard-dashboard"];
    let before = secrets.map(|secret| stored_serial(&site, secret));
    // As the runbook says: every object is a new one, and the Secrets do not say whose they were.
    for secret in secrets {
        site.server.edit::<Secret>(secret, |secret| {
            secret["metadata"]["uid"] = json!(format!("{}-restored", secret["metadata"]["uid"]));
            secret["metadata"]["annotations"].as_object_mut().unwrap().remove("ca-iot.dev/holder-uid");
            secret["metadata"].as_object_mut().unwrap().remove("ownerReferences");
        });
    }
    none_of::<ConfigMap>(&site);
    none_of::<Service>(&site);
    none_of::<Deployment>(&site);
    none_of::<PersistentVolumeClaim>(&site);
    none_of::<ServiceAccount>(&site);
    none_of::<Role>(&site);
    none_of::<RoleBinding>(&site);
    for (kind, name) in [("IotDevice", "door"), ("MqttBroker", "mosquitto"), ("Dashboard", "dashboard")] {
        let anew = |object: &mut Value| object["metadata"]["uid"] = json!(format!("{name}-restored"));
        match kind {
            "IotDevice" => site.server.edit::<IotDevice>(name, anew),
            "MqttBroker" => site.server.edit::<api::MqttBroker>(name, anew),
            _ => site.server.edit::<api::Dashboard>(name, anew),
        }
    }
    let operator = site.operator();
    operator.settle().await;
    assert_eq!(secrets.map(|secret| stored_serial(&site, secret)), before);
    assert_eq!(ready(&site.device("door").conditions).status, "True");
}

#[tokio::test]
async fn a_broker_that_names_no_root_keeps_its_own_when_a_second_comes() {
    let site = Site::new();
    site.server.put(&root("root-ca"));
    site.server.put(&broker("mosquitto"));
    let operator = site.operator();
    operator.settle().await;
    let before = stored_serial(&site, "mqttbroker-mosquitto");
    site.server.put(&root("another"));
    site.wait(DAY);
    operator.settle().await;
    // its revocation list is renewed in time
    site.wait(4 * DAY);
    operator.settle().await;
    let files = site.server_files("mqttbroker-mosquitto");
    assert!(files.crls.iter().all(|list| list.check_dates(site.now() + 3 * DAY).is_ok()));
    assert_eq!(stored_serial(&site, "mqttbroker-mosquitto"), before);
}

#[tokio::test]
async fn a_broker_whose_spec_is_refused_gets_its_revocation_lists_all_the_same() {
    let site = Site::new();
    site.server.put(&root("root-ca"));
    site.server.put(&broker("mosquitto"));
    let operator = site.operator();
    operator.settle().await;
    let before = stored_serial(&site, "mqttbroker-mosquitto");
    site.server.edit::<api::MqttBroker>("mosquitto", |broker| {
        broker["spec"]["ipAddresses"] = json!(["10.0.0.0/8"]);
    });
    site.wait(4 * DAY);
    operator.settle().await;
    let files = site.server_files("mqttbroker-mosquitto");
    assert!(files.crls.iter().all(|list| list.check_dates(site.now() + 3 * DAY).is_ok()));
    assert_eq!(stored_serial(&site, "mqttbroker-mosquitto"), before);
}

#[tokio::test]
async fn a_device_that_is_deleted_is_revoked_and_then_its_secret_goes() {
    let (site, operator) = Site::with_door().await;
    let serial = site.client_files("iotdevice-door").certificate.serial();
    site.server.delete::<IotDevice>("door");
    assert!(site.server.get::<Secret>("iotdevice-door").is_some(), "the ledger outlives the device");
    // The operator that was there is gone; the next one finds what is left.
    drop(operator);
    site.operator().settle().await;
    assert!(site.server.get::<Secret>("iotdevice-door").is_none());
    let crl = pki::Crl::from_pem(&site.file("rootca-root-ca", "g1.crl")).unwrap();
    assert_eq!(
        crl.entry(serial).map(|entry| entry.reason),
        Some(pki::RevocationReason::CessationOfOperation)
    );
}

#[tokio::test]
async fn a_secret_from_elsewhere_is_no_certificate_of_ours_even_if_it_is_labelled_so() {
    let (site, operator) = Site::with_door().await;
    let profile = pki::RootProfile {
        subject: pki::Subject::new("Plant").unwrap(),
        generation: 1,
        key_algorithm: pki::KeyAlgorithm::EcdsaP256,
        duration: 365 * DAY,
    };
    let number = pki::SerialNumber::generate().unwrap();
    let forged = SigningRoot::generate(&profile, number, site.now()).unwrap();
    let pair = tls_secret("unused", &forged.certificate().to_pem(), &forged.key().to_pem());
    site.server.edit::<Secret>("iotdevice-door", |secret| {
        secret["data"]["tls.crt"] = serde_json::to_value(&pair).unwrap()["data"]["tls.crt"].clone();
        secret["data"]["tls.key"] = serde_json::to_value(&pair).unwrap()["data"]["tls.key"].clone();
    });
    operator.settle().await;
    let files = site.client_files("iotdevice-door");
    assert!(!files.certificate.is_ca());
    assert!(site.told_last("door").contains("not signed by the present root"), "{}", site.told_last("door"));
}
