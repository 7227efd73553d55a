//! The Secret of a certificate: how it is written and how it is read. Its annotations are the ledger of serials.

use std::collections::BTreeMap;
use std::fmt;

use api::{CertificateStatus, Superseded};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt as _;
use pki::Certificate;
use zeroize::Zeroizing;

use super::request::Request;
use super::{Current, Holder};
use crate::cluster::Foreign;
use crate::roots::UsableRoot;
use crate::workloads::metadata::{labels, metadata};

/// The leaf certificate alone.
pub const CERTIFICATE: &str = "tls.crt";
/// Its private key, PKCS#8.
pub const KEY: &str = "tls.key";
/// Every trusted root.
pub const ROOTS: &str = "ca.crt";
/// One CRL for each of them; only servers need them.
pub const CRLS: &str = "ca.crl";

const SERIAL: &str = "ca-iot.dev/serial-number";
const NOT_AFTER: &str = "ca-iot.dev/not-after";
const PROFILE: &str = "ca-iot.dev/profile";
const ROOT_GENERATION: &str = "ca-iot.dev/root-generation";
const TRIGGER: &str = "ca-iot.dev/renewal-trigger";
const SUPERSEDED: &str = "ca-iot.dev/superseded";

/// A Secret as it was read. Its key is wiped from memory when this is dropped, and never printed.
pub struct Stored {
    secret: Secret,
}

/// The Secret that holds a pair.
pub fn build<K: Holder>(
    holder: &K,
    request: &Request,
    root: &UsableRoot,
    certificate_pem: &str,
    key_pem: &str,
    current: &Current,
) -> Secret {
    let CertificateStatus { serial_number, not_after, root_generation, .. } = &current.certificate;
    let annotations = [
        (SERIAL, serial_number.clone()),
        (NOT_AFTER, not_after.0.to_string()),
        (PROFILE, request.profile(root).hash()),
        (ROOT_GENERATION, root_generation.to_string()),
        (TRIGGER, request.trigger.clone().unwrap_or_default()),
        (SUPERSEDED, superseded_to_text(&current.superseded)),
    ];
    let mut data = BTreeMap::from([
        (CERTIFICATE.to_owned(), ByteString(certificate_pem.into())),
        (KEY.to_owned(), ByteString(key_pem.into())),
        (ROOTS.to_owned(), ByteString(root.bundle.clone().into())),
    ]);
    if request.is_server() {
        data.insert(CRLS.to_owned(), ByteString(root.crls.clone().into()));
    }
    Secret {
        metadata: ObjectMeta {
            name: Some(request.secret_name.clone()),
            annotations: Some(annotations.map(|(key, value)| (key.to_owned(), value)).into()),
            ..metadata(holder)
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

// === impl Stored ===

impl Stored {
    /// Takes over a Secret that was read.
    pub fn new(secret: Secret) -> Self {
        Self { secret }
    }

    /// It as it was read.
    pub fn as_read(&self) -> &Secret {
        &self.secret
    }

    /// Whose it is, if not `holder`'s.
    pub fn foreign<K: Holder>(&self, holder: &K) -> Option<Foreign> {
        Foreign::by_name::<Secret>(&self.secret.metadata, &metadata(holder))
    }

    /// What was noted and stored, for [`pki::examine`].
    pub fn facts(&self) -> pki::Stored<'_> {
        pki::Stored {
            certificate: self.text(CERTIFICATE),
            key: self.text(KEY),
            profile_hash: self.annotation(PROFILE),
            root_generation: self.annotation(ROOT_GENERATION).and_then(|text| text.parse().ok()),
            trigger: self.annotation(TRIGGER),
        }
    }

    /// Certificate and key, where both are there.
    pub fn pair(&self) -> Option<(&str, Zeroizing<String>)> {
        Some((self.text(CERTIFICATE)?, Zeroizing::new(self.text(KEY)?.to_owned())))
    }

    /// The certificate, where it can be read.
    pub fn certificate(&self) -> Option<Certificate> {
        Certificate::from_pem(self.text(CERTIFICATE)?).ok()
    }

    /// What can be told of the certificate, whatever is asked for now.
    pub fn current(&self, request: &Request, seed: &str) -> Option<Current> {
        let generation = self.facts().root_generation.unwrap_or_default();
        let certificate = certificate_status(&self.certificate()?, request, generation, seed);
        Some(Current { certificate, superseded: self.superseded() })
    }

    /// Whether everything beside the pair is as it should be: trust, CRLs, labels, owner.
    pub fn is_in_order<K: Holder>(&self, holder: &K, request: &Request, root: &UsableRoot) -> bool {
        let owner = holder.controller_owner_ref(&());
        let labelled = labels(holder).iter().all(|(key, value)| self.secret.labels().get(key) == Some(value));
        labelled
            && owner.is_none_or(|owner| self.secret.owner_references().contains(&owner))
            && self.text(ROOTS) == Some(root.bundle.as_str())
            && (!request.is_server() || self.text(CRLS) == Some(root.crls.as_str()))
    }

    /// The ledger: serials that were replaced. The one in the annotation beside the present certificate counts
    /// when the certificate itself cannot be read any more.
    pub fn superseded(&self) -> Vec<Superseded> {
        self.annotation(SUPERSEDED).map(superseded_from_text).unwrap_or_default()
    }

    /// Serial and end of the certificate that was stored here last, by the ledger.
    pub fn last_issued(&self) -> Option<Superseded> {
        let serial_number = self.annotation(SERIAL)?.to_owned();
        let not_after = Time(self.annotation(NOT_AFTER)?.parse().ok()?);
        Some(Superseded { serial_number, not_after })
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
        replaced: Option<&Stored>,
        now: Timestamp,
    ) -> Self {
        let seed = &holder.uid().unwrap_or_default();
        let told = holder.holder_status();
        let mut superseded = replaced.map(Stored::superseded).unwrap_or_default();
        superseded.extend(replaced.and_then(Stored::last_issued));
        superseded.extend(told.iter().flat_map(|status| status.superseded.clone()));
        superseded.extend(told.and_then(|status| status.certificate.as_ref()).map(|told| Superseded {
            serial_number: told.serial_number.clone(),
            not_after: told.not_after.clone(),
        }));
        superseded.retain(|old| old.not_after.0 > now);
        superseded.sort_by(|a, b| (a.not_after.0, &a.serial_number).cmp(&(b.not_after.0, &b.serial_number)));
        superseded.dedup();
        Self { certificate: certificate_status(certificate, request, root_generation, seed), superseded }
    }
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

fn superseded_to_text(superseded: &[Superseded]) -> String {
    let entries: Vec<_> =
        superseded.iter().map(|old| format!("{}={}", old.serial_number, old.not_after.0)).collect();
    entries.join(",")
}

fn superseded_from_text(text: &str) -> Vec<Superseded> {
    text.split(',')
        .filter_map(|entry| {
            let (serial, not_after) = entry.split_once('=')?;
            Some(Superseded { serial_number: serial.to_owned(), not_after: Time(not_after.parse().ok()?) })
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
