//! What a server shows to those who connect.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use link::BrokerAddress;
use pki::Certificate;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::Identity;

/// The certificate that the broker at `address` presents; it is checked as every client does.
pub async fn served(address: &BrokerAddress, identity: &Identity) -> Result<Certificate> {
    let connector = TlsConnector::from(Arc::new(identity.client_config()?));
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    let stream = connector.connect(ServerName::try_from(address.host.clone())?, stream).await?;
    let presented = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    Ok(Certificate::from_der(presented.context("no certificate was presented")?.to_vec())?)
}
