//! The rules that hold at every moment of a fleet's life, whatever happens to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use api::{CertificateHolder, CertificateState, MqttBroker, RootCA, RotationPhase, conditions, names};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, ResourceExt as _};
use pki::{Certificate, Crl, PrivateKey, ServerFiles, TrustBundle};

/// More are never trusted at once.
const GENERATIONS: usize = 2;

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Judge {
    verdict: Verdict,
    /// Every root by its fingerprint, with the Secret in which it was seen first.
    roots: BTreeMap<String, (Certificate, String)>,
    /// Which certificate has a serial number, and where it was seen.
    serials: BTreeMap<String, (String, String)>,
    /// The greatest number of a root's CRL that was seen in a place.
    numbers: BTreeMap<(String, String), u64>,
    /// The one list of a root that has a number.
    lists: BTreeMap<(String, u64), Vec<u8>>,
    /// Of each Secret, the lists in it that must not lapse.
    standing: BTreeMap<String, Vec<Crl>>,
    /// What is needed of a holder to tell when its certificates are due.
    holders: BTreeMap<(String, String), Holder>,
    /// Certificates that were stored just now, whose holder was not seen yet.
    unjudged: BTreeMap<(String, String), Vec<(Certificate, Timestamp)>>,
    /// How far each replacement of a root had come: by UID and start.
    phases: BTreeMap<(String, Timestamp), RotationPhase>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Versions of Secrets.
    pub secrets: usize,
    /// Different certificates of devices, brokers and dashboards.
    pub certificates: usize,
    /// Different CRLs.
    pub crls: usize,
    /// Different roots.
    pub roots: usize,
    /// Versions of resources' status.
    pub statuses: usize,
    /// How often a watch was interrupted; versions may have come and gone unseen meanwhile.
    pub interruptions: usize,
    /// What must not be, each once.
    pub violations: Vec<String>,
}

/// Whether an object was there before the observer looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// It was written just now.
    Now,
    /// It was there already.
    Earlier,
}

#[derive(Clone, Debug)]
struct Holder {
    uid: String,
    renew_before: Option<Duration>,
}

impl Judge {
    /// A version of a Secret that the operator made.
    pub(super) fn secret(&mut self, secret: &Secret, since: Since, now: Timestamp) {
        self.verdict.secrets += 1;
        let place = secret.name_any();
        if secret.labels().get(names::LABEL_KIND).map(String::as_str) == Some(RootCA::kind(&()).as_ref()) {
            self.root_secret(secret, &place, now);
        } else if secret.data.as_ref().is_some_and(|data| data.contains_key("tls.crt")) {
            self.leaf_secret(secret, &place, since, now);
        }
    }

    /// A Secret was deleted: its lists are in nobody's way any more.
    pub(super) fn gone(&mut self, secret: &Secret) {
        self.standing.remove(&secret.name_any());
    }

    /// Time has passed.
    pub(super) fn clock(&mut self, now: Timestamp) {
        let lapsed: Vec<_> = self
            .standing
            .iter()
            .flat_map(|(place, lists)| lists.iter().map(move |list| (place, list)))
            .filter(|(_, list)| list.next_update() <= now)
            .map(|(place, list)| {
                format!(
                    "{place}: CRL {} of {} lapsed at {}",
                    list.number(),
                    list.issuer(),
                    list.next_update()
                )
            })
            .collect();
        for violation in lapsed {
            self.found(violation);
        }
    }

    /// A watch was interrupted.
    pub(super) fn interrupted(&mut self) {
        self.verdict.interruptions += 1;
    }

    /// A version of a root.
    pub(super) fn root(&mut self, root: &RootCA) {
        let Some(status) = &root.status else { return };
        self.verdict.statuses += 1;
        let name = root.name_any();
        if status.generations.len() > GENERATIONS {
            self.found(format!("RootCA {name}: {} generations are trusted", status.generations.len()));
        }
        if let Some(rotation) = &status.rotation {
            let replacement = (root.uid().unwrap_or_default(), rotation.started_at.0);
            let before = self.phases.insert(replacement, rotation.phase);
            if let Some(before) = before
                && before as u8 > rotation.phase as u8
            {
                self.found(format!("RootCA {name}: went back from {before:?} to {:?}", rotation.phase));
            }
            if rotation.reissued > rotation.total || rotation.trusting > rotation.total {
                self.found(format!("RootCA {name}: counts more than all: {rotation:?}"));
            }
        }
    }

    /// A version of a holder.
    pub(super) fn holder<K>(&mut self, holder: &K, now: Timestamp)
    where
        K: CertificateHolder + Resource<DynamicType = ()>,
    {
        let key = (K::kind(&()).into_owned(), holder.name_any());
        let known = Holder {
            uid: holder.uid().unwrap_or_default(),
            renew_before: holder.certificate_spec().renew_before.map(Duration::from),
        };
        for (certificate, seen) in self.unjudged.remove(&key).unwrap_or_default() {
            self.due(&format!("{} {}", key.0, key.1), &certificate, &known, seen);
        }
        self.holders.insert(key.clone(), known);
        let Some(status) = holder.holder_status() else { return };
        self.verdict.statuses += 1;
        let is_ready = conditions::holds(&status.conditions, conditions::READY);
        let out = matches!(
            status.state,
            Some(CertificateState::Expired | CertificateState::Suspended | CertificateState::Revoked)
        );
        if is_ready && out {
            self.found(format!("{} {}: Ready, and {:?}", key.0, key.1, status.state));
        }
        let expired = |certificate: &api::CertificateStatus| certificate.not_after.0 <= now;
        // a status is written when something changes; what it says must hold at least then
        let is_new = is_ready && status.certificate.as_ref().is_some_and(expired);
        if is_new && self.verdict.interruptions == 0 {
            self.found(format!("{} {}: Ready with an expired certificate", key.0, key.1));
        }
    }

    /// What a running broker says that it has loaded.
    pub(super) fn loaded(&mut self, broker: &MqttBroker) {
        let Some(loaded) = broker.status.as_ref().and_then(|status| status.loaded.as_ref()) else { return };
        let place = format!("status.loaded of MqttBroker {}", broker.name_any());
        for list in &loaded.crls {
            self.number(&place, &list.root, u64::try_from(list.number).unwrap_or_default());
        }
    }

    /// What was found, in the end.
    pub(super) fn verdict(mut self) -> Verdict {
        self.verdict.roots = self.roots.len();
        self.verdict.crls = self.lists.len();
        self.verdict
    }

    fn root_secret(&mut self, secret: &Secret, place: &str, now: Timestamp) {
        let mut standing = Vec::new();
        for (file, _) in secret.data.iter().flatten() {
            let Some(generation) = file.strip_suffix(".crt") else { continue };
            let Some(Ok(root)) = text(secret, file).map(Certificate::from_pem) else {
                self.found(format!("{place}: {file} cannot be read"));
                continue;
            };
            self.known_root(&root, place);
            // that of a generation which is retired is destroyed
            if let Some(key) = text(secret, &format!("{generation}.key")) {
                self.pair(place, &root, key);
            }
            let Some(list) = text(secret, &format!("{generation}.crl")) else { continue };
            match Crl::from_pem(list) {
                Ok(list) => {
                    self.list(place, &root, &list, now);
                    standing.push(list);
                }
                Err(problem) => self.found(format!("{place}: {generation}.crl: {problem}")),
            }
        }
        self.standing.insert(place.to_owned(), standing);
    }

    fn leaf_secret(&mut self, secret: &Secret, place: &str, since: Since, now: Timestamp) {
        let Some(Ok(certificate)) = text(secret, "tls.crt").map(Certificate::from_pem) else {
            return self.found(format!("{place}: tls.crt cannot be read"));
        };
        match (text(secret, "tls.key"), secret.type_.as_deref()) {
            (Some(_), Some("ca-iot.dev/certificate")) => {
                self.found(format!("{place}: holds a key, though the device keeps its own"));
            }
            (Some(key), _) => self.pair(place, &certificate, key),
            (None, Some("ca-iot.dev/certificate")) => {}
            (None, _) => self.found(format!("{place}: there is no tls.key")),
        }
        let Some(Ok(trust)) = text(secret, "ca.crt").map(TrustBundle::from_pem) else {
            return self.found(format!("{place}: ca.crt cannot be read"));
        };
        for root in trust.roots() {
            self.known_root(root, place);
        }
        if trust.roots().len() > GENERATIONS {
            self.found(format!("{place}: {} roots are trusted", trust.roots().len()));
        }
        let is_new = self.serial(&certificate, place);
        if is_new {
            self.verdict.certificates += 1;
        }
        self.outlives(&certificate, place);
        if is_new && since == Since::Now {
            self.judge_when_due(secret, place, certificate, now);
        }
        if let Some(lists) = text(secret, "ca.crl") {
            self.server(secret, place, lists, &trust, now);
        } else if secret.labels().get(names::LABEL_KIND).map(String::as_str)
            == Some(MqttBroker::kind(&()).as_ref())
        {
            self.found(format!("{place}: there is no ca.crl"));
        }
    }

    /// What a broker mounts must serve as a whole, at any moment: Mosquitto exits, or refuses everybody, when it does not.
    fn server(&mut self, secret: &Secret, place: &str, lists: &str, trust: &TrustBundle, now: Timestamp) {
        let part = |key| text(secret, key).unwrap_or_default();
        if let Err(problem) = ServerFiles::check(part("tls.crt"), part("tls.key"), part("ca.crt"), lists, now)
        {
            self.found(format!("{place}: {problem}"));
        }
        let Ok(lists) = Crl::all_from_pem(lists) else { return };
        for list in &lists {
            if let Some(root) = trust.roots().find(|root| list.verify(root).is_ok()) {
                self.list(place, root, list, now);
            }
        }
        self.standing.insert(place.to_owned(), lists);
    }

    fn judge_when_due(&mut self, secret: &Secret, place: &str, certificate: Certificate, now: Timestamp) {
        let label = |key| secret.labels().get(key).cloned().unwrap_or_default();
        let holder = (label(names::LABEL_KIND), label(names::LABEL_NAME));
        match self.holders.get(&holder).cloned() {
            Some(known) => self.due(place, &certificate, &known, now),
            None => self.unjudged.entry(holder).or_default().push((certificate, now)),
        }
    }

    /// A certificate that is due as soon as it is stored would be renewed again and again.
    fn due(&mut self, place: &str, certificate: &Certificate, holder: &Holder, now: Timestamp) {
        let Holder { uid, renew_before } = holder;
        let due = pki::renewal_time(certificate.not_before(), certificate.not_after(), *renew_before, uid);
        if due <= now {
            self.found(format!(
                "{place}: certificate {} was stored at {now}, due at {due}",
                certificate.serial()
            ));
        }
    }

    fn pair(&mut self, place: &str, certificate: &Certificate, key: &str) {
        let fits = PrivateKey::from_pem(key).is_ok_and(|key| key.public_key().fits(certificate));
        if !fits {
            self.found(format!("{place}: the key is not that of certificate {}", certificate.serial()));
        }
    }

    fn known_root(&mut self, root: &Certificate, place: &str) {
        let fingerprint = root.fingerprint();
        if self.roots.contains_key(&fingerprint) {
            return;
        }
        let namesake = self.roots.values().find(|(other, _)| other.subject() == root.subject());
        if let Some((_, other)) = namesake {
            self.found(format!(
                "{place}: a second root is called {:?}, first seen in {other}",
                root.subject()
            ));
        }
        self.serial(root, "a root");
        self.roots.insert(fingerprint, (root.clone(), place.to_owned()));
    }

    /// Says whether the certificate is seen for the first time.
    fn serial(&mut self, certificate: &Certificate, place: &str) -> bool {
        let (serial, this) = (certificate.serial().to_string(), certificate.fingerprint());
        let Some((known, at)) = self.serials.get(&serial).cloned() else {
            self.serials.insert(serial, (this, place.to_owned()));
            return true;
        };
        if known != this || at != place {
            self.found(format!("{place}: serial {serial} is that of another certificate in {at}"));
        }
        false
    }

    fn outlives(&mut self, certificate: &Certificate, place: &str) {
        let mut roots = self.roots.values().map(|(root, _)| root);
        let issuer = roots
            .find(|root| certificate.issuer() == root.subject() && certificate.check_signed_by(root).is_ok());
        match issuer.map(Certificate::not_after) {
            None => {
                self.found(format!("{place}: no known root has signed certificate {}", certificate.serial()));
            }
            Some(end) if certificate.not_after() > end => {
                let (serial, own) = (certificate.serial(), certificate.not_after());
                self.found(format!("{place}: certificate {serial} ends at {own}, its root at {end}"));
            }
            Some(_) => {}
        }
    }

    fn list(&mut self, place: &str, root: &Certificate, list: &Crl, now: Timestamp) {
        if let Err(problem) = list.verify(root) {
            self.found(format!("{place}: CRL {}: {problem}", list.number()));
        }
        if let Err(problem) = list.check_dates(now) {
            self.found(format!("{place}: CRL {} of {} {problem}", list.number(), list.issuer()));
        }
        let fingerprint = root.fingerprint();
        self.number(place, &fingerprint, list.number());
        let of_this_number =
            self.lists.entry((fingerprint, list.number())).or_insert_with(|| list.der().to_vec());
        if of_this_number != list.der() {
            self.found(format!(
                "{place}: there are two CRLs of {} with number {}",
                list.issuer(),
                list.number()
            ));
        }
    }

    fn number(&mut self, place: &str, root: &str, number: u64) {
        let greatest = self.numbers.entry((place.to_owned(), root.to_owned())).or_default();
        let before = *greatest;
        *greatest = before.max(number);
        if number < before {
            self.found(format!("{place}: the CRL number went back from {before} to {number}"));
        }
    }

    fn found(&mut self, violation: String) {
        let known: BTreeSet<_> = self.verdict.violations.iter().collect();
        if !known.contains(&violation) {
            self.verdict.violations.push(violation);
        }
    }
}

impl Verdict {
    /// In a few words.
    pub fn looked_at(&self) -> String {
        let Self { secrets: _, certificates, crls, roots, statuses, interruptions, violations: _ } = self;
        format!(
            "{certificates} certificates, {crls} CRLs, {roots} roots, {statuses} statuses, {interruptions} interruptions"
        )
    }
}

fn text<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    std::str::from_utf8(&secret.data.as_ref()?.get(key)?.0).ok()
}

#[cfg(test)]
mod tests {
    use api::IotDevice;
    use k8s_openapi::ByteString;
    use pki::{
        CrlContents, KeyAlgorithm, LeafProfile, RootProfile, SerialNumber, SigningRoot, Subject, Usage,
        Validity,
    };
    use serde_json::json;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    fn serial(n: u8) -> SerialNumber {
        SerialNumber::from_random([n; SerialNumber::OCTETS])
    }

    fn root(generation: u32) -> SigningRoot {
        let profile = RootProfile {
            subject: Subject::new("Site CA").unwrap(),
            generation,
            key_algorithm: KeyAlgorithm::EcdsaP256,
            duration: HOUR * 24,
        };
        SigningRoot::generate(&profile, SerialNumber::generate().unwrap(), now()).unwrap()
    }

    fn crl(root: &SigningRoot, number: u64, valid_for: Duration) -> Crl {
        root.sign_crl(&CrlContents { number, valid_for, revoked: Vec::new() }, now()).unwrap()
    }

    struct Pair {
        crt: String,
        key: String,
    }

    fn leaf(root: &SigningRoot, serial: SerialNumber, usage: Usage) -> Pair {
        let profile = LeafProfile {
            subject: Subject::new("device001").unwrap(),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            uris: Vec::new(),
            usage,
            key_algorithm: KeyAlgorithm::EcdsaP256,
            duration: HOUR,
            crl_distribution_url: None,
        };
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let validity = Validity::plan(HOUR, None, "uid", root.certificate(), now()).unwrap();
        let crt = root.issue(&profile, key.public_key(), serial, validity).unwrap();
        Pair { crt: crt.to_pem(), key: key.to_pem().to_string() }
    }

    fn secret(kind: &str, name: &str, files: &[(&str, &str)]) -> Secret {
        let mut secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": format!("{}-{name}", kind.to_lowercase()), "labels": {
                "ca-iot.dev/kind": kind, "ca-iot.dev/name": name,
            }},
            "type": "kubernetes.io/tls",
        }))
        .unwrap();
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        secret.data = Some(files.iter().map(|(name, text)| ((*name).to_owned(), bytes(text))).collect());
        secret
    }

    fn root_secret(root: &SigningRoot, generation: u32, crl: &Crl) -> Secret {
        let [crt, key, list] = ["crt", "key", "crl"].map(|end| format!("g{generation}.{end}"));
        let (certificate, private) = (root.certificate().to_pem(), root.key().to_pem());
        let files = [(&*crt, &*certificate), (&*key, private.as_str()), (&*list, &*crl.to_pem())];
        secret("RootCA", "root-ca", &files)
    }

    fn device(root: &SigningRoot, pair: &Pair) -> Secret {
        let ca = root.certificate().to_pem();
        secret("IotDevice", "device001", &[("tls.crt", &pair.crt), ("tls.key", &pair.key), ("ca.crt", &ca)])
    }

    fn broker(pair: &Pair, roots: &[&SigningRoot], lists: &[&Crl]) -> Secret {
        let ca: String = roots.iter().map(|root| root.certificate().to_pem()).collect();
        let crl: String = lists.iter().map(|list| list.to_pem()).collect();
        let files = [("tls.crt", &*pair.crt), ("tls.key", &*pair.key), ("ca.crt", &*ca), ("ca.crl", &*crl)];
        secret("MqttBroker", "mosquitto", &files)
    }

    fn judged(secrets: &[Secret]) -> Verdict {
        let mut judge = Judge::default();
        for secret in secrets {
            judge.secret(secret, Since::Now, now());
        }
        judge.verdict()
    }

    fn the_violation(verdict: &Verdict) -> &str {
        assert_eq!(verdict.violations.len(), 1, "{:#?}", verdict.violations);
        &verdict.violations[0]
    }

    #[test]
    fn a_fleet_in_order_gives_no_cause_and_is_counted() {
        let (one, two) = (root(1), root(2));
        let (list, next) = (crl(&one, 1, HOUR), crl(&one, 2, HOUR));
        let pair = leaf(&one, serial(1), Usage::Server);
        let verdict = judged(&[
            root_secret(&one, 1, &list),
            device(&one, &leaf(&one, serial(2), Usage::Client)),
            broker(&pair, &[&one], &[&list]),
            root_secret(&one, 1, &next),
            broker(&pair, &[&one, &two], &[&next, &crl(&two, 1, HOUR)]),
        ]);
        assert!(verdict.violations.is_empty(), "{:#?}", verdict.violations);
        assert_eq!((verdict.secrets, verdict.certificates, verdict.crls, verdict.roots), (5, 2, 3, 2));
        verdict.check().unwrap();
    }

    #[test]
    fn one_who_has_seen_nothing_has_not_found_all_in_order() {
        assert!(judged(&[]).check().is_err());
    }

    #[test]
    fn a_leaf_that_outlives_its_root_is_found() {
        use rcgen::{CertificateParams, Issuer, KeyPair};
        let root = root(1);
        let issuer = Issuer::from_ca_cert_pem(
            &root.certificate().to_pem(),
            KeyPair::from_pem(&root.key().to_pem()).unwrap(),
        )
        .unwrap();
        let mut params = CertificateParams::default();
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(vec![1; 20].into());
        let key = KeyPair::generate().unwrap();
        let crt = params.signed_by(&key, &issuer).unwrap().pem(); // until the year 4096
        let verdict = judged(&[device(&root, &Pair { crt, key: key.serialize_pem() })]);
        assert!(the_violation(&verdict).contains("its root at 2026-03-02T12:00:00Z"), "{verdict:?}");
    }

    #[test]
    fn a_leaf_of_nobody_known_is_found() {
        let verdict = judged(&[device(&root(2), &leaf(&root(1), serial(1), Usage::Client))]);
        assert!(the_violation(&verdict).contains("no known root has signed"), "{verdict:?}");
    }

    #[test]
    fn a_key_that_does_not_fit_is_found_at_leaf_and_root() {
        let (one, two) = (root(1), root(2));
        let mut pair = leaf(&one, serial(1), Usage::Client);
        pair.key = leaf(&one, serial(2), Usage::Client).key;
        assert!(
            the_violation(&judged(&[device(&one, &pair)])).contains("the key is not that of certificate")
        );
        let mut mixed = root_secret(&one, 1, &crl(&one, 1, HOUR));
        let key = ByteString(two.key().to_pem().as_bytes().to_vec());
        mixed.data.as_mut().unwrap().insert("g1.key".to_owned(), key);
        assert!(
            the_violation(&judged(&[mixed])).contains("rootca-root-ca: the key is not that of certificate")
        );
    }

    #[test]
    fn a_key_beside_the_certificate_of_a_device_that_keeps_its_own_is_found() {
        let root = root(1);
        let mut own = device(&root, &leaf(&root, serial(1), Usage::Client));
        own.type_ = Some("ca-iot.dev/certificate".to_owned());
        assert!(the_violation(&judged(&[own.clone()])).contains("the device keeps its own"));
        own.data.as_mut().unwrap().remove("tls.key");
        judged(&[own]).check().unwrap();
    }

    #[test]
    fn two_roots_of_one_name_are_found() {
        let (one, namesake) = (root(1), root(1));
        let verdict = judged(&[
            root_secret(&one, 1, &crl(&one, 1, HOUR)),
            root_secret(&namesake, 2, &crl(&namesake, 1, HOUR)),
        ]);
        assert!(the_violation(&verdict).contains("a second root is called"), "{verdict:?}");
    }

    #[test]
    fn a_crl_number_that_goes_back_or_stands_for_two_lists_is_found() {
        let root = root(1);
        let list = |number, life| root_secret(&root, 1, &crl(&root, number, life));
        assert!(the_violation(&judged(&[list(5, HOUR), list(4, HOUR)])).contains("went back from 5 to 4"));
        let two = judged(&[list(5, HOUR), list(5, HOUR * 2)]);
        assert!(the_violation(&two).contains("two CRLs"), "{two:?}");
    }

    #[test]
    fn a_crl_that_lapses_is_found_even_while_nothing_is_written() {
        let root = root(1);
        let stored = root_secret(&root, 1, &crl(&root, 1, HOUR));
        let mut judge = Judge::default();
        judge.secret(&stored, Since::Now, now());
        judge.clock(now() + HOUR / 2);
        assert!(judge.verdict.violations.is_empty());
        judge.clock(now() + HOUR * 2);
        judge.clock(now() + HOUR * 3);
        assert!(
            the_violation(&judge.verdict).contains("CRL 1 of CN=Site CA g1 lapsed"),
            "{:?}",
            judge.verdict
        );

        let mut judge = Judge::default();
        judge.secret(&stored, Since::Now, now());
        judge.gone(&stored);
        judge.clock(now() + HOUR * 2);
        assert!(judge.verdict.violations.is_empty(), "what is deleted cannot lapse");
    }

    #[test]
    fn a_broker_without_a_list_for_each_root_is_found() {
        let (one, two) = (root(1), root(2));
        let pair = leaf(&one, serial(1), Usage::Server);
        let list = crl(&one, 1, HOUR);
        let verdict = judged(&[broker(&pair, &[&one, &two], &[&list])]);
        assert!(the_violation(&verdict).contains("there is no revocation list for the root"), "{verdict:?}");
        let stray = judged(&[broker(&pair, &[&one], &[&list, &crl(&two, 1, HOUR)])]);
        assert!(the_violation(&stray).contains("not among the trusted roots"), "{stray:?}");
        let mut none = broker(&pair, &[&one], &[&list]);
        none.data.as_mut().unwrap().remove("ca.crl");
        assert!(the_violation(&judged(&[none])).contains("there is no ca.crl"));
    }

    #[test]
    fn a_serial_used_twice_is_found() {
        let root = root(1);
        let [first, second] = [(); 2].map(|()| device(&root, &leaf(&root, serial(7), Usage::Client)));
        let verdict = judged(&[first.clone(), first, second]);
        assert!(the_violation(&verdict).contains("is that of another certificate"), "{verdict:?}");
    }

    #[test]
    fn a_certificate_that_is_due_when_it_is_stored_is_found_whenever_its_holder_is_seen() {
        let root = root(1);
        let stored = device(&root, &leaf(&root, serial(1), Usage::Client));
        let holder = |renew_before: &str| -> IotDevice {
            serde_json::from_value(json!({
                "apiVersion": "ca-iot.dev/v1alpha1", "kind": "IotDevice",
                "metadata": {"name": "device001", "uid": "uid"}, "spec": {"renewBefore": renew_before},
            }))
            .unwrap()
        };
        for holder_first in [true, false] {
            let mut judge = Judge::default();
            let hasty = holder("59m59s");
            if holder_first {
                judge.holder(&hasty, now());
            }
            judge.secret(&stored, Since::Now, now());
            judge.holder(&hasty, now());
            assert!(the_violation(&judge.verdict).contains("due at"), "{:?}", judge.verdict);

            let mut judge = Judge::default();
            judge.holder(&holder("20m"), now());
            judge.secret(&stored, Since::Now, now());
            assert!(judge.verdict.violations.is_empty(), "{:?}", judge.verdict);
        }
        let mut judge = Judge::default();
        judge.holder(&holder("59m59s"), now());
        judge.secret(&stored, Since::Earlier, now() + HOUR / 2);
        assert!(judge.verdict.violations.is_empty(), "it was stored long ago");
    }

    fn rotating(phase: &str, trusting: i32) -> RootCA {
        serde_json::from_value(json!({
            "apiVersion": "ca-iot.dev/v1alpha1", "kind": "RootCA",
            "metadata": {"name": "root-ca", "uid": "uid"}, "spec": {"subject": {"commonName": "Site CA"}},
            "status": {"rotation": {"phase": phase, "reason": "trigger", "startedAt": "2026-03-01T12:00:00Z",
                "trusting": trusting, "reissued": 0, "total": 3}},
        }))
        .unwrap()
    }

    #[test]
    fn a_rotation_that_goes_back_or_counts_too_many_is_found() {
        let mut judge = Judge::default();
        judge.root(&rotating("Distributing", 1));
        judge.root(&rotating("Reissuing", 3));
        assert!(judge.verdict.violations.is_empty());
        judge.root(&rotating("SwitchingServers", 3));
        assert!(the_violation(&judge.verdict).contains("went back from Reissuing to SwitchingServers"));
        let mut judge = Judge::default();
        judge.root(&rotating("Distributing", 4));
        assert!(the_violation(&judge.verdict).contains("counts more than all"));
    }

    #[test]
    fn a_revoked_device_that_is_called_ready_is_found() {
        let device: IotDevice = serde_json::from_value(json!({
            "apiVersion": "ca-iot.dev/v1alpha1", "kind": "IotDevice",
            "metadata": {"name": "device001", "uid": "uid"}, "spec": {},
            "status": {"state": "Revoked", "conditions": [{"type": "Ready", "status": "True", "reason": "Valid",
                "message": "", "lastTransitionTime": "2026-03-01T12:00:00Z"}]},
        }))
        .unwrap();
        let mut judge = Judge::default();
        judge.holder(&device, now());
        assert!(the_violation(&judge.verdict).contains("Ready, and Some(Revoked)"));
    }

    #[test]
    fn a_loaded_crl_number_that_goes_back_is_found() {
        let broker = |number: i64| -> MqttBroker {
            serde_json::from_value(json!({
                "apiVersion": "ca-iot.dev/v1alpha1", "kind": "MqttBroker",
                "metadata": {"name": "mosquitto", "uid": "uid"}, "spec": {},
                "status": {"loaded": {"serialNumber": "0a", "roots": ["ab"], "loadedAt": "2026-03-01T12:00:00Z",
                    "crls": [{"root": "ab", "number": number}]}},
            }))
            .unwrap()
        };
        let mut judge = Judge::default();
        judge.loaded(&broker(3));
        judge.loaded(&broker(2));
        assert!(the_violation(&judge.verdict).contains("went back from 3 to 2"));
    }
}
