//! Who this process is to the broker, and which brokers it believes: `tls.crt`, `tls.key` and
//! `ca.crt`, read and checked as one set.

use std::{fmt, io, path::Path, sync::Arc};

use jiff::Timestamp;
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::wire::CertificateAcknowledgement;

/// The certificate, as the keys of a Secret name it.
pub(crate) const CERTIFICATE: &str = "tls.crt";
/// Its private key.
pub(crate) const KEY: &str = "tls.key";
/// The trusted roots, concatenated.
pub(crate) const ROOTS: &str = "ca.crt";

/// A client certificate with its key, and the roots that a broker is checked against. Holding one
/// means that the three belong together and were in date when they were read.
pub struct Identity {
    name: String,
    serial_number: String,
    not_after: Timestamp,
    root_fingerprints: Vec<String>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    roots: Vec<CertificateDer<'static>>,
    tls: Arc<ClientConfig>,
}

/// Why a set of files is not an [`Identity`]. Names the file to look at.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("{file} cannot be read: {source}")]
    Unreadable {
        /// Which.
        file: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The files changed while they were read; the next look will find them at rest.
    #[error("the files were being replaced while they were read")]
    Moving,
    /// A file is not PEM of what it should hold.
    #[error("{file} is not usable: {problem}")]
    Malformed {
        /// Which.
        file: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Outside its validity.
    #[error("the certificate is valid from {not_before} to {not_after}, and it is {now}")]
    OutOfDate {
        /// First second of validity.
        not_before: Timestamp,
        /// Last second of validity.
        not_after: Timestamp,
        /// When this was checked.
        now: Timestamp,
    },
    /// Certificate and key are not a pair, or the algorithm is not supported.
    #[error("tls.crt and tls.key cannot be used together: {0}")]
    NotAPair(rustls::Error),
}

impl Identity {
    /// Reads the set from a directory, such as a mounted Secret.
    ///
    /// # Errors
    /// [`IdentityError`] when a file is missing or the three do not belong together.
    pub fn load(directory: &Path, now: Timestamp) -> Result<Self, IdentityError> {
        let read = |file| {
            std::fs::read(directory.join(file)).map_err(|source| IdentityError::Unreadable { file, source })
        };
        Self::from_pem(&read(CERTIFICATE)?, &read(KEY)?, &read(ROOTS)?, now)
    }

    /// Checks the set: PEM, in date at `now`, certificate and key a pair, at least one root.
    ///
    /// # Errors
    /// [`IdentityError`] says which file is wrong and how.
    pub fn from_pem(
        certificate: &[u8],
        key: &[u8],
        roots: &[u8],
        now: Timestamp,
    ) -> Result<Self, IdentityError> {
        let certificate =
            CertificateDer::from_pem_slice(certificate).map_err(|e| malformed(CERTIFICATE, e))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| malformed(KEY, e))?;
        let roots = CertificateDer::pem_slice_iter(roots)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| malformed(ROOTS, e))?;
        Self::assemble(certificate, key, roots, now)
    }

    fn assemble(
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
        roots: Vec<CertificateDer<'static>>,
        now: Timestamp,
    ) -> Result<Self, IdentityError> {
        let (_, x509) = X509Certificate::from_der(&certificate).map_err(|e| malformed(CERTIFICATE, e))?;
        let name = x509
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .ok_or_else(|| malformed(CERTIFICATE, "it has no common name"))?
            .to_owned();
        let serial_number = hex::encode(x509.tbs_certificate.serial.to_bytes_be());
        let second = |t: i64| Timestamp::from_second(t).map_err(|e| malformed(CERTIFICATE, e));
        let not_before = second(x509.validity().not_before.timestamp())?;
        let not_after = second(x509.validity().not_after.timestamp())?;
        if now < not_before || now > not_after {
            return Err(IdentityError::OutOfDate { not_before, not_after, now });
        }

        let mut store = RootCertStore::empty();
        for root in &roots {
            store.add(root.clone()).map_err(|e| malformed(ROOTS, e))?;
        }
        if store.is_empty() {
            return Err(malformed(ROOTS, "there is no certificate in it"));
        }
        let mut root_fingerprints: Vec<_> =
            roots.iter().map(|root| hex::encode(Sha256::digest(root))).collect();
        root_fingerprints.sort();
        root_fingerprints.dedup();

        let mut tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(IdentityError::NotAPair)?
            .with_root_certificates(store)
            .with_client_auth_cert(vec![certificate.clone()], key.clone_key())
            .map_err(IdentityError::NotAPair)?;
        // A resumed session would speak for the certificate, and trust the roots, of an earlier handshake.
        tls.resumption = Resumption::disabled();

        Ok(Self {
            name,
            serial_number,
            not_after,
            root_fingerprints,
            certificate,
            key,
            roots,
            tls: Arc::new(tls),
        })
    }

    /// The common name of the certificate: user name and client id at the broker.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lower-case hex, whole octets.
    pub fn serial_number(&self) -> &str {
        &self.serial_number
    }

    /// Last second of validity.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// SHA-256 of each trusted root, lower-case hex, sorted.
    pub fn root_fingerprints(&self) -> &[String] {
        &self.root_fingerprints
    }

    /// What a device says about itself on its `cert` topic.
    pub fn acknowledgement(&self) -> CertificateAcknowledgement {
        CertificateAcknowledgement {
            serial_number: self.serial_number.clone(),
            not_after: self.not_after,
            roots: self.root_fingerprints.clone(),
        }
    }

    /// Whether both speak with the same certificate and key.
    pub(crate) fn same_certificate(&self, other: &Self) -> bool {
        self.certificate == other.certificate && self.key == other.key
    }

    /// Whether both are the same set.
    pub(crate) fn same_set(&self, other: &Self) -> bool {
        self.same_certificate(other) && self.roots == other.roots
    }

    /// This certificate with the roots of `newer`: who falls back to an earlier certificate does not
    /// believe again in a root that was taken away since.
    pub(crate) fn trusting_as(&self, newer: &Self, now: Timestamp) -> Result<Self, IdentityError> {
        Self::assemble(self.certificate.clone(), self.key.clone_key(), newer.roots.clone(), now)
    }

    pub(crate) fn tls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.tls)
    }
}

impl fmt::Debug for Identity {
    /// Everything but the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("name", &self.name)
            .field("serial_number", &self.serial_number)
            .field("not_after", &self.not_after)
            .field("root_fingerprints", &self.root_fingerprints)
            .finish_non_exhaustive()
    }
}

fn malformed(file: &'static str, problem: impl fmt::Display) -> IdentityError {
    IdentityError::Malformed { file, problem: problem.to_string() }
}
