//! The operator is killed after any of its writes, or a write fails in any way: the next look goes on from what is in the cluster, and ends
//! where it would have ended.

use api::{Dashboard, GoDuration, HolderStatus, MqttBroker};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use kube::ResourceExt as _;
use pki::{Crl, SigningRoot};

use crate::support::resources::{DAY, HOUR, broker, dashboard, device, root, thermometer};
use crate::support::{Fault, Site, ready};

/// What happened to a site before an operator deals with it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scenario {
    /// Users have just written their resources.
    New,
    /// Every certificate is due, and the CRL.
    Renewal,
    /// The CRL is due, and a device has lost its trust.
    Refresh,
    /// Much of what the operator made is gone, but not the root.
    Loss,
    /// The root is at its end: another generation, and everything anew.
    Expiry,
}

const SCENARIOS: [Scenario; 5] =
    [Scenario::New, Scenario::Renewal, Scenario::Refresh, Scenario::Loss, Scenario::Expiry];

/// A scenario at its beginning, and how it ends when nothing goes wrong.
struct Trial {
    site: Site,
    writes: usize,
    end: End,
}

/// How a site ends up, as far as it can be the same twice.
#[derive(Debug, PartialEq)]
struct End {
    generation: u32,
    crl_number: u64,
    /// How many certificates of each holder were replaced and are still within their dates: none is issued twice.
    superseded: [usize; 4],
}

/// What is stored of a root.
struct Ledger {
    generation: u32,
    signing: SigningRoot,
    crl: Crl,
}

// === impl Scenario ===

impl Scenario {
    async fn begin(self) -> Site {
        let site = Site::new();
        site.server.put(&root("root-ca"));
        site.server.put(&broker("mosquitto"));
        site.server.put(&dashboard("dashboard"));
        site.server.put(&thermometer("boiler"));
        site.server.put(&device("door"));
        if self != Self::New {
            site.operator().settle().await;
        }
        match self {
            Self::New => {}
            Self::Renewal => site.wait(70 * DAY),
            Self::Refresh => {
                site.wait(4 * DAY);
                site.server.edit::<Secret>("iotdevice-door", |secret| secret["data"]["ca.crt"] = "".into());
            }
            Self::Loss => {
                for lost in ["iotdevice-door", "iotdevice-boiler", "mqttbroker-mosquitto"] {
                    site.server.delete::<Secret>(lost);
                }
                site.server.delete::<Deployment>("mqttbroker-mosquitto");
                site.server.delete::<Service>("mqttbroker-mosquitto");
                site.server.delete::<ConfigMap>("root-ca-trust");
            }
            Self::Expiry => site.wait(366 * DAY),
        }
        site
    }
}

// === impl Trial ===

impl Trial {
    async fn of(scenario: Scenario) -> Self {
        let site = scenario.begin().await;
        let undisturbed = site.copy();
        undisturbed.operator().settle().await;
        let (writes, end) = (undisturbed.server.count_writes(), End::of(&undisturbed));
        assert!(writes >= 8, "{scenario:?} is no trial: {writes} writes");
        Self { site, writes, end }
    }
}

// === impl Ledger ===

impl Ledger {
    /// None before the first write.
    fn of(site: &Site) -> Option<Self> {
        let secret = site.server.get::<Secret>("rootca-root-ca")?;
        let generation = secret.annotations()["ca-iot.dev/generation"].parse().unwrap();
        let part = |what: &str| site.file("rootca-root-ca", &format!("g{generation}.{what}"));
        let signing = SigningRoot::load(&part("crt"), &part("key")).unwrap();
        let crl = Crl::from_pem(&part("crl")).unwrap();
        Some(Self { generation, signing, crl })
    }
}

// === impl End ===

impl End {
    /// Checks that all is as it should be: one root, one valid pair for everybody, every status true to it.
    fn of(site: &Site) -> Self {
        let Ledger { generation, signing, crl } = Ledger::of(site).unwrap();
        let root = signing.certificate();
        crl.verify(root).unwrap();
        crl.check_dates(site.now()).unwrap();
        assert_eq!(site.root("root-ca").generations[0].fingerprint, root.fingerprint());
        assert_eq!(site.root("root-ca").crl.unwrap().number, i64::try_from(crl.number()).unwrap());
        let trust = site.server.get::<ConfigMap>("root-ca-trust").unwrap().data.unwrap();
        assert_eq!(trust["ca.crt"], root.to_pem());
        let secrets: Vec<_> = site.server.all::<Secret>().iter().map(Secret::name_any).collect();
        let wanted = [
            "dashboard-dashboard",
            "iotdevice-boiler",
            "iotdevice-door",
            "mqttbroker-mosquitto",
            "rootca-root-ca",
        ];
        assert_eq!(secrets, wanted);
        for name in ["iotdevice-boiler", "mqttbroker-mosquitto", "dashboard-dashboard"] {
            assert!(site.server.get::<Deployment>(name).is_some(), "no Deployment {name}");
        }

        let files = site.server_files("mqttbroker-mosquitto");
        assert_eq!(files.crls[0].number(), crl.number());
        let broker = site.server.get::<MqttBroker>("mosquitto").unwrap().status.unwrap().holder;
        let dashboard = site.server.get::<Dashboard>("dashboard").unwrap().status.unwrap();
        let [door, boiler] = ["door", "boiler"].map(|name| site.device(name));
        assert_eq!(serial(&broker), files.certificate.serial().to_string());
        for (secret, status) in
            [("iotdevice-door", &door), ("iotdevice-boiler", &boiler), ("dashboard-dashboard", &dashboard)]
        {
            let files = site.client_files(secret);
            assert_eq!(files.trust.roots().collect::<Vec<_>>(), [root], "{secret}");
            assert_eq!(serial(status), files.certificate.serial().to_string(), "{secret}");
        }
        for device in [&door, &boiler] {
            assert_eq!(ready(&device.conditions).status, "True");
        }
        let superseded = [&broker, &dashboard, &door, &boiler].map(|status| status.superseded.len());
        Self { generation, crl_number: crl.number(), superseded }
    }
}

fn serial(status: &HolderStatus) -> String {
    status.certificate.as_ref().unwrap().serial_number.clone()
}

#[tokio::test]
async fn killed_after_any_write_the_next_operator_ends_where_this_one_would_have() {
    for scenario in SCENARIOS {
        let trial = Trial::of(scenario).await;
        for survived in 0..trial.writes {
            let site = trial.site.copy();
            let operator = site.operator();
            site.server.fail((0..survived).map(|_| Fault::None).chain([Fault::CrashAfter]));
            while !site.server.crashed() {
                let _ = operator.round().await;
            }
            site.server.recover();
            let left = Ledger::of(&site);

            site.operator().settle().await;
            assert_eq!(End::of(&site), trial.end, "{scenario:?}, killed after {survived} writes and one");
            if let Some(left) = left
                && left.generation == trial.end.generation
            {
                let now = Ledger::of(&site).unwrap();
                assert_eq!(
                    now.signing.key().to_pem(),
                    left.signing.key().to_pem(),
                    "{scenario:?}: a second root"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_write_that_fails_is_made_up_for() {
    for scenario in SCENARIOS {
        let trial = Trial::of(scenario).await;
        for survived in 0..trial.writes {
            for fault in [Fault::Internal, Fault::Conflict, Fault::Unreachable, Fault::AnswerLost] {
                let site = trial.site.copy();
                site.server.fail((0..survived).map(|_| Fault::None).chain([fault]));
                site.operator().settle().await;
                assert_eq!(End::of(&site), trial.end, "{scenario:?}, {fault:?} after {survived} writes");
            }
        }
    }
}

#[tokio::test]
async fn many_faults_in_a_row_only_take_longer() {
    let faults = [Fault::Internal, Fault::None, Fault::Conflict, Fault::AnswerLost, Fault::Unreachable];
    let trial = Trial::of(Scenario::New).await;
    for seed in 0..10 {
        let site = trial.site.copy();
        site.server.fail((0..12).map(|n| faults[(seed * 7 + n * n + n * seed) % faults.len()]));
        site.operator().settle().await;
        assert_eq!(End::of(&site), trial.end, "{seed}");
    }
}

#[tokio::test]
async fn the_number_of_the_crl_never_falls() {
    let site = Site::new();
    let mut root = root("root-ca");
    root.spec.crl.valid_for = GoDuration::from(DAY);
    site.server.put(&root);
    let mut numbers = Vec::new();
    for step in 0..24 {
        if step % 3 == 0 {
            site.server.fail([Fault::CrashAfter]);
        }
        // Killed or not: the next one looks.
        let _ = site.operator().look_at_root("root-ca").await;
        site.server.recover();
        site.operator().settle().await;
        numbers.push(Ledger::of(&site).unwrap().crl.number());
        site.wait(5 * HOUR);
    }
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert!((8..=12).contains(numbers.last().unwrap()), "one every twelve hours: {numbers:?}");
}
