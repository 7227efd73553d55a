//! A TLS handshake with the broker, to see which certificate it serves.
//!
//! Why a handshake after SIGHUP proves the reload (`src/loop.c`, `src/net.c`, `src/signals.c` of Mosquitto 2.1.2): the
//! signal sets a flag, and the single thread looks at it once a turn, after the sockets. A connection is accepted in
//! one turn and its `ClientHello` read in a later one, so whoever gets an answer has waited for the flag. Only the
//! certificate may still be the old one, if the connection was accepted in the turn before: the next shows the new
//! one. The handshake also wakes the broker, should the signal have come just before it went to sleep.
//!
//! CRLs and roots are not visible from outside. They are read in the same reload as the certificate, from the same
//! set, and a broker that cannot use them ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

/// How long the broker may take to answer a handshake, and how long it is asked again. With 5 000 sessions a reload
/// takes 31-48 ms (measured); one that has just started may have a large database to read.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// Connects to the broker as any client would, but without a certificate.
#[derive(Clone)]
pub(crate) struct Prover {
    broker: SocketAddr,
    connector: TlsConnector,
    patience: Duration,
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProofError {
    #[error(
        "mosquitto gives no answer to a TLS handshake at {broker} ({error}): see the log of its container"
    )]
    NoAnswer { broker: SocketAddr, error: io::Error },
    #[error(
        "mosquitto serves another certificate than the one in place: is its certfile in the run directory?"
    )]
    Other,
    #[error("mosquitto has ended: see the log of its container")]
    Ended,
}

impl Prover {
    pub(crate) fn new(broker: SocketAddr) -> Result<Self, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        config.resumption = Resumption::disabled(); // a resumed session shows no certificate
        Ok(Self { broker, connector: TlsConnector::from(Arc::new(config)), patience: PATIENCE })
    }

    /// Waits until the broker answers a handshake: then it also handles signals, which it does not do while it starts.
    ///
    /// # Errors
    /// When it does not within ten seconds of a handshake's begin, or when `is_alive` says that it has ended.
    pub(crate) async fn answer(&self, is_alive: impl Fn() -> bool) -> Result<(), ProofError> {
        self.until(is_alive, |_| true).await
    }

    /// Waits until the broker serves `certificate`.
    ///
    /// # Errors
    /// As [`Prover::answer`], or when it serves another one all the time.
    pub(crate) async fn serves(
        &self,
        certificate: &[u8],
        is_alive: impl Fn() -> bool,
    ) -> Result<(), ProofError> {
        self.until(is_alive, |served| served.as_ref() == certificate).await
    }

    async fn until(
        &self,
        is_alive: impl Fn() -> bool,
        is_right: impl Fn(&CertificateDer<'_>) -> bool,
    ) -> Result<(), ProofError> {
        let deadline = Instant::now() + self.patience;
        loop {
            // One that has begun may end after the deadline: cut off there, it would pass for "no answer".
            let served = timeout(self.patience, self.handshake()).await;
            let problem = match served.unwrap_or_else(|elapsed| Err(elapsed.into())) {
                Ok(Some(served)) if is_right(&served) => return Ok(()),
                Ok(_) => ProofError::Other,
                Err(error) => ProofError::NoAnswer { broker: self.broker, error },
            };
            if !is_alive() {
                return Err(ProofError::Ended);
            }
            if Instant::now() + PAUSE >= deadline {
                return Err(problem);
            }
            sleep(PAUSE).await;
        }
    }

    /// The certificate that the broker serves to one new connection.
    async fn handshake(&self) -> io::Result<Option<CertificateDer<'static>>> {
        let stream = TcpStream::connect(self.broker).await?;
        let stream = self.connector.connect(ServerName::from(self.broker.ip()), stream).await?;
        let served = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        Ok(served.cloned().map(CertificateDer::into_owned))
    }
}

/// Takes any certificate whose key signs the handshake. It is compared, octet by octet, with the one in place, which was
/// checked before it was put there.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
