//! Real certificates, by the crate that issues them in production.

use std::time::Duration;

use jiff::Timestamp;
use link::Identity;
use pki::{
    Certificate, CrlContents, KeyAlgorithm, LeafProfile, PrivateKey, RevocationReason, RevokedCertificate,
    RootProfile, SerialNumber, SigningRoot, Subject, Usage, Validity,
};

const DAY: Duration = Duration::from_hours(24);

/// A root and what it issues.
pub(crate) struct Authority(SigningRoot);

/// What the Secret of a certificate's holder has in it, all PEM.
#[derive(Clone)]
pub(crate) struct Secret {
    pub(crate) tls_crt: String,
    pub(crate) tls_key: String,
    pub(crate) ca_crt: String,
    /// A broker has one, clients do not look at it.
    pub(crate) ca_crl: String,
}

impl Authority {
    pub(crate) fn new(generation: u32) -> Self {
        let profile = RootProfile {
            subject: Subject::new("root-ca").unwrap(),
            generation,
            key_algorithm: KeyAlgorithm::EcdsaP256,
            duration: 10 * DAY,
        };
        let serial = SerialNumber::generate().unwrap();
        Self(SigningRoot::generate(&profile, serial, Timestamp::now()).unwrap())
    }

    pub(crate) fn certificate(&self) -> String {
        self.0.certificate().to_pem()
    }

    pub(crate) fn fingerprint(&self) -> String {
        self.0.certificate().fingerprint()
    }

    /// A new certificate for a client.
    pub(crate) fn client(&self, name: &str) -> Secret {
        self.issue(name, Usage::Client, Vec::new())
    }

    /// A new certificate for a broker that clients call `host`.
    pub(crate) fn broker(&self, host: &str) -> Secret {
        self.issue("mosquitto.broker", Usage::Server, vec![host.to_owned()])
    }

    /// A list that names these.
    pub(crate) fn crl(&self, revoked: &[&Secret]) -> String {
        let revoke = |secret: &&Secret| RevokedCertificate {
            serial: Certificate::from_pem(&secret.tls_crt).unwrap().serial(),
            revoked_at: Timestamp::now(),
            reason: RevocationReason::KeyCompromise,
        };
        let revoked: Vec<_> = revoked.iter().map(revoke).collect();
        let contents = CrlContents { number: 1 + revoked.len() as u64, valid_for: DAY, revoked };
        self.0.sign_crl(&contents, Timestamp::now()).unwrap().to_pem()
    }

    fn issue(&self, name: &str, usage: Usage, dns_names: Vec<String>) -> Secret {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let profile = LeafProfile {
            subject: Subject::new(name).unwrap(),
            dns_names,
            ip_addresses: Vec::new(),
            uris: Vec::new(),
            usage,
            key_algorithm: KeyAlgorithm::EcdsaP256,
            duration: DAY,
            crl_distribution_url: None,
        };
        let validity = Validity::plan(DAY, None, name, self.0.certificate(), Timestamp::now()).unwrap();
        let serial = SerialNumber::generate().unwrap();
        let certificate = self.0.issue(&profile, key.public_key(), serial, validity).unwrap();
        Secret {
            tls_crt: certificate.to_pem(),
            tls_key: key.to_pem().to_string(),
            ca_crt: self.certificate(),
            ca_crl: self.crl(&[]),
        }
    }
}

impl Secret {
    pub(crate) fn identity(&self) -> Identity {
        let Self { tls_crt, tls_key, ca_crt, ca_crl: _ } = self;
        Identity::from_pem(tls_crt, tls_key, ca_crt, Timestamp::now()).unwrap()
    }

    pub(crate) fn serial(&self) -> String {
        Certificate::from_pem(&self.tls_crt).unwrap().serial().to_string()
    }
}
