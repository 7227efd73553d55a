//! The trust bundle: the roots that are trusted, and the checks that a peer's library makes with them.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::certificate::{Certificate, CertificateError, SignatureError};
use crate::crl::{Crl, CrlError};
use crate::profile::Usage;
use crate::validity::DateError;

/// A set of trusted roots. The same set gives the same text, however it came about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustBundle {
    /// By fingerprint.
    roots: BTreeMap<String, Certificate>,
}

/// Why a certificate is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// No root has the issuer's name and key.
    #[error("the certificate is issued by {issuer:?}, which is not among the trusted roots")]
    UnknownIssuer {
        /// The name of the issuer.
        issuer: String,
    },
    /// A root of that name did not sign it.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The certificate's own dates.
    #[error("the certificate {0}")]
    Dates(DateError),
    /// The root's dates.
    #[error("the root certificate {0}")]
    RootDates(DateError),
    /// The root is not one.
    #[error("the issuer {issuer:?} is not a CA that may sign certificates")]
    IssuerIsNotACa {
        /// The name of the issuer.
        issuer: String,
    },
    /// A CA certificate where a leaf belongs.
    #[error("the certificate is a CA certificate, not one of a client or server")]
    IsACa,
    /// For the other end of the connection, or for both.
    #[error("the certificate is not for use as a {}", match .0 { Usage::Client => "client", Usage::Server => "server" })]
    WrongUsage(Usage),
    /// Some clients accept this, others do not.
    #[error("the certificate outlives its root, which ends at {root_not_after}")]
    OutlivesRoot {
        /// When the root expires.
        root_not_after: Timestamp,
    },
}

/// Why a set of revocation lists does not serve a bundle: with any of these the broker refuses clients, or exits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrlSetError {
    /// Every client of that root would be refused.
    #[error("there is no revocation list for the root {root:?}")]
    Missing {
        /// The root without a list.
        root: String,
    },
    /// Which of them counts depends on the library.
    #[error(
        "there are {count} revocation lists for the root {root:?}, numbers {numbers:?}: exactly one is expected"
    )]
    Several {
        /// The root with too many lists.
        root: String,
        /// How many.
        count: usize,
        /// Their numbers.
        numbers: Vec<u64>,
    },
    /// A list that belongs to none of the roots.
    #[error("the revocation list number {number} is from {issuer:?}, which is not among the trusted roots")]
    Stray {
        /// Whose list it is.
        issuer: String,
        /// Its number.
        number: u64,
    },
    /// Its name and key identifier fit, its signature does not.
    #[error("revocation list number {number}: {problem}")]
    Invalid {
        /// Its number.
        number: u64,
        /// What is wrong.
        problem: CrlError,
    },
    /// RFC 5280 requires it, and Mosquitto needs it to tell two roots apart.
    #[error("the revocation list number {number} of {root:?} has no authority key identifier")]
    NoAuthorityKeyId {
        /// The root that it belongs to.
        root: String,
        /// Its number.
        number: u64,
    },
    /// Premature, or too old.
    #[error("the revocation list number {number} of {root:?} {problem}")]
    Dates {
        /// The root that it belongs to.
        root: String,
        /// Its number.
        number: u64,
        /// Too early or too late.
        problem: DateError,
    },
}

impl TrustBundle {
    /// The set of these roots.
    pub fn new(roots: impl IntoIterator<Item = Certificate>) -> Self {
        Self { roots: roots.into_iter().map(|root| (root.fingerprint(), root)).collect() }
    }

    /// Reads concatenated PEM certificates, at least one.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        Certificate::all_from_pem(text).map(Self::new)
    }

    /// The roots as concatenated PEM, by fingerprint.
    pub fn to_pem(&self) -> String {
        self.roots.values().map(Certificate::to_pem).collect()
    }

    /// The roots, by fingerprint.
    pub fn roots(&self) -> impl ExactSizeIterator<Item = &Certificate> {
        self.roots.values()
    }

    /// The fingerprints of the roots, sorted.
    pub fn fingerprints(&self) -> impl ExactSizeIterator<Item = &str> {
        self.roots.keys().map(String::as_str)
    }

    /// Whether `root` is trusted.
    pub fn contains(&self, root: &Certificate) -> bool {
        self.roots.contains_key(&root.fingerprint())
    }

    /// Whether a peer that trusts this bundle accepts `leaf` for `usage` at `now`, revocation aside. Returns the root that
    /// signed it.
    pub fn verify(
        &self,
        leaf: &Certificate,
        usage: Usage,
        now: Timestamp,
    ) -> Result<&Certificate, ChainError> {
        if leaf.is_ca() {
            return Err(ChainError::IsACa);
        }
        if leaf.usage() != Some(usage) {
            return Err(ChainError::WrongUsage(usage));
        }
        leaf.check_dates(now).map_err(ChainError::Dates)?;

        let root = self.issuer_of(leaf)?;
        if !(root.is_ca() && root.signs_certificates()) {
            return Err(ChainError::IssuerIsNotACa { issuer: root.subject().to_owned() });
        }
        root.check_dates(now).map_err(ChainError::RootDates)?;
        if leaf.not_after() > root.not_after() {
            return Err(ChainError::OutlivesRoot { root_not_after: root.not_after() });
        }
        Ok(root)
    }

    /// Whether `lists` are what the broker needs beside this bundle: for every root exactly one list, of matching
    /// key identifier and signature, and in date at `now`.
    pub fn check_crls(&self, lists: &[Crl], now: Timestamp) -> Result<(), CrlSetError> {
        for list in lists {
            if !self.roots().any(|root| list.names_as_issuer(root)) {
                return Err(CrlSetError::Stray { issuer: list.issuer().to_owned(), number: list.number() });
            }
        }
        for root in self.roots() {
            let subject = || root.subject().to_owned();
            let of_root: Vec<_> = lists.iter().filter(|list| list.names_as_issuer(root)).collect();
            let list = match of_root[..] {
                [] => return Err(CrlSetError::Missing { root: subject() }),
                [only] => only,
                _ => {
                    let numbers = of_root.iter().map(|list| list.number()).collect();
                    return Err(CrlSetError::Several { root: subject(), count: of_root.len(), numbers });
                }
            };
            let number = list.number();
            if list.authority_key_id().is_none() {
                return Err(CrlSetError::NoAuthorityKeyId { root: subject(), number });
            }
            list.verify(root).map_err(|problem| CrlSetError::Invalid { number, problem })?;
            list.check_dates(now).map_err(|problem| CrlSetError::Dates {
                root: subject(),
                number,
                problem,
            })?;
        }
        Ok(())
    }

    /// The root that signed `leaf`. Several roots may have the same name; the error is that of the last one tried.
    fn issuer_of(&self, leaf: &Certificate) -> Result<&Certificate, ChainError> {
        let mut error = ChainError::UnknownIssuer { issuer: leaf.issuer().to_owned() };
        for root in self.roots().filter(|root| leaf.names_as_issuer(root)) {
            match leaf.check_signed_by(root) {
                Ok(()) => return Ok(root),
                Err(problem) => error = problem.into(),
            }
        }
        Err(error)
    }
}
