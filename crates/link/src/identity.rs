//! Who this process is to the broker, and which brokers it believes: `tls.crt`, `tls.key` and
//! `ca.crt`, read and checked as one set.

use std::{fmt, io, path::Path, sync::Arc};

use jiff::Timestamp;
use pki::{Certificate, CertificateError, DateError, KeyError, PrivateKey, TrustBundle, Usage};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

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
    certificate: Certificate,
    key: PrivateKeyDer<'static>,
    trust: TrustBundle,
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
    /// Not a certificate.
    #[error("tls.crt: {0}")]
    Certificate(CertificateError),
    /// There is nothing the broker could call this client.
    #[error("tls.crt: the subject has no common name")]
    Nameless,
    /// A broker's certificate, for instance.
    #[error("tls.crt: the certificate is not one for clients")]
    NotAClient,
    /// Outside its validity.
    #[error("tls.crt: the certificate {0}")]
    Dates(DateError),
    /// Not a private key.
    #[error("tls.key: {0}")]
    Key(KeyError),
    /// Certificate and key belong to different pairs.
    #[error("tls.key does not belong to tls.crt")]
    KeyMismatch,
    /// Not a bundle of certificates.
    #[error("ca.crt: {0}")]
    Trust(CertificateError),
    /// The TLS library cannot work with the set.
    #[error("TLS cannot use tls.crt, tls.key and ca.crt: {0}")]
    Tls(#[from] rustls::Error),
}

impl Identity {
    /// Reads the set from a directory, such as a mounted Secret.
    ///
    /// # Errors
    /// [`IdentityError`] when a file is missing or the three do not belong together.
    pub fn load(directory: &Path, now: Timestamp) -> Result<Self, IdentityError> {
        let read = |file| {
            std::fs::read_to_string(directory.join(file))
                .map_err(|source| IdentityError::Unreadable { file, source })
        };
        Self::from_pem(&read(CERTIFICATE)?, &read(KEY)?, &read(ROOTS)?, now)
    }

    /// Checks the set: a client's certificate in date at `now`, its key, at least one root. Whether
    /// the certificate descends from one of the roots is for the broker to say: when a root is
    /// distrusted in haste, a device has to drop it even before its new certificate arrives.
    ///
    /// # Errors
    /// [`IdentityError`] says which file is wrong and how.
    pub fn from_pem(
        tls_crt: &str,
        tls_key: &str,
        ca_crt: &str,
        now: Timestamp,
    ) -> Result<Self, IdentityError> {
        let certificate = Certificate::from_pem(tls_crt).map_err(IdentityError::Certificate)?;
        let key = PrivateKey::from_pem(tls_key).map_err(IdentityError::Key)?;
        if !key.public_key().fits(&certificate) {
            return Err(IdentityError::KeyMismatch);
        }
        let trust = TrustBundle::from_pem(ca_crt).map_err(IdentityError::Trust)?;
        let key = PrivateKeyDer::from_pem_slice(key.to_pem().as_bytes())
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        Self::assemble(certificate, key, trust, now)
    }

    fn assemble(
        certificate: Certificate,
        key: PrivateKeyDer<'static>,
        trust: TrustBundle,
        now: Timestamp,
    ) -> Result<Self, IdentityError> {
        if certificate.usage() != Some(Usage::Client) {
            return Err(IdentityError::NotAClient);
        }
        certificate.check_dates(now).map_err(IdentityError::Dates)?;
        let name = certificate.common_name().ok_or(IdentityError::Nameless)?.to_owned();

        let mut tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store(&trust)?)
            .with_client_auth_cert(vec![der(&certificate)], key.clone_key())?;
        // A resumed session would speak for the certificate, and trust the roots, of an earlier handshake.
        tls.resumption = Resumption::disabled();

        let serial_number = certificate.serial().to_string();
        Ok(Self { name, serial_number, certificate, key, trust, tls: Arc::new(tls) })
    }

    /// The common name of the certificate: user name and client id at the broker.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The certificate itself.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Lower-case hex, whole octets.
    pub fn serial_number(&self) -> &str {
        &self.serial_number
    }

    /// Last second of validity.
    pub fn not_after(&self) -> Timestamp {
        self.certificate.not_after()
    }

    /// SHA-256 of each trusted root, lower-case hex, sorted.
    pub fn root_fingerprints(&self) -> Vec<String> {
        self.trust.fingerprints().map(str::to_owned).collect()
    }

    /// What a device says about itself on its `cert` topic.
    pub fn acknowledgement(&self) -> CertificateAcknowledgement {
        CertificateAcknowledgement {
            serial_number: self.serial_number.clone(),
            not_after: self.not_after(),
            roots: self.root_fingerprints(),
        }
    }

    /// Whether both speak with the same certificate and key.
    pub(crate) fn same_certificate(&self, other: &Self) -> bool {
        self.certificate == other.certificate && self.key == other.key
    }

    /// Whether both are the same set.
    pub(crate) fn same_set(&self, other: &Self) -> bool {
        self.same_certificate(other) && self.trust == other.trust
    }

    /// This certificate with the roots of `newer`: who falls back to an earlier certificate does not
    /// believe again in a root that was taken away since.
    pub(crate) fn trusting_as(&self, newer: &Self, now: Timestamp) -> Result<Self, IdentityError> {
        Self::assemble(self.certificate.clone(), self.key.clone_key(), newer.trust.clone(), now)
    }

    pub(crate) fn tls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.tls)
    }

    /// What it shows of itself in a handshake, and the key for it.
    pub(crate) fn presented(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (vec![der(&self.certificate)], self.key.clone_key())
    }

    /// The roots that it trusts.
    pub(crate) fn roots(&self) -> Result<RootCertStore, rustls::Error> {
        store(&self.trust)
    }
}

fn der(certificate: &Certificate) -> CertificateDer<'static> {
    CertificateDer::from(certificate.der().to_vec())
}

fn store(trust: &TrustBundle) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    trust.roots().try_for_each(|root| roots.add(der(root)))?;
    Ok(roots)
}

impl fmt::Debug for Identity {
    /// Everything but the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("name", &self.name)
            .field("serial_number", &self.serial_number)
            .field("not_after", &self.not_after())
            .field("root_fingerprints", &self.root_fingerprints())
            .finish_non_exhaustive()
    }
}
