//! Certificate signing requests (PKCS#10, RFC 2986) from devices that keep their key.

use std::net::IpAddr;

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

use crate::armor::{self, PemError};
use crate::certificate::AlternativeNames;
use crate::key::{KeyError, PublicKey};

/// What is taken from a request: the public key, whose private half the sender has proved to hold, and the alternative names
/// that it asks for, which the caller checks against what is permitted. Nothing else: no subject, no CA flag, no usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    public_key: PublicKey,
    names: AlternativeNames,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The text around it.
    #[error("the signing request {0}")]
    Pem(#[from] PemError),
    /// Not DER, or not PKCS#10.
    #[error("the signing request cannot be read: {0}")]
    Malformed(String),
    /// The key is of a kind that is not issued for.
    #[error("the signing request's key cannot be used: {0}")]
    Key(#[from] KeyError),
    /// The sender may not hold the private key.
    #[error("the signing request is not signed by its own key: {0}")]
    NotProven(String),
}

impl CertificateRequest {
    /// Reads the one request in `text` and checks that its key signed it.
    pub fn from_pem(text: &str) -> Result<Self, RequestError> {
        let der = armor::decode_one(text, "CERTIFICATE REQUEST", &["NEW CERTIFICATE REQUEST"])?;
        Self::from_der(&der)
    }

    /// The key to certify.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The DNS names that it asks for.
    pub fn dns_names(&self) -> &[String] {
        &self.names.dns_names
    }

    /// The IP addresses that it asks for.
    pub fn ip_addresses(&self) -> &[IpAddr] {
        &self.names.ip_addresses
    }

    /// The URIs that it asks for.
    pub fn uris(&self) -> &[String] {
        &self.names.uris
    }

    fn from_der(der: &[u8]) -> Result<Self, RequestError> {
        let (rest, parsed) = X509CertificationRequest::from_der(der)
            .map_err(|error| RequestError::Malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(RequestError::Malformed("there is something behind it".to_owned()));
        }
        let public_key = PublicKey::from_der(parsed.certification_request_info.subject_pki.raw)?;
        parsed.verify_signature().map_err(|error| RequestError::NotProven(error.to_string()))?;

        let mut names = AlternativeNames::default();
        for extension in parsed.requested_extensions().into_iter().flatten() {
            match extension {
                ParsedExtension::SubjectAlternativeName(asked) => {
                    names = AlternativeNames::of(&asked.general_names).map_err(RequestError::Malformed)?;
                }
                ParsedExtension::ParseError { error } => {
                    return Err(RequestError::Malformed(error.to_string()));
                }
                _ => {}
            }
        }
        Ok(Self { public_key, names })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
    };

    use super::*;
    use crate::sample;
    use crate::{KeyAlgorithm, Usage};

    #[test]
    fn a_device_that_asks_to_become_a_ca_gets_a_client_certificate() {
        let key = KeyPair::generate().unwrap();
        let mut greedy =
            CertificateParams::new(["device001.example".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        greedy.subject_alt_names.push(SanType::URI("urn:example:device001".try_into().unwrap()));
        greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        greedy.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let pem = greedy.serialize_request(&key).unwrap().pem().unwrap();

        let request = CertificateRequest::from_pem(&pem).unwrap();
        assert_eq!(request.dns_names(), ["device001.example"]);
        assert_eq!(request.ip_addresses(), [IpAddr::from([10, 0, 0, 1])]);
        assert_eq!(request.uris(), ["urn:example:device001"]);

        let root = sample::root();
        let validity =
            crate::Validity::plan(sample::DAY, None, "uid", root.certificate(), sample::now()).unwrap();
        let profile = sample::leaf_profile(Usage::Client);
        let leaf = root.issue(&profile, request.public_key(), sample::serial(2), validity).unwrap();
        assert!(!leaf.is_ca() && !leaf.signs_certificates());
        assert_eq!(leaf.usage(), Some(Usage::Client));
        assert!(request.public_key().fits(&leaf));
    }

    #[test]
    fn a_request_for_somebody_elses_key_is_refused() {
        let pem = CertificateParams::default()
            .serialize_request(&KeyPair::generate().unwrap())
            .unwrap()
            .pem()
            .unwrap();
        let mut der = armor::decode_one(&pem, "CERTIFICATE REQUEST", &[]).unwrap();
        *der.last_mut().unwrap() ^= 1;
        let error = CertificateRequest::from_der(&der).unwrap_err();
        assert!(matches!(error, RequestError::NotProven(_)), "{error}");
    }

    #[test]
    fn a_request_without_extensions_asks_for_no_names() {
        for algorithm in [KeyAlgorithm::EcdsaP384, KeyAlgorithm::Ed25519] {
            let key = crate::PrivateKey::generate(algorithm).unwrap();
            let pem = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
            let request = CertificateRequest::from_pem(&pem).unwrap();
            assert_eq!(request.public_key(), key.public_key());
            assert!(request.dns_names().is_empty() && request.ip_addresses().is_empty());
        }
    }

    #[test]
    fn what_is_no_request_is_refused_by_name() {
        let refused = |text: &str| CertificateRequest::from_pem(text).unwrap_err().to_string();
        assert!(refused("").contains("holds no PEM block"));
        assert!(refused(&armor::encode("CERTIFICATE REQUEST", b"garbage")).contains("cannot be read"));
        let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        let pem = CertificateParams::default().serialize_request(&p521).unwrap().pem().unwrap();
        assert!(refused(&pem).contains("is not supported: use EcdsaP256"));
    }
}
