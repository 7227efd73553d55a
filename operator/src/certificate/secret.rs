//! The Secret of a certificate: how it is written and how it is read. Its annotations are the ledger of serials.

use std::collections::BTreeMap;
use std::fmt;

use api::{CertificateStatus, HolderStatus, Superseded};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::ResourceExt as _;
use pki::{Certificate, Noted};
use zeroize::Zeroizing;

use super::request::Request;
use super::{Current, Holder};
use crate::children::Children;
use crate::cluster::{Foreign, Version, WRITTEN};
use crate::roots::{Kind, Signer, UsableRoot};
use crate::workloads::metadata::{labels, metadata};

/// The leaf certificate alone.
pub const CERTIFICATE: &str = "tls.crt";
/// Its private key, PKCS#8.
pub const KEY: &str = "tls.key";
/// Every trusted root.
pub const ROOTS: &str = "ca.crt";
/// One CRL for each of them; only servers need them.
pub const CRLS: &str = "ca.crl";

/// All that a Secret of ours may hold.
pub const DATA: [&str; 4] = [CERTIFICATE, KEY, ROOTS, CRLS];

const SERIAL: &str = "ca-iot.dev/serial-number";
const NOT_AFTER: &str = "ca-iot.dev/not-after";
const PROFILE: &str = "ca-iot.dev/profile";
const ROOT_GENERATION: &str = "ca-iot.dev/root-generation";
const ROOT: &str = "ca-iot.dev/root-ca";
const HOLDER: &str = "ca-iot.dev/holder-uid";
const TRIGGER: &str = "ca-iot.dev/renewal-trigger";
const SUPERSEDED: &str = "ca-iot.dev/superseded";

/// A Secret as it was read. Its key is wiped from memory when this is dropped, and never printed.
pub struct Stored {
    secret: Secret,
}

/// A certificate, and its key unless a device keeps that for itself. PEM.
pub struct Pair {
    /// `tls.crt`.
    pub certificate: String,
    /// `tls.key`.
    pub key: Option<Zeroizing<String>>,
}

/// The type of a Secret with a pair.
const PAIR: &str = "kubernetes.io/tls";
/// The type of a Secret without a key, which stays on the device.
const CERTIFICATE_ALONE: &str = "ca-iot.dev/certificate";

/// What a new certificate takes the place of: a Secret that was read, or is known.
#[derive(Debug)]
pub struct Replaced {
    /// That version of it and no other.
    pub version: Version,
    /// Every certificate that it tells of.
    pub certificates: Vec<Superseded>,
    /// The one in it, where it can be read.
    pub current: Option<Current>,
    /// Whether it has to be made anew: the type of a Secret that exists cannot be changed.
    pub is_of_another_type: bool,
}

/// What a Secret's annotations tell of the certificates that were issued to its holder: enough to revoke them when the
/// holder is gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Ledger {
    /// Tells the holder from an earlier one of the same name.
    pub holder_uid: Option<String>,
    /// The certificate in the Secret.
    pub current: Superseded,
    /// Those before it that were within their dates when it was issued.
    pub superseded: Vec<Superseded>,
}

/// The Secret that holds a pair. A device's has no owner: it must outlive the device until its certificates are revoked.
pub fn build<K: Holder>(
    holder: &K,
    request: &Request,
    (root, signer): (&UsableRoot, &Signer),
    pair: &Pair,
    current: &Current,
    now: Timestamp,
) -> Secret {
    let CertificateStatus { serial_number, not_after, root_generation, .. } = &current.certificate;
    let annotations = [
        (SERIAL, serial_number.clone()),
        (NOT_AFTER, not_after.0.to_string()),
        (PROFILE, request.profile(signer).hash()),
        (ROOT, root.name.clone()),
        (HOLDER, holder.uid().unwrap_or_default()),
        (ROOT_GENERATION, root_generation.to_string()),
        (TRIGGER, request.trigger.clone().unwrap_or_default()),
        (SUPERSEDED, superseded_to_text(&current.superseded)),
        (WRITTEN, now.to_string()),
    ];
    let mut data = BTreeMap::from([
        (CERTIFICATE.to_owned(), ByteString(pair.certificate.clone().into())),
        (ROOTS.to_owned(), ByteString(root.bundle.clone().into())),
    ]);
    if let Some(key) = &pair.key {
        data.insert(KEY.to_owned(), ByteString(key.as_bytes().to_vec()));
    }
    if request.is_server() {
        data.insert(CRLS.to_owned(), ByteString(root.crls.clone().into()));
    }
    Secret {
        metadata: ObjectMeta {
            name: Some(request.secret_name.clone()),
            annotations: Some(annotations.map(|(key, value)| (key.to_owned(), value)).into()),
            owner_references: owners(holder, request),
            ..metadata(holder)
        },
        type_: Some(type_of(request).to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

/// The type of the Secret of what is asked for.
pub fn type_of(request: &Request) -> &'static str {
    if request.own_key().is_some() { CERTIFICATE_ALONE } else { PAIR }
}

/// What was noted in the annotations of a Secret when its certificate was issued.
pub fn noted(annotations: &BTreeMap<String, String>) -> Noted<'_> {
    let text = |key: &str| annotations.get(key).map(String::as_str);
    Noted {
        profile_hash: text(PROFILE),
        root_generation: text(ROOT_GENERATION).and_then(|text| text.parse().ok()),
        trigger: text(TRIGGER),
    }
}

fn owners<K: Holder>(holder: &K, request: &Request) -> Option<Vec<OwnerReference>> {
    let owner = holder.controller_owner_ref(&()).filter(|_| request.kind != Kind::Device);
    owner.map(|owner| vec![owner])
}

// === impl Ledger ===

impl Ledger {
    /// What the annotations of a Secret tell; none when it never held a certificate of ours.
    pub fn read(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let text = |key: &str| annotations.get(key).map(String::as_str);
        let current = Superseded {
            serial_number: text(SERIAL)?.to_owned(),
            not_after: Time(text(NOT_AFTER)?.parse().ok()?),
            root_ca: text(ROOT).map(str::to_owned),
            root_generation: text(ROOT_GENERATION).and_then(|text| text.parse().ok()),
        };
        let holder_uid = text(HOLDER).map(str::to_owned);
        let superseded = text(SUPERSEDED).map(superseded_from_text).unwrap_or_default();
        Some(Self { holder_uid, current, superseded })
    }

    /// Those of the holder `name`, by the labels of its Secrets.
    pub fn of_holder(children: &Children, kind: &str, namespace: &str, name: &str) -> Vec<Self> {
        let mut found = Vec::new();
        children.visit_secrets_of_kind(kind, namespace, |owner, annotations| {
            if owner == name {
                found.extend(Self::read(annotations));
            }
        });
        found
    }

    /// Every certificate in it.
    pub fn all(&self) -> impl Iterator<Item = &Superseded> {
        std::iter::once(&self.current).chain(&self.superseded)
    }

    /// Whether it was written for somebody else of the holder's name, who is gone. A Secret of an earlier release names nobody.
    pub fn is_of_another(&self, holder_uid: &str) -> bool {
        self.holder_uid.as_deref().is_some_and(|uid| uid != holder_uid)
    }
}

// === impl Stored ===

impl Stored {
    /// Takes over a Secret that was read.
    pub fn new(secret: Secret) -> Self {
        Self { secret }
    }

    /// Which version of it this is.
    pub fn version(&self) -> Version {
        Version::from(&self.secret.metadata)
    }

    /// It with the roots and CRLs of `root`, and no other data; none: it has them.
    pub fn with_trust_of(&self, root: &UsableRoot, now: Timestamp) -> Option<Secret> {
        let wanted = [(ROOTS, &root.bundle), (CRLS, &root.crls)];
        let stale = wanted.iter().any(|(key, text)| self.text(key) != Some(text.as_str()));
        let mut metadata = self.secret.metadata.clone();
        metadata.annotations.get_or_insert_default().insert(WRITTEN.to_owned(), now.to_string());
        stale.then(|| Secret {
            metadata,
            data: Some(wanted.map(|(key, text)| (key.to_owned(), ByteString(text.clone().into()))).into()),
            ..Secret::default()
        })
    }

    /// What a certificate for `request` would take the place of.
    pub fn replaced(&self, request: &Request, seed: &str) -> Replaced {
        let mut certificates = self.superseded();
        certificates.extend(self.ledger().map(|ledger| ledger.current));
        Replaced {
            version: self.version(),
            certificates,
            current: self.current(request, seed),
            is_of_another_type: self.secret.type_.as_deref() != Some(type_of(request)),
        }
    }

    /// Whose it is, if not `holder`'s, which shows in its labels, its owner, or the note of the one it was issued to.
    pub fn foreign<K: Holder>(&self, holder: &K) -> Option<Foreign> {
        let noted = self.ledger().and_then(|ledger| ledger.holder_uid);
        if noted.is_some() && noted == holder.uid() {
            return None;
        }
        Foreign::by_name::<Secret>(&self.secret.metadata, &metadata(holder))
    }

    /// What was noted and stored, for [`pki::examine`].
    pub fn facts(&self) -> pki::Stored<'_> {
        pki::Stored {
            certificate: self.text(CERTIFICATE),
            key: self.text(KEY),
            noted: noted(self.secret.annotations()),
        }
    }

    /// The certificate, and its key where that is stored too.
    pub fn pair(&self, request: &Request) -> Option<Pair> {
        let key = self.text(KEY).filter(|_| request.own_key().is_none());
        let key = key.map(|key| Zeroizing::new(key.to_owned()));
        Some(Pair { certificate: self.text(CERTIFICATE)?.to_owned(), key })
    }

    /// What its annotations tell.
    pub fn ledger(&self) -> Option<Ledger> {
        Ledger::read(self.secret.annotations())
    }

    /// The certificate, where it can be read.
    pub fn certificate(&self) -> Option<Certificate> {
        Certificate::from_pem(self.text(CERTIFICATE)?).ok()
    }

    /// What can be told of the certificate, whatever is asked for now.
    pub fn current(&self, request: &Request, seed: &str) -> Option<Current> {
        let generation = self.facts().noted.root_generation.unwrap_or_default();
        let certificate = certificate_status(&self.certificate()?, request, generation, seed);
        Some(Current { certificate, superseded: self.superseded() })
    }

    /// Whether everything beside the pair is as it should be: trust, CRLs, labels, owner.
    pub fn is_in_order<K: Holder>(&self, holder: &K, request: &Request, root: &UsableRoot) -> bool {
        let owners = owners(holder, request).unwrap_or_default();
        let noted = self.annotation(ROOT) == Some(root.name.as_str()) && self.annotation(HOLDER).is_some();
        let labelled = labels(holder).iter().all(|(key, value)| self.secret.labels().get(key) == Some(value));
        labelled
            && noted
            && self.secret.owner_references() == owners
            && (request.own_key().is_none() || self.text(KEY).is_none())
            && self.text(ROOTS) == Some(root.bundle.as_str())
            && (!request.is_server() || self.text(CRLS) == Some(root.crls.as_str()))
    }

    /// The ledger: serials that were replaced. The one in the annotation beside the present certificate counts
    /// when the certificate itself cannot be read any more.
    pub fn superseded(&self) -> Vec<Superseded> {
        self.annotation(SUPERSEDED).map(superseded_from_text).unwrap_or_default()
    }

    /// What is wrong when `certificate`, which is stored here, is not the one that was issued: a pair of another device
    /// is a pair all the same.
    pub fn not_the_issued_one(&self, certificate: &Certificate) -> Option<String> {
        let (issued, found) = (self.annotation(SERIAL)?, certificate.serial().to_string());
        (issued != found).then(|| format!("tls.crt is certificate {found}, issued was {issued}"))
    }

    fn text(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(&self.secret.data.as_ref()?.get(key)?.0).ok()
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.secret.annotations().get(key).map(String::as_str)
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("name", &self.secret.name_any()).field("data", &"<redacted>").finish()
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).field("key", &"<redacted>").finish()
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        use zeroize::Zeroize as _;
        if let Some(key) = self.secret.data.as_mut().and_then(|data| data.get_mut(KEY)) {
            key.0.zeroize();
        }
    }
}

// === impl Current ===

impl Current {
    /// A certificate that was just signed, and those that it takes the place of: by the Secret's ledger, and by what was
    /// told last, in case the Secret is gone.
    pub fn new<K: Holder>(
        certificate: &Certificate,
        request: &Request,
        root_generation: u32,
        holder: &K,
        replaced: Option<&Replaced>,
        now: Timestamp,
    ) -> Self {
        let seed = &holder.uid().unwrap_or_default();
        let mut superseded = replaced.map(|replaced| replaced.certificates.clone()).unwrap_or_default();
        superseded.extend(holder.holder_status().into_iter().flat_map(told));
        superseded.retain(|old| old.not_after.0 > now);
        // Of two entries for one certificate the one that says more comes first, and stays.
        superseded.sort_by(|a, b| {
            let key = |it: &Superseded| (it.not_after.0, it.serial_number.clone(), it.root_ca.is_none());
            key(a).cmp(&key(b))
        });
        superseded.dedup_by(|a, b| a.serial_number == b.serial_number);
        Self { certificate: certificate_status(certificate, request, root_generation, seed), superseded }
    }
}

/// Every certificate that a status tells of.
pub fn told(status: &HolderStatus) -> impl Iterator<Item = Superseded> {
    let current = status.certificate.iter().map(|it| Superseded {
        serial_number: it.serial_number.clone(),
        not_after: it.not_after.clone(),
        root_ca: None,
        root_generation: Some(it.root_generation),
    });
    current.chain(status.superseded.iter().cloned())
}

/// What is told of a certificate.
pub fn certificate_status(
    certificate: &Certificate,
    request: &Request,
    root_generation: u32,
    seed: &str,
) -> CertificateStatus {
    let (not_before, not_after) = (certificate.not_before(), certificate.not_after());
    CertificateStatus {
        serial_number: certificate.serial().to_string(),
        fingerprint: certificate.fingerprint(),
        not_before: Time(not_before),
        not_after: Time(not_after),
        renewal_time: Time(pki::renewal_time(not_before, not_after, request.renew_before, seed)),
        root_generation: i32::try_from(root_generation).unwrap_or(i32::MAX),
        secret_name: request.secret_name.clone(),
    }
}

/// `serial=end=root/generation`, separated by commas.
fn superseded_to_text(superseded: &[Superseded]) -> String {
    let entries = superseded.iter().map(|old| {
        let Superseded { serial_number, not_after, root_ca, root_generation } = old;
        let root = root_ca.as_deref().unwrap_or_default();
        let generation = root_generation.map(|generation| generation.to_string()).unwrap_or_default();
        format!("{serial_number}={}={root}/{generation}", not_after.0)
    });
    entries.collect::<Vec<_>>().join(",")
}

fn superseded_from_text(text: &str) -> Vec<Superseded> {
    text.split(',')
        .filter_map(|entry| {
            let (serial, rest) = entry.split_once('=')?;
            let (not_after, issuer) = rest.split_once('=').unwrap_or((rest, "/"));
            let (root, generation) = issuer.split_once('/')?;
            Some(Superseded {
                serial_number: serial.to_owned(),
                not_after: Time(not_after.parse().ok()?),
                root_ca: (!root.is_empty()).then(|| root.to_owned()),
                root_generation: generation.parse().ok(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_survives_its_writing() {
        let entry = |serial: &str, second| Superseded {
            serial_number: serial.to_owned(),
            not_after: Time(Timestamp::from_second(second).unwrap()),
            root_ca: (second > 1_800_000_000).then(|| "root-ca".to_owned()),
            root_generation: (second > 1_800_000_000).then_some(3),
        };
        let ledger = vec![entry("0a1b", 1_800_000_000), entry("7f", 1_900_000_000)];
        assert_eq!(superseded_from_text(&superseded_to_text(&ledger)), ledger);
        assert!(superseded_from_text("").is_empty());
        assert!(superseded_from_text("garbage,=,1=yesterday").is_empty());
    }

    #[test]
    fn a_stored_key_is_never_printed() {
        let secret = Secret {
            data: Some(BTreeMap::from([(KEY.to_owned(), ByteString(b"PRIVATE".to_vec()))])),
            ..Secret::default()
        };
        assert!(!format!("{:?}", Stored::new(secret)).contains("PRIVATE"));
    }
}
