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
