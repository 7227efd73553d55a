//! Certificate files as clients take them: from Secrets, or signed here to be wrong on purpose.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use pki::{
    Certificate, KeyAlgorithm, LeafProfile, PrivateKey, RootProfile, SerialNumber, SigningRoot, Subject,
    Usage, Validity,
};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, WantsVerifier,
    client::{
        Resumption, WantsClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};

/// `tls.crt`, `tls.key` and `ca.crt` in a folder.
#[derive(Clone, Debug)]
pub struct Identity {
    folder: PathBuf,
}

/// A part of a Secret as text.
pub fn part(secret: &Secret, key: &str) -> Result<String> {
    let bytes = secret.data.as_ref().and_then(|data| data.get(key));
    let bytes = bytes.with_context(|| format!("Secret {} has no {key}", secret.name_any()))?;
    Ok(String::from_utf8(bytes.0.clone())?)
}

/// A root of somebody else.
pub fn another_root() -> Result<SigningRoot> {
    let profile = RootProfile {
        subject: Subject::new("Somebody else")?,
        generation: 1,
        key_algorithm: KeyAlgorithm::EcdsaP256,
        duration: Duration::from_hours(1),
    };
    Ok(SigningRoot::generate(&profile, serial()?, Timestamp::now())?)
}

/// A client's certificate that `root` signs at `now` for a minute, with its key.
pub fn sign(root: &SigningRoot, common_name: &str, now: Timestamp) -> Result<(Certificate, PrivateKey)> {
    const LIFE: Duration = Duration::from_mins(1);
    let profile = LeafProfile {
        subject: Subject::new(common_name)?,
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        uris: Vec::new(),
        usage: Usage::Client,
        key_algorithm: KeyAlgorithm::EcdsaP256,
        duration: LIFE,
        crl_distribution_url: None,
    };
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
    let validity = Validity::plan(LIFE, None, "", root.certificate(), now)?;
    Ok((root.issue(&profile, key.public_key(), serial()?, validity)?, key))
}

fn serial() -> Result<SerialNumber> {
    SerialNumber::generate().map_err(|_| anyhow!("no random numbers"))
}

impl Identity {
    /// Writes what a Secret holds into `folder`.
    pub fn of_secret(secret: &Secret, folder: &Path) -> Result<Self> {
        for (name, bytes) in secret.data.iter().flatten() {
            fs::write(folder.join(name), &bytes.0)?;
        }
        Ok(Self { folder: folder.to_path_buf() })
    }

    /// Writes a certificate that was signed here into `folder`; it trusts the same as `like`.
    pub fn signed(pair: &(Certificate, PrivateKey), like: &Self, folder: &Path) -> Result<Self> {
        let (certificate, key) = pair;
        fs::write(folder.join("tls.crt"), certificate.to_pem())?;
        fs::write(folder.join("tls.key"), key.to_pem().as_bytes())?;
        fs::copy(like.ca(), folder.join("ca.crt"))?;
        Ok(Self { folder: folder.to_path_buf() })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file in the folder, as an argument.
    pub fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// The certificate's file.
    pub fn crt(&self) -> String {
        self.file("tls.crt")
    }

    /// The key's file.
    pub fn key(&self) -> String {
        self.file("tls.key")
    }

    /// The file of what is trusted.
    pub fn ca(&self) -> String {
        self.file("ca.crt")
    }

    /// The certificate.
    pub fn certificate(&self) -> Result<Certificate> {
        Ok(Certificate::from_pem(&fs::read_to_string(self.crt())?)?)
    }

    /// How rustls uses it as a client.
    pub fn client_config(&self) -> Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(self.ca())? {
            roots.add(root?)?;
        }
        self.presented_by(client()?.with_root_certificates(roots))
    }

    /// The same, believing whatever server there is.
    pub fn credulous_client_config(&self) -> Result<ClientConfig> {
        self.presented_by(client()?.dangerous().with_custom_certificate_verifier(Arc::new(Credulous)))
    }

    fn presented_by(&self, config: ConfigBuilder<ClientConfig, WantsClientCert>) -> Result<ClientConfig> {
        let mut config = config.with_client_auth_cert(
            vec![CertificateDer::from_pem_file(self.crt())?],
            PrivateKeyDer::from_pem_file(self.key())?,
        )?;
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

fn client() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Ok(ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions()?)
}

/// Believes every server, of whatever root and name.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
