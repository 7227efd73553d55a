//! A certificate, read once.

use std::fmt;
use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use crate::armor::{self, PemError};
use crate::key::{KeyError, PublicKey};
use crate::profile::Usage;
use crate::serial::{SerialNumber, SerialNumberError};
use crate::validity::{self, DateError, Validity};

pub(crate) const LABEL: &str = "CERTIFICATE";
const OPENSSL_LABELS: &[&str] = &["X509 CERTIFICATE", "TRUSTED CERTIFICATE"];

/// An X.509 version 3 certificate. Everything is read when it is made, so that nothing can fail afterwards. Equal when
/// the DER is.
#[derive(Clone)]
pub struct Certificate {
    der: Vec<u8>,
    serial: SerialNumber,
    subject: Name,
    issuer: Name,
    common_name: Option<String>,
    validity: Validity,
    public_key: PublicKey,
    extensions: Extensions,
}

/// Why something is not a certificate that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The text around it.
    #[error("the certificate {0}")]
    Pem(#[from] PemError),
    /// Not DER, or not X.509.
    #[error("the certificate cannot be read: {0}")]
    Malformed(String),
    /// RFC 5280 wants serial numbers positive and at most 20 octets long.
    #[error("the certificate's serial number cannot be used: {0}")]
    Serial(#[from] SerialNumberError),
    /// A key of a kind that is not supported.
    #[error("the certificate's key cannot be used: {0}")]
    Key(#[from] KeyError),
}

/// The signature does not come from that certificate's key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature was not made by the key of {issuer:?}: {problem}")]
pub struct SignatureError {
    pub(crate) issuer: String,
    pub(crate) problem: String,
}

/// A distinguished name: the octets, which must match exactly, and how it reads.
#[derive(Clone)]
pub(crate) struct Name {
    pub(crate) der: Vec<u8>,
    pub(crate) text: String,
}

#[derive(Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a yes or no of its own in a certificate")]
struct Extensions {
    names: AlternativeNames,
    subject_key_id: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
    is_ca: bool,
    signs_certificates: bool,
    signs_crls: bool,
    /// None: no extended key usage extension at all.
    usages: Option<Vec<Usage>>,
    has_name_constraints: bool,
    crl_distribution_urls: Vec<String>,
}

// === impl Certificate ===

impl Certificate {
    /// Reads the one certificate in `text`.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        Self::from_der(armor::decode_one(text, LABEL, OPENSSL_LABELS)?)
    }

    /// Reads every certificate in `text`, at least one.
    pub fn all_from_pem(text: &str) -> Result<Vec<Self>, CertificateError> {
        armor::decode_all(text, LABEL, OPENSSL_LABELS)?.into_iter().map(Self::from_der).collect()
    }

    /// Reads a DER certificate.
    pub fn from_der(der: impl Into<Vec<u8>>) -> Result<Self, CertificateError> {
        let der = der.into();
        let malformed = |problem: &dyn fmt::Display| CertificateError::Malformed(problem.to_string());
        let (rest, parsed) = X509Certificate::from_der(&der).map_err(|error| malformed(&error))?;
        if !rest.is_empty() {
            return Err(malformed(&"there is something behind it"));
        }
        let common_name = parsed.subject().iter_common_name().next();
        Ok(Self {
            serial: SerialNumber::from_der_integer(parsed.raw_serial())?,
            subject: Name::of(parsed.subject()),
            issuer: Name::of(parsed.issuer()),
            common_name: common_name.and_then(|name| name.as_str().ok()).map(str::to_owned),
            validity: Validity {
                not_before: validity::from_asn1(parsed.validity().not_before),
                not_after: validity::from_asn1(parsed.validity().not_after),
            },
            public_key: PublicKey::from_der(parsed.public_key().raw)?,
            extensions: Extensions::of(&parsed).map_err(|problem| malformed(&problem))?,
            der,
        })
    }

    /// The certificate as DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate as PEM.
    pub fn to_pem(&self) -> String {
        armor::encode(LABEL, &self.der)
    }

    /// The serial number.
    pub fn serial(&self) -> SerialNumber {
        self.serial
    }

    /// The subject's distinguished name, as it reads: `C=TW, CN=device001`.
    pub fn subject(&self) -> &str {
        &self.subject.text
    }

    /// The issuer's distinguished name, as it reads.
    pub fn issuer(&self) -> &str {
        &self.issuer.text
    }

    /// The subject's common name.
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// The first and last second of validity.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The first second of validity.
    pub fn not_before(&self) -> Timestamp {
        self.validity.not_before
    }

    /// The last second of validity.
    pub fn not_after(&self) -> Timestamp {
        self.validity.not_after
    }

    /// Whether `now` lies within the dates.
    pub fn check_dates(&self, now: Timestamp) -> Result<(), DateError> {
        self.validity.check(now)
    }

    /// SHA-256 of the DER, as 64 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        hex::encode(digest(&SHA256, &self.der))
    }

    /// The certified key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The DNS names among the alternative names.
    pub fn dns_names(&self) -> &[String] {
        &self.extensions.names.dns_names
    }

    /// The IP addresses among the alternative names.
    pub fn ip_addresses(&self) -> &[IpAddr] {
        &self.extensions.names.ip_addresses
    }

    /// The URIs among the alternative names.
    pub fn uris(&self) -> &[String] {
        &self.extensions.names.uris
    }

    /// The subject key identifier (RFC 5280, 4.2.1.2).
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.extensions.subject_key_id.as_deref()
    }

    /// The key identifier of the authority key identifier (RFC 5280, 4.2.1.1).
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.extensions.authority_key_id.as_deref()
    }

    /// Whether it is a CA certificate.
    pub fn is_ca(&self) -> bool {
        self.extensions.is_ca
    }

    /// Whether its key usage has keyCertSign.
    pub fn signs_certificates(&self) -> bool {
        self.extensions.signs_certificates
    }

    /// Whether its key usage has cRLSign.
    pub fn signs_crls(&self) -> bool {
        self.extensions.signs_crls
    }

    /// The one end of a connection that it is for; none if it is for both, for neither, or does not say.
    pub fn usage(&self) -> Option<Usage> {
        match self.extensions.usages.as_deref() {
            Some([only]) => Some(*only),
            _ => None,
        }
    }

    /// Where it says that the CRL can be fetched.
    pub fn crl_distribution_urls(&self) -> &[String] {
        &self.extensions.crl_distribution_urls
    }

    /// Whether `issuer` signed this certificate. Says nothing about dates or usages.
    pub fn check_signed_by(&self, issuer: &Self) -> Result<(), SignatureError> {
        let wrong = |problem: &dyn fmt::Display| SignatureError {
            issuer: issuer.subject.text.clone(),
            problem: problem.to_string(),
        };
        let (_, parsed) = X509Certificate::from_der(&self.der).map_err(|error| wrong(&error))?;
        let (_, signer) = X509Certificate::from_der(&issuer.der).map_err(|error| wrong(&error))?;
        parsed.verify_signature(Some(signer.public_key())).map_err(|error| wrong(&error))
    }

    /// Whether the issuer's name is `issuer`'s subject and, where both name a key, the keys are the same.
    pub(crate) fn names_as_issuer(&self, issuer: &Self) -> bool {
        self.issuer.der == issuer.subject.der && same_key_id(self.authority_key_id(), issuer.subject_key_id())
    }

    pub(crate) fn subject_der(&self) -> &[u8] {
        &self.subject.der
    }

    /// Whether an extension of this CA narrows what it may issue to.
    pub(crate) fn restriction(&self) -> Option<&'static str> {
        if self.extensions.has_name_constraints {
            return Some("name constraints");
        }
        self.extensions.usages.is_some().then_some("an extended key usage")
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}, serial {})", self.subject.text, self.serial)
    }
}

// === impl Name ===

impl Name {
    pub(crate) fn of(name: &x509_parser::x509::X509Name<'_>) -> Self {
        Self { der: name.as_raw().to_vec(), text: name.to_string() }
    }
}

// === impl Extensions ===

impl Extensions {
    fn of(certificate: &X509Certificate<'_>) -> Result<Self, String> {
        let mut extensions = Self::default();
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    extensions.names = AlternativeNames::of(&names.general_names)?;
                }
                ParsedExtension::SubjectKeyIdentifier(id) => extensions.subject_key_id = Some(id.0.to_vec()),
                ParsedExtension::AuthorityKeyIdentifier(authority) => {
                    extensions.authority_key_id = authority.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                ParsedExtension::BasicConstraints(constraints) => extensions.is_ca = constraints.ca,
                ParsedExtension::KeyUsage(usage) => {
                    extensions.signs_certificates = usage.key_cert_sign();
                    extensions.signs_crls = usage.crl_sign();
                }
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    let mut usages = Vec::new();
                    if usage.client_auth {
                        usages.push(Usage::Client);
                    }
                    if usage.server_auth {
                        usages.push(Usage::Server);
                    }
                    extensions.usages = Some(usages);
                }
                ParsedExtension::NameConstraints(_) => extensions.has_name_constraints = true,
                ParsedExtension::CRLDistributionPoints(points) => extensions.read_distribution_points(points),
                ParsedExtension::ParseError { error } => {
                    return Err(format!("extension {}: {error}", extension.oid));
                }
                _ => {}
            }
        }
        Ok(extensions)
    }

    fn read_distribution_points(&mut self, points: &x509_parser::extensions::CRLDistributionPoints<'_>) {
        use x509_parser::extensions::DistributionPointName::FullName;

        let names = points.iter().filter_map(|point| match &point.distribution_point {
            Some(FullName(names)) => Some(names),
            _ => None,
        });
        self.crl_distribution_urls = names
            .flatten()
            .filter_map(|name| match name {
                GeneralName::URI(url) => Some((*url).to_owned()),
                _ => None,
            })
            .collect();
    }
}

/// The alternative names of the kinds that are issued: in certificates and in signing requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AlternativeNames {
    pub(crate) dns_names: Vec<String>,
    pub(crate) ip_addresses: Vec<IpAddr>,
    pub(crate) uris: Vec<String>,
}

impl AlternativeNames {
    pub(crate) fn of(names: &[GeneralName<'_>]) -> Result<Self, String> {
        let mut found = Self::default();
        for name in names {
            match name {
                GeneralName::DNSName(name) => found.dns_names.push((*name).to_owned()),
                GeneralName::URI(uri) => found.uris.push((*uri).to_owned()),
                GeneralName::IPAddress(octets) => found.ip_addresses.push(ip_address(octets)?),
                _ => {}
            }
        }
        Ok(found)
    }
}

fn ip_address(octets: &[u8]) -> Result<IpAddr, String> {
    <[u8; 4]>::try_from(octets)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .map_err(|_| format!("an IP address has 4 or 16 octets, not {}", octets.len()))
}

pub(crate) fn same_key_id(authority: Option<&[u8]>, subject: Option<&[u8]>) -> bool {
    match (authority, subject) {
        (Some(authority), Some(subject)) => authority == subject,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn what_is_no_certificate_is_refused_by_name() {
        let refused = |der: &[u8]| Certificate::from_der(der).unwrap_err().to_string();
        let root = sample::root();
        let der = root.certificate().der();
        assert!(refused(b"garbage").contains("cannot be read"));
        assert!(refused(&der[..der.len() - 1]).contains("cannot be read"));
        assert!(refused(&[der, b"x"].concat()).contains("something behind it"));
    }

    #[test]
    fn a_certificate_survives_being_stored_and_loaded() {
        let root = sample::root();
        let certificate = root.certificate();
        assert_eq!(&Certificate::from_pem(&certificate.to_pem()).unwrap(), certificate);
        assert_eq!(certificate.fingerprint().len(), 64);
        assert_eq!(Certificate::all_from_pem(&certificate.to_pem().repeat(2)).unwrap().len(), 2);
    }

    #[test]
    fn a_certificate_that_was_changed_after_signing_is_noticed() {
        let root = sample::root();
        let leaf = sample::issue(&root, &sample::leaf_profile(Usage::Client), &sample::key());
        let mut der = leaf.der().to_vec();
        let name = der.windows(9).rposition(|window| window == b"device001").unwrap();
        der[name + 8] = b'2';
        let forged = Certificate::from_der(der).unwrap();
        let error = forged.check_signed_by(root.certificate()).unwrap_err();
        assert!(error.to_string().contains("was not made by the key of \"C=TW, CN=Site CA g1\""), "{error}");
    }
}
