//! The little of MQTT 5 that a device needs to show what the broker does with it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What a client holds, all PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) roots: String,
}

/// A live MQTT session.
pub(crate) struct Session {
    stream: TlsStream<TcpStream>,
}

impl Session {
    /// Connects, and returns once the broker has let the client in.
    pub(crate) async fn open(broker: SocketAddr, identity: &Identity) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(identity.roots.as_bytes()) {
            roots.add(root.unwrap()).unwrap();
        }
        let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)
            .unwrap();
        let stream = TcpStream::connect(broker).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let mut session = Self { stream };
        // CONNECT: protocol MQTT 5, clean start, keep-alive 0, no properties, no client id (the broker takes the CN)
        let connect = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 5, 0b10, 0, 0, 0, 0, 0];
        session.stream.write_all(&connect).await?;
        match session.packet().await? {
            (0x20, body) if body[1] == 0 => Ok(session),
            (kind, body) => Err(io::Error::other(format!("refused: {kind:#x} {body:?}"))),
        }
    }

    /// The certificate that the broker showed.
    pub(crate) fn broker_certificate(&self) -> pki::Certificate {
        let chain = self.stream.get_ref().1.peer_certificates().unwrap();
        pki::Certificate::from_der(chain[0].as_ref()).unwrap()
    }

    /// One round trip through the broker.
    pub(crate) async fn ping(&mut self) -> io::Result<()> {
        self.stream.write_all(&[0xC0, 0]).await?;
        let (kind, _) = self.packet().await?;
        assert_eq!(kind, 0xD0, "PINGRESP");
        Ok(())
    }

    /// Publishes at QoS 1; whether the access rules let it.
    pub(crate) async fn may_publish(&mut self, topic: &str) -> io::Result<bool> {
        let length = u8::try_from(topic.len()).unwrap();
        // PUBLISH, QoS 1: topic, packet id 1, no properties, payload "x"
        let mut publish = vec![0x32, length + 6, 0, length];
        publish.extend(topic.as_bytes());
        publish.extend([0, 1, 0, b'x']);
        self.stream.write_all(&publish).await?;
        let (kind, body) = self.packet().await?;
        assert_eq!(kind, 0x40, "PUBACK");
        // MQTT 5, 3.4.2.1: no reason code is success, 0x10 no subscriber, 0x87 not authorized
        match body.get(2) {
            None | Some(0x00 | 0x10) => Ok(true),
            Some(0x87) => Ok(false),
            Some(reason) => Err(io::Error::other(format!("reason {reason:#x}"))),
        }
    }

    async fn packet(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let kind = self.stream.read_u8().await?;
        let length = self.stream.read_u8().await?;
        assert!(length < 0x80, "all answers here are short");
        let mut body = vec![0; length.into()];
        self.stream.read_exact(&mut body).await?;
        Ok((kind, body))
    }
}
