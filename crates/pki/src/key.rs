//! Key algorithms, private keys, public keys.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use rcgen::{PublicKeyData, RsaKeySize, SigningKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::{Zeroize, Zeroizing};

use crate::armor::{self, PemError};
use crate::certificate::Certificate;

/// A kind of key, and with it the signature that it makes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum KeyAlgorithm {
    /// ECDSA on P-256 with SHA-256: small, fast, understood by every device.
    #[default]
    EcdsaP256,
    /// ECDSA on P-384 with SHA-384.
    EcdsaP384,
    /// Ed25519: the fastest, not known to older TLS stacks.
    Ed25519,
    /// RSA, 2048 bits, with SHA-256.
    Rsa2048,
    /// RSA, 3072 bits, with SHA-256.
    Rsa3072,
    /// RSA, 4096 bits, with SHA-256: seconds of work on a small device.
    Rsa4096,
}

/// A private key that can sign. Never shown; wiped from memory when dropped.
pub struct PrivateKey {
    pair: rcgen::KeyPair,
    public: PublicKey,
}

/// A public key: what a certificate binds to a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: KeyAlgorithm,
    info: rcgen::SubjectPublicKeyInfo,
}

/// Why a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text around the key.
    #[error("the private key {0}")]
    Pem(#[from] PemError),
    /// Encrypted keys would need their passphrase beside them.
    #[error("the private key is encrypted: decrypt it first (openssl pkey -in key.pem -out tls.key)")]
    Encrypted,
    /// Neither PKCS#8, SEC 1 nor PKCS#1, or damaged.
    #[error("the private key cannot be read: expected PKCS#8, SEC 1 or PKCS#1")]
    Unreadable,
    /// A key of a kind that is not issued for.
    #[error("{0} is not supported: use EcdsaP256, EcdsaP384, Ed25519, Rsa2048, Rsa3072 or Rsa4096")]
    Unsupported(String),
    /// The public key structure itself.
    #[error("the public key cannot be read: {0}")]
    PublicKeyUnreadable(String),
    /// RFC 5480 allows them, many TLS stacks do not.
    #[error("the public key is a compressed point: write it uncompressed")]
    CompressedPoint,
    /// The cryptographic library refused; out of entropy or of memory.
    #[error("the key could not be generated: {0}")]
    NotGenerated(String),
}

// === impl KeyAlgorithm ===

impl KeyAlgorithm {
    /// Every algorithm, in the order of the schema.
    pub const ALL: [Self; 6] =
        [Self::EcdsaP256, Self::EcdsaP384, Self::Ed25519, Self::Rsa2048, Self::Rsa3072, Self::Rsa4096];

    /// Whether it is RSA, whose server keys may also be used to encipher keys.
    pub fn is_rsa(self) -> bool {
        matches!(self, Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096)
    }

    fn of_rsa(bits: usize) -> Result<Self, KeyError> {
        match bits {
            2048 => Ok(Self::Rsa2048),
            3072 => Ok(Self::Rsa3072),
            4096 => Ok(Self::Rsa4096),
            _ => Err(KeyError::Unsupported(format!("RSA of {bits} bits"))),
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

// === impl PrivateKey ===

impl PrivateKey {
    /// A new key from the cryptographic library's random numbers. RSA takes up to a second.
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self, KeyError> {
        let pair = match algorithm {
            KeyAlgorithm::EcdsaP256 => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            KeyAlgorithm::EcdsaP384 => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            KeyAlgorithm::Ed25519 => rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519),
            KeyAlgorithm::Rsa2048 => generate_rsa(RsaKeySize::_2048),
            KeyAlgorithm::Rsa3072 => generate_rsa(RsaKeySize::_3072),
            KeyAlgorithm::Rsa4096 => generate_rsa(RsaKeySize::_4096),
        };
        let mut pair = pair.map_err(|error| KeyError::NotGenerated(error.to_string()))?;
        let key = Self::from_der(pair.serialized_der());
        pair.zeroize();
        key
    }

    /// Reads the one private key in `text`: PKCS#8, SEC 1 or PKCS#1.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let mut ders = Vec::new();
        for block in armor::blocks(text, "PRIVATE KEY")? {
            if block.tag() == "ENCRYPTED PRIVATE KEY" || block.headers().get("DEK-Info").is_some() {
                return Err(KeyError::Encrypted);
            }
            match block.tag() {
                "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" => {
                    ders.push(Zeroizing::new(block.into_contents()));
                }
                // `openssl ecparam -genkey` writes the curve before the key, which names it again.
                "EC PARAMETERS" => {}
                other => {
                    let found = other.to_owned();
                    return Err(PemError::WrongLabel { found, expected: "PRIVATE KEY" }.into());
                }
            }
        }
        match ders.as_slice() {
            [] => Err(PemError::Empty { expected: "PRIVATE KEY" }.into()),
            [only] => Self::from_der(only),
            several => Err(PemError::Several(several.len()).into()),
        }
    }

    /// The key as PKCS#8 PEM, version 1: the only form that every TLS stack reads.
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(armor::encode("PRIVATE KEY", self.pair.serialized_der()))
    }

    /// The kind of key.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.public.algorithm
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// rcgen keeps the bytes it was given, so they are brought into one form first.
    fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let pkcs8 = to_pkcs8(der)?;
        let pair = rcgen::KeyPair::try_from(pkcs8.as_slice()).map_err(|_| KeyError::Unreadable)?;
        let public = PublicKey::from_der(&pair.subject_public_key_info())?;
        Ok(Self { pair, public })
    }
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.pair.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.pair.algorithm()
    }
}

impl SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.pair.sign(message)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({}, <redacted>)", self.public.algorithm)
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        // The PKCS#8 bytes; the library wipes its own copy of the key.
        self.pair.zeroize();
    }
}

// === impl PublicKey ===

impl PublicKey {
    /// Reads a DER `SubjectPublicKeyInfo` (RFC 5280, 4.1.2.7).
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let unreadable = |error: &dyn fmt::Display| KeyError::PublicKeyUnreadable(error.to_string());
        let (_, parsed) = SubjectPublicKeyInfo::from_der(der).map_err(|error| unreadable(&error))?;
        let algorithm = algorithm_of(&parsed)?;
        let info = rcgen::SubjectPublicKeyInfo::from_der(der).map_err(|error| unreadable(&error))?;
        Ok(Self { algorithm, info })
    }

    /// The DER `SubjectPublicKeyInfo`.
    pub fn to_der(&self) -> Vec<u8> {
        self.info.subject_public_key_info()
    }

    /// The kind of key.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// Whether `certificate` certifies this very key.
    pub fn fits(&self, certificate: &Certificate) -> bool {
        self == certificate.public_key()
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        self.info.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.info.algorithm()
    }
}

fn generate_rsa(size: RsaKeySize) -> Result<rcgen::KeyPair, rcgen::Error> {
    rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size)
}

/// Any of the three private key encodings, as PKCS#8 version 1. (aws-lc writes Ed25519 keys as version 2, which
/// OpenSSL before 3.2 cannot read.)
fn to_pkcs8(der: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let unreadable = |_| KeyError::Unreadable;
    if let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        let document: Pkcs8V1Der<'_> = key.as_der().map_err(unreadable)?;
        return Ok(Zeroizing::new(document.as_ref().to_vec()));
    }
    for curve in [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING] {
        if let Ok(key) = EcdsaKeyPair::from_private_key_der(curve, der) {
            let document = key.to_pkcs8v1().map_err(unreadable)?;
            return Ok(Zeroizing::new(document.as_ref().to_vec()));
        }
    }
    if EcdsaKeyPair::from_private_key_der(&ECDSA_P521_SHA512_ASN1_SIGNING, der).is_ok() {
        return Err(KeyError::Unsupported("ECDSA on P-521".to_owned()));
    }
    let rsa = rsa::KeyPair::from_pkcs8(der).or_else(|of_pkcs8| {
        rsa::KeyPair::from_der(der).map_err(|of_pkcs1| [of_pkcs8.to_string(), of_pkcs1.to_string()])
    });
    match rsa {
        Ok(key) => {
            KeyAlgorithm::of_rsa(key.public_key().modulus_len() * 8)?;
            let document: Pkcs8V1Der<'_> = key.as_der().map_err(unreadable)?;
            Ok(Zeroizing::new(document.as_ref().to_vec()))
        }
        Err(reasons) if reasons.iter().any(|reason| reason == "TooSmall") => {
            Err(KeyError::Unsupported("RSA of less than 2048 bits".to_owned()))
        }
        Err(_) => Err(KeyError::Unreadable),
    }
}

fn algorithm_of(key: &SubjectPublicKeyInfo<'_>) -> Result<KeyAlgorithm, KeyError> {
    use x509_parser::oid_registry as oid;
    use x509_parser::public_key::PublicKey as Parsed;

    let kind = &key.algorithm.algorithm;
    let bits = key.subject_public_key.data.as_ref();
    if *kind == oid::OID_PKCS1_RSAENCRYPTION {
        return match key.parsed() {
            Ok(Parsed::RSA(rsa)) => KeyAlgorithm::of_rsa(modulus_bits(rsa.modulus)),
            _ => Err(KeyError::PublicKeyUnreadable("not an RSA modulus and exponent".to_owned())),
        };
    }
    if *kind == oid::OID_SIG_ED25519 {
        return match bits.len() {
            32 => Ok(KeyAlgorithm::Ed25519),
            length => {
                Err(KeyError::PublicKeyUnreadable(format!("Ed25519 keys have 32 octets, not {length}")))
            }
        };
    }
    if *kind == oid::OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        let (algorithm, length) = match curve {
            Some(curve) if curve == oid::OID_EC_P256 => (KeyAlgorithm::EcdsaP256, 65),
            Some(curve) if curve == oid::OID_NIST_EC_P384 => (KeyAlgorithm::EcdsaP384, 97),
            Some(curve) => return Err(KeyError::Unsupported(format!("the elliptic curve {curve}"))),
            None => return Err(KeyError::Unsupported("an elliptic curve without a name".to_owned())),
        };
        return match bits.first() {
            Some(4) if bits.len() == length => Ok(algorithm),
            Some(2 | 3) => Err(KeyError::CompressedPoint),
            _ => Err(KeyError::PublicKeyUnreadable("not a point of its curve".to_owned())),
        };
    }
    Err(KeyError::Unsupported(format!("a key of the kind {kind}")))
}

fn modulus_bits(modulus: &[u8]) -> usize {
    let significant = match modulus.iter().position(|octet| *octet != 0) {
        Some(first) => &modulus[first..],
        None => return 0,
    };
    significant.len() * 8 - significant[0].leading_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_key_survives_being_stored_and_loaded() {
        for algorithm in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384, KeyAlgorithm::Ed25519] {
            let key = PrivateKey::generate(algorithm).unwrap();
            let pem = key.to_pem();
            assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"), "PKCS#8 with LF line ends");
            let loaded = PrivateKey::from_pem(&pem).unwrap();
            assert_eq!(loaded.algorithm(), algorithm);
            assert_eq!(loaded.public_key(), key.public_key());
            assert_eq!(loaded.to_pem(), pem);
        }
    }

    #[test]
    fn a_private_key_never_shows_in_a_log_line() {
        let key = sample::key();
        assert_eq!(format!("{key:?}"), "PrivateKey(EcdsaP256, <redacted>)");
    }

    #[test]
    fn what_is_wrong_with_a_key_file_is_said_by_name() {
        let refused = |text: &str| PrivateKey::from_pem(text).unwrap_err();
        assert_eq!(refused(&armor::encode("ENCRYPTED PRIVATE KEY", b"x")), KeyError::Encrypted);
        let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n\
                      AAAA\n-----END RSA PRIVATE KEY-----\n";
        assert_eq!(refused(legacy), KeyError::Encrypted);
        assert_eq!(refused(&armor::encode("PRIVATE KEY", b"garbage")), KeyError::Unreadable);
        assert!(matches!(refused("garbage"), KeyError::Pem(PemError::Empty { .. })));
        let certificate = sample::root().certificate().to_pem();
        assert!(matches!(refused(&certificate), KeyError::Pem(PemError::WrongLabel { .. })));
        let two = sample::key().to_pem().repeat(2);
        assert!(matches!(refused(&two), KeyError::Pem(PemError::Several(2))));
    }

    #[test]
    fn a_compressed_point_is_refused_because_many_clients_cannot_read_it() {
        let key = sample::key();
        let uncompressed = key.public_key().to_der();
        let (head, point) = uncompressed.split_at(uncompressed.len() - 65);
        let mut compressed = head.to_vec();
        // The lengths of the two wrappers shrink by the 32 octets of the y coordinate.
        compressed[1] -= 32;
        let bit_string_length = compressed.len() - 2;
        compressed[bit_string_length] -= 32;
        compressed.push(2 + (point[64] & 1));
        compressed.extend_from_slice(&point[1..33]);
        assert_eq!(PublicKey::from_der(&compressed).unwrap_err(), KeyError::CompressedPoint);
    }

    #[test]
    fn the_schema_of_the_algorithms_is_a_plain_list_of_names() {
        let names: Vec<_> =
            KeyAlgorithm::ALL.iter().map(|name| serde_json::to_string(name).unwrap()).collect();
        let shown = KeyAlgorithm::ALL.map(|name| format!("\"{name}\""));
        assert_eq!(names, shown);
        assert_eq!(serde_json::to_string(&KeyAlgorithm::default()).unwrap(), r#""EcdsaP256""#);
    }
}
