//! Which certificate a broker presents to a new connection: what its Secret holds is what it should present.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use pki::Certificate;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{BrokerAddress, Identity};

/// What a broker presented in a handshake that it finished, so that it holds the key as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Lower-case hex, whole octets.
    pub serial_number: String,
    /// SHA-256 of the DER encoding, lower-case hex.
    pub fingerprint: String,
    /// Last second of validity.
    pub not_after: Timestamp,
    /// Why a client with these roots would not believe it.
    pub distrust: Option<String>,
}

/// Takes any certificate, and remembers it with what a strict client says of it.
#[derive(Debug)]
struct Witness {
    strict: Arc<WebPkiServerVerifier>,
    seen: Mutex<Option<(Vec<u8>, Option<String>)>>,
}

/// Connects to the broker as `identity`, which keeps its log free of refusals, looks at its certificate, and leaves
/// before the first word of MQTT: nobody's session is touched.
///
/// # Errors
/// When the broker does not answer `within`, or does not finish the handshake.
pub async fn served(broker: &BrokerAddress, identity: &Identity, within: Duration) -> io::Result<Served> {
    timeout(within, handshake(broker, identity)).await?
}

async fn handshake(broker: &BrokerAddress, identity: &Identity) -> io::Result<Served> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = identity.roots().map_err(io::Error::other)?;
    let strict = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(io::Error::other)?;
    let witness = Arc::new(Witness { strict, seen: Mutex::new(None) });
    let (chain, key) = identity.presented();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&witness) as _)
        .with_client_auth_cert(chain, key)
        .map_err(io::Error::other)?;
    config.resumption = Resumption::disabled(); // a resumed session shows no certificate
    let name = ServerName::try_from(broker.host.clone()).map_err(io::Error::other)?;
    let tcp = TcpStream::connect((broker.host.as_str(), broker.port)).await?;
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;

    let seen = witness.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (der, distrust) = seen.ok_or_else(|| io::Error::other("the broker presented no certificate"))?;
    let certificate = Certificate::from_der(der).map_err(io::Error::other)?;
    Ok(Served {
        serial_number: certificate.serial().to_string(),
        fingerprint: certificate.fingerprint(),
        not_after: certificate.not_after(),
        distrust,
    })
}

// === impl Witness ===

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = self.strict.verify_server_cert(certificate, chain, name, ocsp, now);
        let seen = (certificate.as_ref().to_vec(), verdict.err().map(|error| error.to_string()));
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.strict.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.strict.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
}
