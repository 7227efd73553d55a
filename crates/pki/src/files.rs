//! The files that a pod mounts, checked as one set: what one of them says must hold for the others.

use jiff::Timestamp;

use crate::certificate::{Certificate, CertificateError};
use crate::crl::{Crl, CrlError};
use crate::key::{KeyError, PrivateKey};
use crate::profile::Usage;
use crate::trust::{ChainError, CrlSetError, TrustBundle};

/// A client's set: `tls.crt`, `tls.key`, `ca.crt`.
#[derive(Debug)]
pub struct ClientFiles {
    /// The client's certificate.
    pub certificate: Certificate,
    /// Its key.
    pub key: PrivateKey,
    /// The roots by which servers are trusted.
    pub trust: TrustBundle,
}

/// A broker's set: `tls.crt`, `tls.key`, `ca.crt`, `ca.crl`.
#[derive(Debug)]
pub struct ServerFiles {
    /// The server's certificate.
    pub certificate: Certificate,
    /// Its key.
    pub key: PrivateKey,
    /// The roots by which clients are trusted.
    pub trust: TrustBundle,
    /// One list per root.
    pub crls: Vec<Crl>,
}

/// Which file is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// `tls.crt` cannot be read.
    #[error("tls.crt: {0}")]
    Certificate(CertificateError),
    /// `tls.key` cannot be read.
    #[error("tls.key: {0}")]
    Key(KeyError),
    /// `tls.key` and `tls.crt` are no pair.
    #[error("tls.key does not belong to tls.crt: the public keys differ")]
    KeyMismatch,
    /// `ca.crt` cannot be read.
    #[error("ca.crt: {0}")]
    Trust(CertificateError),
    /// `tls.crt` does not verify against `ca.crt`.
    #[error("tls.crt against ca.crt: {0}")]
    Chain(#[from] ChainError),
    /// `ca.crl` cannot be read.
    #[error("ca.crl: {0}")]
    Crls(CrlError),
    /// `ca.crl` does not serve `ca.crt`.
    #[error("ca.crl against ca.crt: {0}")]
    CrlSet(#[from] CrlSetError),
    /// The server would present a certificate that its own lists revoke.
    #[error("tls.crt is revoked by ca.crl")]
    Revoked,
}

impl ClientFiles {
    /// Reads and checks the contents of the three files.
    pub fn check(tls_crt: &str, tls_key: &str, ca_crt: &str, now: Timestamp) -> Result<Self, FilesError> {
        let (certificate, key, trust) = check_pair(tls_crt, tls_key, ca_crt, Usage::Client, now)?;
        Ok(Self { certificate, key, trust })
    }
}

impl ServerFiles {
    /// Reads and checks the contents of the four files: the pair matches, the certificate is a server's, in date and signed by one of
    /// the roots, there is exactly one revocation list per root, in date and signed by it, and none revokes the certificate.
    pub fn check(
        tls_crt: &str,
        tls_key: &str,
        ca_crt: &str,
        ca_crl: &str,
        now: Timestamp,
    ) -> Result<Self, FilesError> {
        let (certificate, key, trust) = check_pair(tls_crt, tls_key, ca_crt, Usage::Server, now)?;
        let crls = Crl::all_from_pem(ca_crl).map_err(FilesError::Crls)?;
        trust.check_crls(&crls, now)?;
        let root = trust.verify(&certificate, Usage::Server, now)?;
        if crls.iter().any(|crl| crl.names_as_issuer(root) && crl.entry(certificate.serial()).is_some()) {
            return Err(FilesError::Revoked);
        }
        Ok(Self { certificate, key, trust, crls })
    }
}

fn check_pair(
    tls_crt: &str,
    tls_key: &str,
    ca_crt: &str,
    usage: Usage,
    now: Timestamp,
) -> Result<(Certificate, PrivateKey, TrustBundle), FilesError> {
    let certificate = Certificate::from_pem(tls_crt).map_err(FilesError::Certificate)?;
    let key = PrivateKey::from_pem(tls_key).map_err(FilesError::Key)?;
    if !key.public_key().fits(&certificate) {
        return Err(FilesError::KeyMismatch);
    }
    let trust = TrustBundle::from_pem(ca_crt).map_err(FilesError::Trust)?;
    trust.verify(&certificate, usage, now)?;
    Ok((certificate, key, trust))
}
