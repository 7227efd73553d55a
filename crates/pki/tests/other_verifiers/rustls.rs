//! rustls, which operator, dashboard and thermometer use themselves: handshakes in memory, both ends with revocation lists.

use std::sync::Arc;

use anyhow::{Result, ensure};
use pki::{Certificate, Crl, RevocationReason};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Connection, Error, RootCertStore, ServerConfig,
    ServerConnection, SupportedProtocolVersion,
};

use crate::site::{self, BROKER, BROKER_ADDRESSES, Site, entry, judge_every_algorithm};

/// Who presents what to whom.
struct Meeting<'a> {
    site: &'a Site,
    client: &'a Certificate,
    server: &'a Certificate,
    server_name: &'a str,
    crl: &'a Crl,
    version: &'static SupportedProtocolVersion,
}

/// What each end says in the end.
#[derive(Debug, PartialEq)]
enum Outcome {
    Connected,
    ClientRefuses(Error),
    ServerRefuses(Error),
}

const REVOKED: Error = Error::InvalidCertificate(CertificateError::Revoked);

#[test]
fn device_and_broker_connect_under_every_name_of_the_broker() -> Result<()> {
    judge_every_algorithm(|site| {
        for crl in [&site.empty_crl, &site.crl] {
            let meeting = Meeting { crl, ..Meeting::of(site) };
            ensure!(meeting.outcome()? == Outcome::Connected);
        }
        for server_name in BROKER_ADDRESSES {
            let meeting = Meeting { server_name, version: &TLS12, ..Meeting::of(site) };
            ensure!(meeting.outcome()? == Outcome::Connected, "{server_name}");
        }
        let elsewhere = Meeting { server_name: "mosquitto.broker", ..Meeting::of(site) }.outcome()?;
        let name = matches!(
            elsewhere,
            Outcome::ClientRefuses(Error::InvalidCertificate(
                CertificateError::NotValidForNameContext { .. }
            ))
        );
        ensure!(name, "{elsewhere:?}");
        Ok(())
    })
}

#[test]
fn a_revoked_device_connects_until_the_list_says_so() -> Result<()> {
    judge_every_algorithm(|site| {
        for version in [&TLS12, &TLS13] {
            let meeting = Meeting { client: &site.revoked, version, ..Meeting::of(site) };
            let before = Meeting { crl: &site.empty_crl, ..meeting }.outcome()?;
            ensure!(before == Outcome::Connected, "{before:?}");
            let after = Meeting { crl: &site.crl, ..meeting }.outcome()?;
            ensure!(after == Outcome::ServerRefuses(REVOKED), "{after:?}");
        }
        Ok(())
    })
}

#[test]
fn a_revoked_broker_is_left_alone() -> Result<()> {
    judge_every_algorithm(|site| {
        let broker = entry(&site.broker, RevocationReason::KeyCompromise);
        let crl = site::crl(&site.root, 3, vec![broker])?;
        let outcome = Meeting { crl: &crl, ..Meeting::of(site) }.outcome()?;
        ensure!(outcome == Outcome::ClientRefuses(REVOKED), "{outcome:?}");
        Ok(())
    })
}

#[test]
fn a_device_cannot_pose_as_a_broker_nor_a_broker_as_a_device() -> Result<()> {
    judge_every_algorithm(|site| {
        let wrong_use = |error: &Error| {
            matches!(error, Error::InvalidCertificate(CertificateError::InvalidPurposeContext { .. }))
        };
        let posing =
            Meeting { server: &site.device, server_name: "device001.example.com", ..Meeting::of(site) };
        let outcome = posing.outcome()?;
        ensure!(matches!(&outcome, Outcome::ClientRefuses(error) if wrong_use(error)), "{outcome:?}");
        let outcome = Meeting { client: &site.broker, ..Meeting::of(site) }.outcome()?;
        ensure!(matches!(&outcome, Outcome::ServerRefuses(error) if wrong_use(error)), "{outcome:?}");
        Ok(())
    })
}

// === impl Meeting ===

impl<'a> Meeting<'a> {
    /// The device and the broker of `site`.
    fn of(site: &'a Site) -> Self {
        Self {
            site,
            client: &site.device,
            server: &site.broker,
            server_name: BROKER,
            crl: &site.crl,
            version: &TLS13,
        }
    }

    fn outcome(&self) -> Result<Outcome> {
        let server_name = ServerName::try_from(self.server_name.to_owned())?;
        let mut client = ClientConnection::new(Arc::new(self.client_config()?), server_name)?.into();
        let mut server = ServerConnection::new(Arc::new(self.server_config()?))?.into();
        for _ in 0..10 {
            if let Err(error) = deliver(&mut client, &mut server) {
                return Ok(Outcome::ServerRefuses(error));
            }
            if let Err(error) = deliver(&mut server, &mut client) {
                return Ok(Outcome::ClientRefuses(error));
            }
            if !client.is_handshaking() && !server.is_handshaking() {
                return Ok(Outcome::Connected);
            }
        }
        anyhow::bail!("they come to no end")
    }

    fn client_config(&self) -> Result<ClientConfig> {
        let verifier = WebPkiServerVerifier::builder_with_provider(self.roots()?, provider())
            .with_crls([self.crl()])
            .enforce_revocation_expiration()
            .build()?;
        let (chain, key) = self.credentials(self.client)?;
        Ok(ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[self.version])?
            .with_webpki_verifier(verifier)
            .with_client_auth_cert(chain, key)?)
    }

    fn server_config(&self) -> Result<ServerConfig> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots()?, provider())
            .with_crls([self.crl()])
            .enforce_revocation_expiration()
            .build()?;
        let (chain, key) = self.credentials(self.server)?;
        Ok(ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[self.version])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?)
    }

    fn credentials(
        &self,
        certificate: &Certificate,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let key = PrivateKeyDer::from_pem_slice(self.site.key.to_pem().as_bytes())?;
        Ok((vec![certificate.der().to_vec().into()], key))
    }

    fn roots(&self) -> Result<Arc<RootCertStore>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.site.root.certificate().der().to_vec().into())?;
        Ok(Arc::new(roots))
    }

    fn crl(&self) -> CertificateRevocationListDer<'static> {
        self.crl.der().to_vec().into()
    }
}

/// Hands over what `from` has to send; the error is that of `to`.
fn deliver(from: &mut Connection, to: &mut Connection) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::General(error.to_string());
    let mut wire = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut wire).map_err(failed)?;
    }
    let mut wire = &wire[..];
    while !wire.is_empty() {
        to.read_tls(&mut wire).map_err(failed)?;
        to.process_new_packets()?;
    }
    Ok(())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
