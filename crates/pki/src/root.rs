//! The signing root: a CA certificate together with its key.

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyUsagePurpose,
};

use crate::armor::PemError;
use crate::certificate::{Certificate, CertificateError, SignatureError};
use crate::crl::{Crl, CrlContents, CrlError};
use crate::key::{KeyAlgorithm, KeyError, PrivateKey, PublicKey};
use crate::profile::{LeafProfile, ProfileError, RootProfile, Usage};
use crate::serial::SerialNumber;
use crate::signing::{Unsigned, sign_as};
use crate::validity::{self, DateError, Validity};

/// A root that can sign: generated here, or imported.
#[derive(Debug)]
pub struct SigningRoot {
    certificate: Certificate,
    key: PrivateKey,
}

/// What is wrong with a CA that is to be used as a root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// No certificate, or not one that can be read.
    #[error("tls.crt: {0}")]
    CertificateUnreadable(CertificateError),
    /// A chain, or a bundle.
    #[error("tls.crt holds {0} certificates: write the root certificate alone")]
    SeveralCertificates(usize),
    /// The kind of key of the certificate.
    #[error("tls.crt: {0}")]
    UnsupportedAlgorithm(KeyError),
    /// No key, or not one that can be read.
    #[error("tls.key: {0}")]
    KeyUnreadable(KeyError),
    /// A passphrase would be needed.
    #[error("tls.key: {}", KeyError::Encrypted)]
    KeyEncrypted,
    /// A leaf certificate.
    #[error("tls.crt is not a CA certificate (basicConstraints CA:TRUE is missing)")]
    NotACa,
    /// It may not sign certificates, or does not say so (`openssl verify -x509_strict`, Python 3.13).
    #[error("tls.crt may not sign certificates: make it with keyUsage keyCertSign and cRLSign")]
    NoKeyCertSign,
    /// It may not sign CRLs, or does not say so.
    #[error("tls.crt may not sign revocation lists: make it with keyUsage keyCertSign and cRLSign")]
    NoCrlSign,
    /// An intermediate: OpenSSL clients, the broker too, end every chain in a self-signed certificate.
    #[error(
        "tls.crt is not self-signed ({0}): write the root of that chain, intermediates are not supported"
    )]
    NotSelfSigned(SignatureError),
    /// It narrows whom it may issue to, and clients would refuse what it issues.
    #[error("tls.crt has {0}, which restricts what it may issue: make it without")]
    Restricted(&'static str),
    /// Two halves of different pairs.
    #[error("tls.key does not belong to tls.crt: the public keys differ")]
    KeyMismatch,
    /// The profile of a root that is to be generated.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The cryptographic library refused.
    #[error("the root certificate could not be made: {0}")]
    Generate(String),
}

/// Why a certificate was not issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// What is asked for cannot be written into a certificate.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Planned for another root, or by hand.
    #[error("the certificate would outlive its root, which ends at {root_not_after}")]
    OutlivesRoot {
        /// When the root expires.
        root_not_after: Timestamp,
    },
    /// The key is not of the kind that was asked for.
    #[error("the profile asks for a key of the kind {asked}, the key is {given}")]
    WrongKeyAlgorithm {
        /// By the profile.
        asked: KeyAlgorithm,
        /// By the key.
        given: KeyAlgorithm,
    },
    /// The cryptographic library refused.
    #[error("the certificate could not be signed: {0}")]
    Signing(String),
}

impl SigningRoot {
    /// Makes a new root: a key, and a certificate that it signs itself.
    pub fn generate(profile: &RootProfile, serial: SerialNumber, now: Timestamp) -> Result<Self, RootError> {
        profile.check()?;
        let refused = |problem: &dyn std::fmt::Display| RootError::Generate(problem.to_string());
        let key = PrivateKey::generate(profile.key_algorithm).map_err(|error| refused(&error))?;

        let mut params = parameters(serial, Validity::starting(now, profile.duration));
        params.distinguished_name = profile.distinguished_name()?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];

        let signed = params.self_signed(&key).map_err(|error| refused(&error))?;
        let certificate = Certificate::from_der(signed.der().as_ref()).map_err(|error| refused(&error))?;
        Ok(Self { certificate, key })
    }

    /// Loads a root that was stored or is imported, and checks everything but the dates ([`Self::check_dates`]).
    /// It may have any name, and no subject key identifier.
    pub fn load(certificate_pem: &str, key_pem: &str) -> Result<Self, RootError> {
        let certificate = Certificate::from_pem(certificate_pem).map_err(|error| match error {
            CertificateError::Pem(PemError::Several(count)) => RootError::SeveralCertificates(count),
            CertificateError::Key(error) => RootError::UnsupportedAlgorithm(error),
            other => RootError::CertificateUnreadable(other),
        })?;
        let key = PrivateKey::from_pem(key_pem).map_err(|error| match error {
            KeyError::Encrypted => RootError::KeyEncrypted,
            other => RootError::KeyUnreadable(other),
        })?;

        if !certificate.is_ca() {
            return Err(RootError::NotACa);
        }
        if !certificate.signs_certificates() {
            return Err(RootError::NoKeyCertSign);
        }
        if !certificate.signs_crls() {
            return Err(RootError::NoCrlSign);
        }
        if let Some(restriction) = certificate.restriction() {
            return Err(RootError::Restricted(restriction));
        }
        certificate.check_signed_by(&certificate).map_err(RootError::NotSelfSigned)?;
        if !key.public_key().fits(&certificate) {
            return Err(RootError::KeyMismatch);
        }
        Ok(Self { certificate, key })
    }

    /// The root's certificate: what others trust.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The root's key, to be stored.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Whether the root can sign at `now`.
    pub fn check_dates(&self, now: Timestamp) -> Result<(), DateError> {
        self.certificate.check_dates(now)
    }

    /// Issues a leaf certificate for `public_key`. The validity comes from [`Validity::plan`], which makes sure that the
    /// certificate ends no later than the root and is not due for renewal at once.
    pub fn issue(
        &self,
        profile: &LeafProfile,
        public_key: &PublicKey,
        serial: SerialNumber,
        validity: Validity,
    ) -> Result<Certificate, IssueError> {
        profile.check()?;
        let (asked, given) = (profile.key_algorithm, public_key.algorithm());
        if asked != given {
            return Err(IssueError::WrongKeyAlgorithm { asked, given });
        }
        let root_not_after = self.certificate.not_after();
        if validity.not_after > root_not_after {
            return Err(IssueError::OutlivesRoot { root_not_after });
        }

        let refused = |problem: &dyn std::fmt::Display| IssueError::Signing(problem.to_string());
        let mut params = parameters(serial, validity);
        params.distinguished_name = profile.distinguished_name()?;
        params.subject_alt_names = profile.alternative_names().map_err(|error| refused(&error))?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match profile.usage {
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        };
        if profile.usage == Usage::Server && given.is_rsa() {
            // TLS 1.2 without forward secrecy deciphers with the server's key.
            params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
        }
        if let Some(url) = &profile.crl_distribution_url {
            params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![url.clone()] }];
        }

        let mut issuer = CertificateParams::default();
        issuer.key_identifier_method = self.key_identifier();
        let issuer = Issuer::from_params(&issuer, Unsigned(&self.key));
        let unsigned = params.signed_by(public_key, &issuer).map_err(|error| refused(&error))?;
        let der = sign_as(self.certificate.subject_der(), &self.key, unsigned.der())
            .map_err(|error| refused(&error))?;
        Certificate::from_der(der).map_err(|error| refused(&error))
    }

    /// Signs a revocation list. thisUpdate lies 5 minutes back, so that no clock finds the list premature, though not before the
    /// root's own beginning; nextUpdate is `now` plus the time that the contents ask for.
    pub fn sign_crl(&self, contents: &CrlContents, now: Timestamp) -> Result<Crl, CrlError> {
        self.check_dates(now).map_err(CrlError::Root)?;
        let this_update = validity::whole_seconds(validity::earlier(now, validity::BACKDATE))
            .max(self.certificate.not_before());
        let params = contents.to_rcgen(this_update, now, self.key_identifier());
        let issuer = CertificateParams::default();
        let issuer = Issuer::from_params(&issuer, Unsigned(&self.key));
        let refused = |problem: &dyn std::fmt::Display| CrlError::Signing(problem.to_string());
        let unsigned = params.signed_by(&issuer).map_err(|error| refused(&error))?;
        let der = sign_as(self.certificate.subject_der(), &self.key, unsigned.der())
            .map_err(|error| refused(&error))?;
        Crl::from_der(der)
    }

    /// What the authority key identifier of everything this root signs says: the root's subject key identifier, or a digest of
    /// its key when it has none.
    fn key_identifier(&self) -> KeyIdMethod {
        match self.certificate.subject_key_id() {
            Some(id) => KeyIdMethod::PreSpecified(id.to_vec()),
            None => KeyIdMethod::PreSpecified(CertificateParams::default().key_identifier(&self.key)),
        }
    }
}

/// What every certificate has, and rcgen would choose otherwise: serial number, dates, authority key identifier.
fn parameters(serial: SerialNumber, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial.as_octets().to_vec().into());
    params.not_before = validity::to_rcgen(validity.not_before);
    params.not_after = validity::to_rcgen(validity.not_after);
    params.use_authority_key_identifier_extension = true;
    params
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{self, DAY};
    use crate::{RevocationReason, RevokedCertificate};

    fn pem_of(params: &CertificateParams, key: &rcgen::KeyPair) -> String {
        params.self_signed(key).unwrap().pem()
    }

    /// A CA as somebody else might make it.
    fn foreign_ca() -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    #[test]
    fn a_root_is_named_after_its_generation_and_may_sign_certificates_and_lists() {
        let root = sample::root();
        let certificate = root.certificate();
        assert_eq!(certificate.subject(), "C=TW, CN=Site CA g1");
        assert_eq!(certificate.issuer(), certificate.subject());
        assert!(certificate.is_ca() && certificate.signs_certificates() && certificate.signs_crls());
        assert_eq!(certificate.usage(), None);
        assert_eq!(certificate.serial(), sample::serial(1));
        assert_eq!(certificate.not_before().to_string(), "2026-03-01T11:55:00Z");
        assert_eq!(certificate.not_after().to_string(), "2036-02-27T12:00:00Z");
        assert!(certificate.subject_key_id().is_some());
        assert_eq!(certificate.authority_key_id(), certificate.subject_key_id());
    }

    #[test]
    fn a_root_that_was_stored_is_loaded_unchanged() {
        let root = sample::root();
        let loaded = SigningRoot::load(&root.certificate().to_pem(), &root.key().to_pem()).unwrap();
        assert_eq!(loaded.certificate(), root.certificate());
        assert_eq!(loaded.key().to_pem(), root.key().to_pem());
    }

    #[test]
    fn a_leaf_says_what_was_asked_for_and_no_more() {
        let root = sample::root();
        let key = sample::key();
        let mut profile = sample::leaf_profile(Usage::Client);
        profile.crl_distribution_url = Some("http://operator.iot.svc/root-ca.crl".into());
        let leaf = sample::issue(&root, &profile, &key);

        assert_eq!(leaf.subject(), "CN=device001");
        assert_eq!(leaf.common_name(), Some("device001"));
        assert_eq!(leaf.issuer(), root.certificate().subject());
        assert_eq!(leaf.serial(), sample::serial(2));
        assert_eq!(leaf.not_before().to_string(), "2026-03-01T11:55:00Z");
        assert_eq!(leaf.not_after().to_string(), "2026-05-30T12:00:00Z");
        assert_eq!(leaf.dns_names(), ["localhost"]);
        assert_eq!(leaf.ip_addresses(), [std::net::IpAddr::from([127, 0, 0, 1])]);
        assert_eq!(leaf.uris(), ["urn:example:device001"]);
        assert_eq!(leaf.usage(), Some(Usage::Client));
        assert_eq!(leaf.crl_distribution_urls(), ["http://operator.iot.svc/root-ca.crl"]);
        assert!(!leaf.is_ca() && !leaf.signs_certificates() && !leaf.signs_crls());
        assert_eq!(leaf.authority_key_id(), root.certificate().subject_key_id());
        assert!(leaf.subject_key_id().is_some());
        assert!(key.public_key().fits(&leaf) && !root.key().public_key().fits(&leaf));
        leaf.check_signed_by(root.certificate()).unwrap();
        leaf.check_signed_by(sample::root().certificate()).unwrap_err();
    }

    #[test]
    fn a_certificate_is_refused_when_its_key_is_of_another_kind_or_it_would_outlive_its_root() {
        let root = sample::root();
        let short = RootProfile { duration: DAY, ..sample::root_profile() };
        let short = SigningRoot::generate(&short, sample::serial(3), sample::now()).unwrap();
        let profile = sample::leaf_profile(Usage::Client);
        let key = sample::key();
        let validity =
            Validity::plan(profile.duration, None, "uid", root.certificate(), sample::now()).unwrap();

        let error = short.issue(&profile, key.public_key(), sample::serial(4), validity).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the certificate would outlive its root, which ends at 2026-03-02T12:00:00Z"
        );
        let other = PrivateKey::generate(KeyAlgorithm::Ed25519).unwrap();
        let error = root.issue(&profile, other.public_key(), sample::serial(4), validity).unwrap_err();
        assert_eq!(error.to_string(), "the profile asks for a key of the kind EcdsaP256, the key is Ed25519");
    }

    #[test]
    fn a_ca_that_cannot_be_imported_is_refused_with_the_reason() {
        let key = rcgen::KeyPair::generate().unwrap();
        let key_pem = key.serialize_pem();
        let load = |params: &CertificateParams| {
            SigningRoot::load(&pem_of(params, &key), &key_pem).unwrap_err().to_string()
        };
        let good = pem_of(&foreign_ca(), &key);
        SigningRoot::load(&good, &key_pem).unwrap();

        let mut params = foreign_ca();
        params.is_ca = IsCa::ExplicitNoCa;
        assert!(load(&params).contains("is not a CA certificate"));
        let mut params = foreign_ca();
        params.key_usages = Vec::new();
        assert!(load(&params).contains("may not sign certificates"));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        assert!(load(&params).contains("may not sign revocation lists"));
        let mut params = foreign_ca();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
        assert!(load(&params).contains("restricts what it may issue"));

        let refused = |certificate: &str, key: &str| SigningRoot::load(certificate, key).unwrap_err();
        assert_eq!(refused(&good.repeat(2), &key_pem), RootError::SeveralCertificates(2));
        assert_eq!(refused(&good, &sample::key().to_pem()), RootError::KeyMismatch);
        assert_eq!(
            refused(
                &good,
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
            ),
            RootError::KeyEncrypted
        );
        assert!(
            refused("garbage", &key_pem)
                .to_string()
                .starts_with("tls.crt: the certificate holds no PEM block")
        );
        assert!(
            refused(&good, "garbage").to_string().starts_with("tls.key: the private key holds no PEM block")
        );

        let p521 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        let error = refused(&pem_of(&foreign_ca(), &p521), &p521.serialize_pem());
        assert!(error.to_string().contains("1.3.132.0.35 is not supported: use EcdsaP256"), "{error}");

        let issuer = rcgen::KeyPair::generate().unwrap();
        let issuer = Issuer::new(foreign_ca(), issuer);
        let intermediate = foreign_ca().signed_by(&key, &issuer).unwrap().pem();
        assert!(refused(&intermediate, &key_pem).to_string().contains("write the root of that chain"));
    }

    #[test]
    fn an_expired_root_neither_issues_nor_signs_lists() {
        let root = sample::root();
        let late = root.certificate().not_after() + DAY;
        let error = Validity::plan(DAY, None, "uid", root.certificate(), late).unwrap_err();
        assert_eq!(error.to_string(), "the root certificate expired at 2036-02-27T12:00:00Z");
        let error = root.sign_crl(&sample::empty_list(1), late).unwrap_err();
        assert_eq!(error.to_string(), "the root expired at 2036-02-27T12:00:00Z");
    }

    #[test]
    fn an_imported_root_that_was_made_a_moment_ago_does_not_sign_a_list_older_than_itself() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = foreign_ca();
        params.not_before = validity::to_rcgen(sample::now());
        let root = SigningRoot::load(&pem_of(&params, &key), &key.serialize_pem()).unwrap();
        let list = root.sign_crl(&sample::empty_list(1), sample::now()).unwrap();
        assert_eq!(list.this_update(), root.certificate().not_before());
        list.check_dates(sample::now()).unwrap();
    }

    #[test]
    fn a_list_says_who_was_revoked_when_and_why() {
        let root = sample::root();
        let entry = |number, reason| RevokedCertificate {
            serial: sample::serial(number),
            revoked_at: "2026-02-28T01:02:03Z".parse().unwrap(),
            reason,
        };
        let contents = CrlContents {
            number: 7,
            valid_for: 7 * DAY,
            revoked: vec![entry(9, RevocationReason::KeyCompromise), entry(8, RevocationReason::Unspecified)],
        };
        let list = root.sign_crl(&contents, sample::now()).unwrap();
        assert_eq!(list.number(), 7);
        assert_eq!(list.this_update().to_string(), "2026-03-01T11:55:00Z");
        assert_eq!(list.next_update().to_string(), "2026-03-08T12:00:00Z");
        assert_eq!(list.authority_key_id(), root.certificate().subject_key_id());
        assert_eq!(list.revoked().count(), 2);
        assert_eq!(list.entry(sample::serial(9)), Some(&contents.revoked[0]));
        assert_eq!(list.entry(sample::serial(8)), Some(&contents.revoked[1]));
        assert_eq!(list.entry(sample::serial(7)), None);
    }
}
