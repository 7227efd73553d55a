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
