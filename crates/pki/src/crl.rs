//! Certificate revocation lists (RFC 5280, 5).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::armor::{self, PemError};
use crate::certificate::{Certificate, Name, SignatureError, same_key_id};
use crate::key::PublicKey;
use crate::serial::{SerialNumber, SerialNumberError};
use crate::validity::{self, DateError, Validity};

const LABEL: &str = "X509 CRL";

/// Why a certificate was revoked (RFC 5280, 5.3.1). Reasons that only other kinds of lists know are left out.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum RevocationReason {
    /// No particular reason.
    #[default]
    #[serde(rename = "unspecified")]
    Unspecified,
    /// The device or its key may be in other hands.
    #[serde(rename = "keyCompromise")]
    KeyCompromise,
    /// The CA's key may be in other hands.
    #[serde(rename = "cACompromise")]
    CaCompromise,
    /// The device has a new name or belongs to somebody else.
    #[serde(rename = "affiliationChanged")]
    AffiliationChanged,
    /// Another certificate has taken its place.
    #[serde(rename = "superseded")]
    Superseded,
    /// The device is out of service.
    #[serde(rename = "cessationOfOperation")]
    CessationOfOperation,
    /// On hold: the only reason that can be taken back.
    #[serde(rename = "certificateHold")]
    CertificateHold,
    /// The device may no longer do what the certificate allows.
    #[serde(rename = "privilegeWithdrawn")]
    PrivilegeWithdrawn,
}

/// An entry of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokedCertificate {
    /// Which certificate.
    pub serial: SerialNumber,
    /// When it was revoked.
    pub revoked_at: Timestamp,
    /// Why.
    pub reason: RevocationReason,
}

/// What a root is to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlContents {
    /// Greater than that of every list that this root signed before.
    pub number: u64,
    /// How long until the next list must be there: nextUpdate is so much later than the moment of signing.
    pub valid_for: Duration,
    /// Every revoked certificate, in any order; of several entries with the same serial number the earliest counts.
    pub revoked: Vec<RevokedCertificate>,
}

/// A list, read once. Equal when the DER is.
#[derive(Clone)]
pub struct Crl {
    der: Vec<u8>,
    issuer: Name,
    number: u64,
    this_update: Timestamp,
    next_update: Timestamp,
    authority_key_id: Option<Vec<u8>>,
    revoked: BTreeMap<SerialNumber, RevokedCertificate>,
}

/// Why something is not a list that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// The text around it.
    #[error("the revocation list {0}")]
    Pem(#[from] PemError),
    /// Not DER, or not a list.
    #[error("the revocation list cannot be read: {0}")]
    Malformed(String),
    /// Lists of RFC 5280 have both.
    #[error("the revocation list has no {0}")]
    Missing(&'static str),
    /// An entry's serial number.
    #[error("an entry's serial number cannot be used: {0}")]
    Serial(#[from] SerialNumberError),
    /// Another root's list.
    #[error("the revocation list is from {issuer:?}, not from {root:?}")]
    WrongIssuer {
        /// Whose list it is.
        issuer: String,
        /// Whose list was expected.
        root: String,
    },
    /// A list of another root of the same name, or a forgery.
    #[error("the revocation list: {0}")]
    Signature(#[from] SignatureError),
    /// The root that is to sign.
    #[error("the root {0}")]
    Root(DateError),
    /// The cryptographic library refused.
    #[error("the revocation list could not be signed: {0}")]
    Signing(String),
}

// === impl RevocationReason ===

impl RevocationReason {
    /// None for `unspecified`, which is expressed by leaving the reason out.
    fn to_rcgen(self) -> Option<rcgen::RevocationReason> {
        use rcgen::RevocationReason as Code;
        match self {
            Self::Unspecified => None,
            Self::KeyCompromise => Some(Code::KeyCompromise),
            Self::CaCompromise => Some(Code::CaCompromise),
            Self::AffiliationChanged => Some(Code::AffiliationChanged),
            Self::Superseded => Some(Code::Superseded),
            Self::CessationOfOperation => Some(Code::CessationOfOperation),
            Self::CertificateHold => Some(Code::CertificateHold),
            Self::PrivilegeWithdrawn => Some(Code::PrivilegeWithdrawn),
        }
    }

    fn from_code(code: u8) -> Self {
        match code {
            1 => Self::KeyCompromise,
            2 => Self::CaCompromise,
            3 => Self::AffiliationChanged,
            4 => Self::Superseded,
            5 => Self::CessationOfOperation,
            6 => Self::CertificateHold,
            9 => Self::PrivilegeWithdrawn,
            _ => Self::Unspecified,
        }
    }
}

impl fmt::Display for RevocationReason {
    /// As RFC 5280 writes it: `keyCompromise`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::CaCompromise => "cACompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::CertificateHold => "certificateHold",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
        })
    }
}

// === impl CrlContents ===

impl CrlContents {
    pub(crate) fn to_rcgen(
        &self,
        this_update: Timestamp,
        now: Timestamp,
        key_identifier: KeyIdMethod,
    ) -> CertificateRevocationListParams {
        let mut entries: BTreeMap<SerialNumber, &RevokedCertificate> = BTreeMap::new();
        for entry in &self.revoked {
            let earliest = entries.entry(entry.serial).or_insert(entry);
            if entry.revoked_at < earliest.revoked_at {
                *earliest = entry;
            }
        }
        let revoked_certs = entries.into_values().map(|entry| RevokedCertParams {
            serial_number: entry.serial.as_octets().to_vec().into(),
            revocation_time: validity::to_rcgen(entry.revoked_at),
            reason_code: entry.reason.to_rcgen(),
            invalidity_date: None,
        });
        CertificateRevocationListParams {
            this_update: validity::to_rcgen(this_update),
            next_update: validity::to_rcgen(validity::later(now, self.valid_for)),
            crl_number: self.number.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: key_identifier,
        }
    }
}

// === impl Crl ===

impl Crl {
    /// Reads the one list in `text`.
    pub fn from_pem(text: &str) -> Result<Self, CrlError> {
        Self::from_der(armor::decode_one(text, LABEL, &["CRL"])?)
    }

    /// Reads every list in `text`, at least one.
    pub fn all_from_pem(text: &str) -> Result<Vec<Self>, CrlError> {
        armor::decode_all(text, LABEL, &["CRL"])?.into_iter().map(Self::from_der).collect()
    }

    /// Reads a DER list. It must have a number and a nextUpdate.
    pub fn from_der(der: impl Into<Vec<u8>>) -> Result<Self, CrlError> {
        let der = der.into();
        let malformed = |problem: &dyn fmt::Display| CrlError::Malformed(problem.to_string());
        let (rest, parsed) = CertificateRevocationList::from_der(&der).map_err(|error| malformed(&error))?;
        if !rest.is_empty() {
            return Err(malformed(&"there is something behind it"));
        }
        let number = parsed.crl_number().ok_or(CrlError::Missing("number"))?;
        let number = u64::try_from(number).map_err(|_| malformed(&"its number has more than 64 bits"))?;
        let next_update = parsed.next_update().ok_or(CrlError::Missing("nextUpdate"))?;
        let authority_key_id =
            parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(authority) => {
                    authority.key_identifier.as_ref().map(|id| id.0.to_vec())
                }
                _ => None,
            });
        let mut revoked = BTreeMap::new();
        for entry in parsed.iter_revoked_certificates() {
            let serial = SerialNumber::from_der_integer(entry.raw_serial())?;
            let revoked_at = validity::from_asn1(entry.revocation_date);
            let reason =
                entry.reason_code().map(|(_, code)| RevocationReason::from_code(code.0)).unwrap_or_default();
            revoked.insert(serial, RevokedCertificate { serial, revoked_at, reason });
        }
        Ok(Self {
            issuer: Name::of(parsed.issuer()),
            number,
            this_update: validity::from_asn1(parsed.last_update()),
            next_update: validity::from_asn1(next_update),
            authority_key_id,
            revoked,
            der,
        })
    }

    /// The list as DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The list as PEM.
    pub fn to_pem(&self) -> String {
        armor::encode(LABEL, &self.der)
    }

    /// The issuer's distinguished name, as it reads.
    pub fn issuer(&self) -> &str {
        &self.issuer.text
    }

    /// Which of its issuer's lists it is: the greatest is the latest.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// When it was issued; backdated when it is ours.
    pub fn this_update(&self) -> Timestamp {
        self.this_update
    }

    /// When the next one must be there: the broker refuses everybody from then on.
    pub fn next_update(&self) -> Timestamp {
        self.next_update
    }

    /// The key identifier of the authority key identifier.
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.authority_key_id.as_deref()
    }

    /// Every entry, by serial number.
    pub fn revoked(&self) -> impl ExactSizeIterator<Item = &RevokedCertificate> {
        self.revoked.values()
    }

    /// The entry for `serial`, if it is revoked.
    pub fn entry(&self, serial: SerialNumber) -> Option<&RevokedCertificate> {
        self.revoked.get(&serial)
    }

    /// Whether `now` lies between thisUpdate and nextUpdate.
    pub fn check_dates(&self, now: Timestamp) -> Result<(), DateError> {
        Validity { not_before: self.this_update, not_after: self.next_update }.check(now)
    }

    /// Whether it is `root`'s list: by name, by key identifier and by signature.
    pub fn verify(&self, root: &Certificate) -> Result<(), CrlError> {
        if !self.names_as_issuer(root) {
            let (issuer, root) = (self.issuer.text.clone(), root.subject().to_owned());
            return Err(CrlError::WrongIssuer { issuer, root });
        }
        self.verify_signature(root.public_key(), root.subject())
    }

    pub(crate) fn names_as_issuer(&self, root: &Certificate) -> bool {
        self.issuer.der == root.subject_der() && same_key_id(self.authority_key_id(), root.subject_key_id())
    }

    fn verify_signature(&self, key: &PublicKey, issuer: &str) -> Result<(), CrlError> {
        let wrong = |problem: &dyn fmt::Display| SignatureError {
            issuer: issuer.to_owned(),
            problem: problem.to_string(),
        };
        let key = key.to_der();
        let (_, key) =
            x509_parser::x509::SubjectPublicKeyInfo::from_der(&key).map_err(|error| wrong(&error))?;
        let (_, parsed) = CertificateRevocationList::from_der(&self.der).map_err(|error| wrong(&error))?;
        parsed.verify_signature(&key).map_err(|error| wrong(&error))?;
        Ok(())
    }
}

impl PartialEq for Crl {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Crl {}

impl fmt::Debug for Crl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crl({}, number {}, {} revoked)", self.issuer.text, self.number, self.revoked.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{self, DAY};
    use crate::{RootProfile, SigningRoot};

    #[test]
    fn a_list_survives_being_stored_and_loaded() {
        let list = sample::root().sign_crl(&sample::empty_list(u64::MAX), sample::now()).unwrap();
        assert_eq!(list.number(), u64::MAX);
        assert_eq!(list.revoked().len(), 0);
        assert_eq!(Crl::from_pem(&list.to_pem()).unwrap(), list);
        assert_eq!(Crl::all_from_pem(&list.to_pem().repeat(2)).unwrap(), [list.clone(), list]);
    }

    #[test]
    fn every_reason_comes_back_as_it_was_given() {
        let root = sample::root();
        let reasons = [
            RevocationReason::Unspecified,
            RevocationReason::KeyCompromise,
            RevocationReason::CaCompromise,
            RevocationReason::AffiliationChanged,
            RevocationReason::Superseded,
            RevocationReason::CessationOfOperation,
            RevocationReason::CertificateHold,
            RevocationReason::PrivilegeWithdrawn,
        ];
        let revoked_at = "2026-01-01T00:00:00Z".parse().unwrap();
        let entries = (1..).zip(reasons).map(|(number, reason)| RevokedCertificate {
            serial: sample::serial(number),
            revoked_at,
            reason,
        });
        let contents = CrlContents { revoked: entries.collect(), ..sample::empty_list(1) };
        let list = root.sign_crl(&contents, sample::now()).unwrap();
        assert!(list.revoked().eq(&contents.revoked));
        for reason in reasons {
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{reason}\""));
        }
    }

    #[test]
    fn a_certificate_that_was_revoked_twice_is_listed_once_since_the_first_time() {
        let entry = |revoked_at: &str, reason| RevokedCertificate {
            serial: sample::serial(1),
            revoked_at: revoked_at.parse().unwrap(),
            reason,
        };
        let later = entry("2026-02-02T00:00:00Z", RevocationReason::Superseded);
        let earlier = entry("2026-02-01T00:00:00Z", RevocationReason::KeyCompromise);
        let contents = CrlContents { revoked: vec![later, earlier, later], ..sample::empty_list(1) };
        let list = sample::root().sign_crl(&contents, sample::now()).unwrap();
        assert!(list.revoked().eq([&earlier]));
    }

    #[test]
    fn the_list_of_another_root_is_refused() {
        let root = sample::root();
        let list = root.sign_crl(&sample::empty_list(1), sample::now()).unwrap();
        list.verify(root.certificate()).unwrap();

        let same_name = sample::root();
        assert!(matches!(list.verify(same_name.certificate()), Err(CrlError::WrongIssuer { .. })));
        let other = RootProfile { generation: 2, ..sample::root_profile() };
        let other = SigningRoot::generate(&other, sample::serial(3), sample::now()).unwrap();
        let error = list.verify(other.certificate()).unwrap_err().to_string();
        assert!(error.contains("from \"C=TW, CN=Site CA g1\", not from \"C=TW, CN=Site CA g2\""), "{error}");
    }

    #[test]
    fn a_list_that_was_changed_after_signing_is_refused() {
        let root = sample::root();
        let list = root.sign_crl(&sample::empty_list(1), sample::now()).unwrap();
        let mut der = list.der().to_vec();
        let next_update = der.windows(13).rposition(|window| window == b"260308120000Z").unwrap();
        der[next_update] = b'3';
        let forged = Crl::from_der(der).unwrap();
        forged.check_dates(sample::now() + 30 * DAY).unwrap();
        assert!(matches!(forged.verify(root.certificate()), Err(CrlError::Signature(_))));
    }

    #[test]
    fn ten_thousand_entries_take_less_than_the_65_bytes_each_that_the_limits_count_with() {
        let revoked_at = "2026-01-01T00:00:00Z".parse().unwrap();
        let entries = (0..10_000_u32).map(|number| {
            let mut octets = [0; SerialNumber::OCTETS];
            octets[16..].copy_from_slice(&number.to_be_bytes());
            let serial = SerialNumber::from_random(octets);
            RevokedCertificate { serial, revoked_at, reason: RevocationReason::Superseded }
        });
        let contents = CrlContents { revoked: entries.collect(), ..sample::empty_list(1) };
        let list = sample::root().sign_crl(&contents, sample::now()).unwrap();
        assert_eq!(list.revoked().len(), 10_000);
        let each = list.to_pem().len() / 10_000;
        assert!(each <= 75, "{each} bytes of PEM for an entry");
    }
}
