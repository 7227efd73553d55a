//! A root's key is made once, is never replaced by accident, and its CRL is never without a successor.

use std::time::Duration;

use api::{DeletionPolicy, RootCA};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::controller::Action;
use pki::{Crl, KeyAlgorithm, LeafProfile, PrivateKey, SerialNumber, SigningRoot, Subject, Usage, Validity};

use crate::support::resources::{DAY, HOUR, broker, corporate_ca, device, imported_root, root, tls_secret};
use crate::support::{Operator, Site, ready};

/// A site where `root-ca` signs.
async fn site_with_root() -> (Site, Operator) {
    let site = Site::new();
    site.server.put(&root("root-ca"));
    let operator = site.operator();
    operator.settle().await;
    site.server.take_requests();
    (site, operator)
}

fn crl(site: &Site) -> Crl {
    Crl::from_pem(&site.file("rootca-root-ca", "g1.crl")).unwrap()
}

#[tokio::test]
async fn a_root_costs_its_secret_with_the_first_crl_and_the_public_bundle() {
    let site = Site::new();
    site.server.put(&root("root-ca"));
    let operator = site.operator();
    operator.look_at_root("root-ca").await.unwrap();
    let requests = site.server.take_requests();
    assert_eq!(
        requests.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "create secrets rootca-root-ca",
            "get configmaps root-ca-trust",
            "apply configmaps root-ca-trust",
            "apply rootcas/status root-ca",
            "create events ",
            "create events ",
        ]
    );
    let data = requests[0].body["data"].as_object().unwrap();
    assert_eq!(
        data.keys().collect::<Vec<_>>(),
        ["g1.crl", "g1.crt", "g1.key"],
        "the CRL is there from the first write"
    );

    let stored =
        SigningRoot::load(&site.file("rootca-root-ca", "g1.crt"), &site.file("rootca-root-ca", "g1.key"));
    let certificate = stored.unwrap().certificate().clone();
    assert_eq!(certificate.subject(), "CN=Plant g1");
    crl(&site).verify(&certificate).unwrap();
    let trust = site.server.get::<ConfigMap>("root-ca-trust").unwrap().data.unwrap();
    assert_eq!(trust["ca.crt"], certificate.to_pem());
    assert_eq!(site.root("root-ca").generations[0].fingerprint, certificate.fingerprint());

    operator.look_at_root("root-ca").await.unwrap();
    assert_eq!(site.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn two_operators_at_once_make_one_root() {
    let site = Site::new();
    site.server.put(&root("root-ca"));
    site.server.put(&device("door"));
    let (one, other) = (site.operator(), site.operator());
    // Neither has seen anything of the other, and both are making a key.
    let (first, second) = tokio::join!(one.look_at_root("root-ca"), other.look_at_root("root-ca"));
    first.unwrap();
    second.unwrap();
    let creations = site.server.take_requests();
    let creations = creations.iter().filter(|r| r.to_string() == "create secrets rootca-root-ca");
    let mut answers: Vec<_> = creations.map(|request| request.code).collect();
    answers.sort_unstable();
    assert_eq!(answers, [Some(200), Some(409)], "both tried");
    let key = site.file("rootca-root-ca", "g1.key");

    one.settle().await;
    other.settle().await;
    assert_eq!(site.file("rootca-root-ca", "g1.key"), key);
    let roots = [&one, &other].map(|operator| {
        match operator.context.roots.look_up(crate::support::NAMESPACE, "root-ca") {
            operator::roots::Lookup::Usable(root) => root.active().signing.certificate().fingerprint(),
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(roots[0], roots[1]);
    site.client_files("iotdevice-door");
}

#[tokio::test]
async fn a_root_that_is_there_is_loaded_and_not_replaced() {
    let (site, _) = site_with_root().await;
    let before = site.server.get::<Secret>("rootca-root-ca").unwrap();
    site.wait(DAY);
    site.operator().settle().await;
    assert_eq!(site.server.get::<Secret>("rootca-root-ca").unwrap(), before);
    assert_eq!(site.told("root-ca").len(), 2, "made once, one CRL");
}

#[tokio::test]
async fn a_root_made_anew_takes_up_the_key_that_was_kept() {
    let (site, operator) = site_with_root().await;
    site.server.put(&device("door"));
    operator.settle().await;
    let before = site.server.get::<Secret>("rootca-root-ca").unwrap();
    let serial = site.client_files("iotdevice-door").certificate.serial();
    site.server.delete::<RootCA>("root-ca");
    operator.settle().await;
    assert_eq!(site.server.get::<Secret>("rootca-root-ca").unwrap(), before, "it was kept");
    assert!(site.server.get::<ConfigMap>("root-ca-trust").is_none());

    site.server.put(&root("root-ca"));
    operator.settle().await;
    assert_eq!(site.server.get::<Secret>("rootca-root-ca").unwrap().data, before.data);
    assert_eq!(site.client_files("iotdevice-door").certificate.serial(), serial, "nothing is issued anew");
    assert_eq!(site.root("root-ca").crl.unwrap().number, 1);
}

#[tokio::test]
async fn a_root_to_be_deleted_with_its_key_goes_with_it_and_a_change_of_mind_counts() {
    for (policies, kept) in [
        (&[DeletionPolicy::Delete][..], false),
        (&[DeletionPolicy::Retain, DeletionPolicy::Delete], false),
        (&[DeletionPolicy::Delete, DeletionPolicy::Retain], true),
    ] {
        let site = Site::new();
        let operator = site.operator();
        for policy in policies {
            let mut root = root("root-ca");
            root.spec.deletion_policy = *policy;
            site.server.put(&root);
            operator.settle().await;
        }
        site.server.delete::<RootCA>("root-ca");
        assert_eq!(site.server.get::<Secret>("rootca-root-ca").is_some(), kept, "{policies:?}");
    }
}

#[tokio::test]
async fn the_crl_is_followed_by_the_next_at_half_of_its_life_and_reaches_the_broker() {
    let (site, operator) = site_with_root().await;
    site.server.put(&broker("mosquitto"));
    operator.settle().await;
    let serial = site.server_files("mqttbroker-mosquitto").certificate.serial();
    let action = operator.look_at_root("root-ca").await.unwrap();
    let half = Duration::from_hours(84);
    assert!(
        action == Action::requeue(half + Duration::from_millis(1100))
            || action == Action::requeue(half + Duration::from_millis(700)),
        "{action:?}"
    );

    for number in 2..5 {
        site.wait(half.saturating_sub(HOUR));
        operator.settle().await;
        assert_eq!(crl(&site).number(), number - 1);
        site.wait(HOUR);
        operator.settle().await;
        assert_eq!(crl(&site).number(), number);
        let files = site.server_files("mqttbroker-mosquitto");
        assert_eq!(files.crls[0].number(), number);
        assert_eq!(files.certificate.serial(), serial, "the certificate stays");
        assert!(site.told_last("root-ca").starts_with("CrlSigned: "), "{}", site.told_last("root-ca"));
    }
}

#[tokio::test]
async fn a_root_that_cannot_be_read_is_neither_used_nor_replaced_until_it_is_restored() {
    let (site, operator) = site_with_root().await;
    site.server.put(&device("door"));
    operator.settle().await;
    let backup = site.server.get::<Secret>("rootca-root-ca").unwrap();
    for (part, garbage) in
        [("g1.key", "Z2FyYmFnZQ=="), ("g1.crt", "Z2FyYmFnZQ=="), ("g1.crl", "Z2FyYmFnZQ==")]
    {
        site.server.edit::<Secret>("rootca-root-ca", |secret| secret["data"][part] = garbage.into());
        let damaged = site.server.get::<Secret>("rootca-root-ca").unwrap();
        // Whether it was running or has just started.
        for operator in [&operator, &site.operator()] {
            operator.settle().await;
            assert_eq!(site.server.get::<Secret>("rootca-root-ca").unwrap(), damaged, "{part}");
            let status = site.root("root-ca");
            let ready = ready(&status.conditions);
            assert_eq!(ready.status, "False", "{part}");
            assert!(ready.message.contains("backup"), "{part}: {}", ready.message);
        }
        site.server.put(&backup);
        operator.settle().await;
        assert_eq!(ready(&site.root("root-ca").conditions).status, "True", "{part}");
    }
    assert_eq!(site.told("door").len(), 1, "the device kept its certificate");
}

#[tokio::test]
async fn a_root_that_has_expired_gives_way_and_its_key_is_destroyed() {
    let (site, operator) = site_with_root().await;
    site.server.put(&device("door"));
    operator.settle().await;
    site.wait(366 * DAY);
    operator.settle().await;
    let secret = site.server.get::<Secret>("rootca-root-ca").unwrap();
    assert_eq!(secret.data.unwrap().into_keys().collect::<Vec<_>>(), ["g2.crl", "g2.crt", "g2.key"]);
    assert_eq!(site.root("root-ca").active_generation, Some(2));
    assert_eq!(site.client_files("iotdevice-door").certificate.issuer(), "CN=Plant g2");
    assert!(
        site.told_last("door").contains("generation 2 of the root signs now"),
        "{}",
        site.told_last("door")
    );
    site.server.take_requests();
    operator.settle().await;
    assert_eq!(site.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_root_of_ones_own_is_adopted_and_then_independent_of_where_it_came_from() {
    let site = Site::new();
    let ca = corporate_ca(site.now());
    site.server.put(&tls_secret("corp", &ca.certificate().to_pem(), &ca.key().to_pem()));
    site.server.put(&imported_root("root-ca", "corp"));
    site.server.put(&device("door"));
    let operator = site.operator();
    operator.settle().await;
    let files = site.client_files("iotdevice-door");
    assert_eq!(files.trust.roots().next(), Some(ca.certificate()));
    assert_eq!(files.certificate.issuer(), ca.certificate().subject());
    assert_eq!(site.root("root-ca").generations[0].fingerprint, ca.certificate().fingerprint());

    site.server.delete::<Secret>("corp");
    operator.settle().await;
    site.operator().settle().await;
    assert_eq!(ready(&site.root("root-ca").conditions).status, "True");
    assert_eq!(site.client_files("iotdevice-door").certificate, files.certificate);
}

#[tokio::test]
async fn a_bad_import_is_refused_by_name_and_picked_up_once_it_is_mended() {
    let start = Site::new().now();
    let ca = corporate_ca(start);
    let (certificate, key) = (ca.certificate().to_pem(), ca.key().to_pem());
    let leaf_key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let leaf_profile = LeafProfile {
        subject: Subject::new("leaf").unwrap(),
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        uris: Vec::new(),
        usage: Usage::Server,
        key_algorithm: KeyAlgorithm::EcdsaP256,
        duration: DAY,
        crl_distribution_url: None,
    };
    let validity = Validity::plan(DAY, None, "", ca.certificate(), start).unwrap();
    let number = SerialNumber::generate().unwrap();
    let leaf = ca.issue(&leaf_profile, leaf_key.public_key(), number, validity).unwrap().to_pem();
    let old = corporate_ca(start - 400 * DAY);
    let (old_certificate, old_key) = (old.certificate().to_pem(), old.key().to_pem());
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let chain = format!("{certificate}{leaf}");

    let bad: [(&str, &str, &str, &str); 8] = [
        ("a leaf", &leaf, &leaf_key.to_pem(), "tls.crt is not a CA certificate"),
        ("another's key", &certificate, &leaf_key.to_pem(), "tls.key does not belong to tls.crt"),
        ("a passphrase", &certificate, &encrypted, "tls.key: "),
        ("expired", &old_certificate, &old_key, "expired"),
        ("garbage certificate", "garbage", &key, "tls.crt: "),
        ("garbage key", &certificate, "garbage", "tls.key: "),
        ("empty", "", "", "tls.crt: "),
        ("a chain", &chain, &key, "tls.crt holds 2 certificates"),
    ];
    for (what, bad_certificate, bad_key, problem) in bad {
        let site = Site::new();
        site.server.put(&tls_secret("corp", bad_certificate, bad_key));
        site.server.put(&imported_root("root-ca", "corp"));
        let operator = site.operator();
        operator.settle().await;
        let status = site.root("root-ca");
        let condition = ready(&status.conditions);
        assert_eq!((&*condition.status, &*condition.reason), ("False", "ImportRefused"), "{what}");
        for part in ["spec.importFrom.secretName: Secret corp", problem] {
            assert!(condition.message.contains(part), "{what}: {}", condition.message);
        }
        assert_eq!(
            site.told("root-ca"),
            [format!("ImportRefused: {}", condition.message)],
            "{what}, told once"
        );
        assert!(site.server.get::<Secret>("rootca-root-ca").is_none(), "{what}");
        assert!(site.server.get::<ConfigMap>("root-ca-trust").is_none(), "{what}");
        assert!(
            operator.look_at_root("root-ca").await.unwrap() != Action::await_change(),
            "nothing tells of a change"
        );

        site.server.put(&tls_secret("corp", &certificate, &key));
        operator.settle().await;
        assert_eq!(ready(&site.root("root-ca").conditions).status, "True", "{what}");
    }
}

#[tokio::test]
async fn an_import_that_is_missing_is_waited_for() {
    let site = Site::new();
    site.server.put(&imported_root("root-ca", "corp"));
    let operator = site.operator();
    operator.settle().await;
    let status = site.root("root-ca");
    assert!(ready(&status.conditions).message.contains("kubectl create secret tls corp"));
    assert_eq!(site.server.all::<Secret>(), []);

    let ca = corporate_ca(site.now());
    site.server.put(&tls_secret("corp", &ca.certificate().to_pem(), &ca.key().to_pem()));
    operator.settle().await;
    assert_eq!(ready(&site.root("root-ca").conditions).status, "True");
}

#[tokio::test]
async fn a_name_of_three_byte_letters_is_told_too() {
    let site = Site::new();
    let mut root = root("root-ca");
    let (short, long) = (Some("溫".repeat(64)), Some("度".repeat(128)));
    root.spec.subject.attributes = api::DeviceSubject {
        organization: short.clone(),
        organizational_unit: short,
        country: None,
        state: long.clone(),
        locality: long,
    };
    site.server.put(&root);
    site.operator().settle().await;
    assert!(
        site.told("root-ca")[0].starts_with("RootGenerated: made generation 1"),
        "{:?}",
        site.told("root-ca")
    );
}
