//! A site for every key algorithm: a root, what it issues, and its revocation lists.

use std::fs;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use pki::{
    Certificate, Crl, CrlContents, KeyAlgorithm, LeafProfile, PrivateKey, RevocationReason,
    RevokedCertificate, RootProfile, SerialNumber, SigningRoot, Subject, Usage, Validity,
};
use tempfile::TempDir;

/// Past 2049, from when on X.509 writes dates in another form.
const LIFE_OF_A_ROOT: Duration = Duration::from_hours(30 * 365 * 24);
const LIFE_OF_A_LEAF: Duration = Duration::from_hours(90 * 24);

/// By these names a broker is reached.
pub(crate) const BROKER: &str = "mqttbroker-mosquitto.iot.svc.cluster.local";
pub(crate) const BROKER_ADDRESSES: [&str; 2] = ["127.0.0.1", "::1"];

/// A root and what it has issued.
pub(crate) struct Site {
    pub(crate) algorithm: KeyAlgorithm,
    pub(crate) root: SigningRoot,
    /// The key of all the leaves.
    pub(crate) key: PrivateKey,
    /// A client with every field that there is: `device001`.
    pub(crate) device: Certificate,
    /// A client with nothing but its name, `device002`; on the list.
    pub(crate) revoked: Certificate,
    /// A server with every field that there is.
    pub(crate) broker: Certificate,
    /// A list without entries.
    pub(crate) empty_crl: Crl,
    /// A list with an entry for each reason.
    pub(crate) crl: Crl,
}

/// One site per algorithm, made once: RSA keys of 4096 bits take their time.
static SITES: LazyLock<Result<Vec<Site>>> =
    LazyLock::new(|| in_parallel(&KeyAlgorithm::ALL, |algorithm| Site::new(*algorithm)));

/// Lets `judge` look at the site of every algorithm, at all of them at once.
///
/// # Errors
/// The first objection, with the algorithm.
pub(crate) fn judge_every_algorithm(judge: impl Fn(&Site) -> Result<()> + Sync) -> Result<()> {
    let sites = SITES.as_ref().map_err(|error| anyhow!("{error:#}"))?;
    in_parallel(sites, |site| judge(site).with_context(|| site.algorithm.to_string()))?;
    Ok(())
}

/// The site of the algorithm that most devices use.
pub(crate) fn ordinary_site() -> Result<&'static Site> {
    let sites = SITES.as_ref().map_err(|error| anyhow!("{error:#}"))?;
    sites.iter().find(|site| site.algorithm == KeyAlgorithm::default()).context("no ordinary site")
}

fn in_parallel<'a, T: Sync, R: Send>(
    items: &'a [T],
    work: impl Fn(&'a T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(move || work(item))).collect();
        let results = threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("panicked"))?);
        results.collect()
    })
}

impl Site {
    fn new(algorithm: KeyAlgorithm) -> Result<Self> {
        let root = root(algorithm, 1)?;
        let key = PrivateKey::generate(algorithm)?;
        let device = issue(&root, &device(algorithm), &key)?;
        let revoked = issue(&root, &device_with_a_name_only(algorithm), &key)?;
        let broker = issue(&root, &broker(algorithm), &key)?;
        let empty_crl = crl(&root, 1, Vec::new())?;
        let crl = crl(&root, 2, an_entry_for_each_reason(&revoked)?)?;
        Ok(Self { algorithm, root, key, device, revoked, broker, empty_crl, crl })
    }

    /// Everything as files: `ca.crt`, `ca.crl`, `empty.crl`; `device.crt`, `revoked.crt`, `broker.crt` and their `tls.key`.
    pub(crate) fn files(&self) -> Result<TempDir> {
        let folder = tempfile::tempdir()?;
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text);
        write("ca.crt", &self.root.certificate().to_pem())?;
        write("ca.crl", &self.crl.to_pem())?;
        write("empty.crl", &self.empty_crl.to_pem())?;
        write("device.crt", &self.device.to_pem())?;
        write("revoked.crt", &self.revoked.to_pem())?;
        write("broker.crt", &self.broker.to_pem())?;
        write("tls.key", &self.key.to_pem())?;
        Ok(folder)
    }
}

// === what is asked for ===

pub(crate) fn root(key_algorithm: KeyAlgorithm, generation: u32) -> Result<SigningRoot> {
    let subject = Subject { common_name: "Site CA".into(), ..full_subject() };
    let profile = RootProfile { subject, generation, key_algorithm, duration: LIFE_OF_A_ROOT };
    Ok(SigningRoot::generate(&profile, SerialNumber::generate()?, Timestamp::now())?)
}

pub(crate) fn device(key_algorithm: KeyAlgorithm) -> LeafProfile {
    LeafProfile {
        subject: Subject { common_name: "device001".into(), ..full_subject() },
        dns_names: vec!["device001.example.com".into()],
        ip_addresses: vec![[192, 0, 2, 7].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 7].into()],
        uris: vec!["https://example.com/iot/device001".into()],
        ..device_with_a_name_only(key_algorithm)
    }
}

fn device_with_a_name_only(key_algorithm: KeyAlgorithm) -> LeafProfile {
    LeafProfile {
        subject: Subject { common_name: "device002".into(), ..Subject::default() },
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        uris: Vec::new(),
        usage: Usage::Client,
        key_algorithm,
        duration: LIFE_OF_A_LEAF,
        crl_distribution_url: None,
    }
}

fn broker(key_algorithm: KeyAlgorithm) -> LeafProfile {
    LeafProfile {
        subject: Subject { common_name: "mosquitto.broker".into(), ..full_subject() },
        dns_names: vec![BROKER.into()],
        ip_addresses: BROKER_ADDRESSES.iter().filter_map(|address| address.parse().ok()).collect(),
        uris: vec!["https://broker.example.com:8883/".into()],
        usage: Usage::Server,
        crl_distribution_url: Some("http://operator.example.com/root-ca.crl".into()),
        ..device_with_a_name_only(key_algorithm)
    }
}

fn full_subject() -> Subject {
    Subject {
        organization: Some("Example Ltd".into()),
        organizational_unit: Some("Cold storage".into()),
        country: Some("TW".into()),
        state: Some("Taiwan".into()),
        locality: Some("臺北市".into()),
        ..Subject::default()
    }
}

fn an_entry_for_each_reason(revoked: &Certificate) -> Result<Vec<RevokedCertificate>> {
    let mut entries = vec![entry(revoked, RevocationReason::KeyCompromise)];
    for reason in [
        RevocationReason::Unspecified,
        RevocationReason::CaCompromise,
        RevocationReason::AffiliationChanged,
        RevocationReason::Superseded,
        RevocationReason::CessationOfOperation,
        RevocationReason::CertificateHold,
        RevocationReason::PrivilegeWithdrawn,
    ] {
        entries.push(RevokedCertificate { serial: SerialNumber::generate()?, ..entry(revoked, reason) });
    }
    Ok(entries)
}

// === signing it ===

pub(crate) fn issue(root: &SigningRoot, profile: &LeafProfile, key: &PrivateKey) -> Result<Certificate> {
    let validity = Validity::plan(profile.duration, None, "uid", root.certificate(), Timestamp::now())?;
    Ok(root.issue(profile, key.public_key(), SerialNumber::generate()?, validity)?)
}

pub(crate) fn crl(root: &SigningRoot, number: u64, revoked: Vec<RevokedCertificate>) -> Result<Crl> {
    let contents = CrlContents { number, valid_for: Duration::from_hours(24), revoked };
    Ok(root.sign_crl(&contents, Timestamp::now())?)
}

pub(crate) fn entry(certificate: &Certificate, reason: RevocationReason) -> RevokedCertificate {
    RevokedCertificate { serial: certificate.serial(), revoked_at: Timestamp::now(), reason }
}
