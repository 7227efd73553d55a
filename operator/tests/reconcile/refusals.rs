//! What the operator does not do, and how it says so: whose a name is, which field is wrong, what to write instead.

use std::time::Duration;

use api::{CertificateSpec, GoDuration, IotDevice, LocalRef, MqttBroker, conditions};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::support::resources::{
    DAY, HOUR, broker, device, device_with, here, root, thermometer, tls_secret,
};
use crate::support::{Site, condition, ready};

/// Something that somebody made with `kubectl`.
fn foreign<K: Resource + Default>(name: &str) -> K {
    let mut object = K::default();
    *object.meta_mut() = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
    here(object)
}

/// Lets the operator work beside `foreign`, which must not change, and gives it back its name afterwards.
async fn work_beside<K>(site: &Site, foreign: &K, judge: impl Fn())
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let name = foreign.meta().name.clone().unwrap();
    site.server.put(foreign);
    let before = site.server.get::<K>(&name).unwrap();
    site.operator().settle().await;
    judge();
    site.operator().settle().await;
    assert_eq!(site.server.get::<K>(&name).unwrap(), before, "byte for byte");
}

fn assert_name_taken(condition: &Condition, object: &str) {
    assert_eq!(condition.reason, "NameTaken");
    let sentence = format!(
        "{object} exists and was not made for this resource (it seems to belong to kubectl): rename or delete one of the two"
    );
    assert!(condition.message.contains(&sentence), "{}", condition.message);
}

#[tokio::test]
async fn a_secret_that_somebody_else_made_is_left_alone_until_the_name_is_free() {
    let site = Site::new();
    site.server.put(&root("root-ca"));
    site.server.put(&device("door"));
    work_beside(&site, &tls_secret("iotdevice-door", "mine", "mine"), || {
        let status = site.device("door");
        assert_name_taken(ready(&status.conditions), "Secret iotdevice-door");
        assert_eq!(status.certificate, None);
        assert_eq!(site.told("door").len(), 1, "told once");
    })
    .await;
    site.server.delete::<Secret>("iotdevice-door");
    site.operator().settle().await;
    site.client_files("iotdevice-door");
}

#[tokio::test]
async fn a_root_does_not_touch_a_secret_of_its_name_that_somebody_else_made() {
    let site = Site::new();
    site.server.put(&root("root-ca"));
    work_beside(&site, &tls_secret("rootca-root-ca", "mine", "mine"), || {
        assert_name_taken(ready(&site.root("root-ca").conditions), "Secret rootca-root-ca");
        assert!(site.server.get::<ConfigMap>("root-ca-trust").is_none());
    })
    .await;
    site.server.delete::<Secret>("rootca-root-ca");
    site.operator().settle().await;
    assert_eq!(ready(&site.root("root-ca").conditions).status, "True");
}

#[tokio::test]
async fn a_bundle_of_its_name_that_somebody_else_made_stops_a_root() {
    let site = Site::new();
    site.server.put(&root("root-ca"));
    work_beside(&site, &foreign::<ConfigMap>("root-ca-trust"), || {
        assert_name_taken(ready(&site.root("root-ca").conditions), "ConfigMap root-ca-trust");
    })
    .await;
}

#[tokio::test]
async fn a_deployment_that_somebody_else_made_is_left_alone_and_the_certificate_is_kept_valid() {
    let site = Site::new();
    site.server.put(&root("root-ca"));
    site.server.put(&broker("mosquitto"));
    site.server.put(&thermometer("boiler"));
    work_beside(&site, &foreign::<Deployment>("iotdevice-boiler"), || {
        let status = site.device("boiler");
        assert_name_taken(condition(&status.conditions, conditions::DEGRADED), "Deployment iotdevice-boiler");
        assert_eq!(ready(&status.conditions).status, "True");
        site.client_files("iotdevice-boiler");
    })
    .await;
}

#[tokio::test]
async fn what_somebody_else_made_under_a_name_of_the_broker_is_left_alone() {
    async fn try_with<K>(kind: &str)
    where
        K: Resource<DynamicType = ()> + Default + Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let site = Site::new();
        site.server.put(&root("root-ca"));
        site.server.put(&broker("mosquitto"));
        work_beside(&site, &foreign::<K>("mqttbroker-mosquitto"), || {
            let status = site.server.get::<MqttBroker>("mosquitto").unwrap().status.unwrap();
            assert_name_taken(ready(&status.holder.conditions), &format!("{kind} mqttbroker-mosquitto"));
            site.server_files("mqttbroker-mosquitto");
        })
        .await;
    }
    Box::pin(try_with::<Deployment>("Deployment")).await;
    Box::pin(try_with::<Service>("Service")).await;
    Box::pin(try_with::<ConfigMap>("ConfigMap")).await;
}

#[tokio::test]
async fn a_device_cannot_choose_the_secret_of_another_resource() {
    let site = Site::new();
    site.server.put(&root("root-ca"));
    site.server.put(&broker("mosquitto"));
    site.server.put(&device("door"));
    site.operator().settle().await;
    for (secret, owner) in [
        ("iotdevice-door", "IotDevice door"),
        ("mqttbroker-mosquitto", "MqttBroker mosquitto"),
        ("rootca-root-ca", "RootCA root-ca"),
    ] {
        let before = site.server.get::<Secret>(secret).unwrap();
        let greedy = CertificateSpec { secret_name: Some(secret.into()), ..CertificateSpec::default() };
        site.server.put(&device_with("greedy", greedy));
        site.operator().settle().await;
        assert_eq!(site.server.get::<Secret>(secret).unwrap(), before, "{secret}");
        let status = site.device("greedy");
        let condition = ready(&status.conditions);
        assert_eq!(condition.reason, "NameTaken", "{secret}: {}", condition.message);
        assert!(condition.message.contains(owner), "{secret}: {}", condition.message);
        site.server.delete::<IotDevice>("greedy");
    }
}

#[tokio::test]
async fn with_two_roots_one_has_to_be_named() {
    let site = Site::new();
    site.server.put(&root("root-a"));
    site.server.put(&root("root-b"));
    site.server.put(&device("door"));
    let reference = Some(LocalRef { name: "root-b".into() });
    site.server.put(&device_with(
        "window",
        CertificateSpec { root_ca_ref: reference, ..CertificateSpec::default() },
    ));
    site.operator().settle().await;
    assert_refused(&site, "door", "InvalidSpec", &["spec.rootCARef", "root-a, root-b", "write which one"]);
    let chosen = site.client_files("iotdevice-window").trust;
    let fingerprint = &site.root("root-b").generations[0].fingerprint;
    assert_eq!(chosen.roots().next().unwrap().fingerprint(), *fingerprint);
}

/// `name` has no certificate, and its condition says why; the device beside it has one.
fn assert_refused(site: &Site, name: &str, reason: &str, parts: &[&str]) {
    let status = site.device(name);
    let condition = ready(&status.conditions);
    assert_eq!((&*condition.status, &*condition.reason), ("False", reason), "{}", condition.message);
    for part in parts {
        assert!(condition.message.contains(part), "{part:?} is not in {:?}", condition.message);
    }
    assert!(site.server.get::<Secret>(&format!("iotdevice-{name}")).is_none());
    assert!(site.told(name).len() <= 1, "{:?}", site.told(name));
    assert_eq!(ready(&site.device("window").conditions).status, "True");
}

#[tokio::test]
async fn one_bad_spec_is_told_by_field_and_disturbs_nobody() {
    let bad: [(CertificateSpec, &str, &[&str]); 6] = [
        (
            CertificateSpec {
                root_ca_ref: Some(LocalRef { name: "rot-ca".into() }),
                ..CertificateSpec::default()
            },
            "WaitingForRoot",
            &["no RootCA rot-ca", "spec.rootCARef.name"],
        ),
        (
            CertificateSpec { renew_before: Some(GoDuration::from(100 * DAY)), ..CertificateSpec::default() },
            "IssueFailed",
            &["already be due", "make duration longer or renewBefore shorter"],
        ),
        (
            CertificateSpec { dns_names: vec!["*.plant.example".into()], ..CertificateSpec::default() },
            "InvalidSpec",
            &["spec", "dnsNames", "*.plant.example"],
        ),
        (
            CertificateSpec { ip_addresses: vec!["10.0.0.0/8".into()], ..CertificateSpec::default() },
            "InvalidSpec",
            &["spec.ipAddresses", "10.0.0.0/8", "without a mask"],
        ),
        (
            CertificateSpec { uris: vec!["no scheme".into()], ..CertificateSpec::default() },
            "InvalidSpec",
            &["spec", "uris"],
        ),
        (
            CertificateSpec {
                subject: api::DeviceSubject {
                    country: Some("Taiwan".into()),
                    ..api::DeviceSubject::default()
                },
                ..CertificateSpec::default()
            },
            "InvalidSpec",
            &["country", "two capital letters"],
        ),
    ];
    for (certificate, reason, parts) in bad {
        let site = Site::new();
        site.server.put(&root("root-ca"));
        site.server.put(&device_with("door", certificate));
        site.server.put(&device("window"));
        let operator = site.operator();
        for _ in 0..2 {
            operator.look_at_root("root-ca").await.unwrap();
            operator.look_at_device("window").await.unwrap();
        }
        operator.look_at_device("door").await.unwrap();
        assert_refused(&site, "door", reason, parts);

        // What to do was said; it is done.
        site.server.put(&device("door"));
        if reason == "WaitingForRoot" {
            site.server.edit::<IotDevice>("door", |device| {
                drop(device["spec"].as_object_mut().unwrap().remove("rootCARef"));
            });
        }
        operator.look_at_device("door").await.unwrap();
        site.client_files("iotdevice-door");
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_renewed_stays_in_force_and_is_said_to_be_overdue() {
    let site = Site::new();
    site.server.put(&root("root-ca"));
    site.server.put(&device("door"));
    let operator = site.operator();
    operator.settle().await;
    // The root ends before the next certificate could be renewed.
    let too_early =
        CertificateSpec { renew_before: Some(GoDuration::from(60 * DAY)), ..CertificateSpec::default() };
    site.server.put(&device_with("door", too_early));
    site.wait(290 * DAY);
    operator.settle().await;
    let root_ends = site.root("root-ca").generations[0].not_after.0;
    let before = site.client_files("iotdevice-door").certificate;
    assert_eq!(before.not_after(), root_ends);
    site.wait_until(root_ends - 59 * DAY);
    operator.look_at_root("root-ca").await.unwrap();
    operator.look_at_device("door").await.unwrap();
    let status = site.device("door");
    let overdue = condition(&status.conditions, conditions::RENEWAL_OVERDUE);
    assert!(overdue.message.contains("its root expires at"), "{}", overdue.message);
    assert_eq!(ready(&status.conditions).status, "True", "it is in force");
    assert_eq!(site.client_files("iotdevice-door").certificate, before);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_issued_is_tried_less_and_less_often() {
    let site = Site::new();
    site.server.put(&root("root-ca"));
    let hopeless =
        CertificateSpec { renew_before: Some(GoDuration::from(100 * DAY)), ..CertificateSpec::default() };
    site.server.put(&device_with("door", hopeless));
    let operator = site.operator();
    operator.look_at_root("root-ca").await.unwrap();
    let minute = Duration::from_mins(1);
    for minutes in [1, 2, 4, 8, 16, 32, 32] {
        let message = |site: &Site| {
            let status = site.device("door");
            ready(&status.conditions).message.clone()
        };
        operator.look_at_device("door").await.unwrap();
        let seconds = message(&site);
        let seconds = seconds.rsplit("next try in ").next().unwrap().trim_end_matches(" s");
        let wait = Duration::from_secs(seconds.parse().unwrap());
        let nominal = minute * minutes;
        assert!(wait >= nominal.mul_f64(0.85) && wait <= nominal.mul_f64(1.15), "{wait:?} for {nominal:?}");
        site.wait(wait.max(HOUR));
    }
}
