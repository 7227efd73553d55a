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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{self, DAY, now};
    use crate::{CrlContents, RootProfile, SigningRoot, Subject};

    fn second_root() -> SigningRoot {
        let profile = RootProfile { generation: 2, ..sample::root_profile() };
        SigningRoot::generate(&profile, sample::serial(5), now()).unwrap()
    }

    fn list(root: &SigningRoot, number: u64) -> Crl {
        root.sign_crl(&sample::empty_list(number), now()).unwrap()
    }

    #[test]
    fn a_bundle_reads_the_same_whatever_the_order_of_its_roots() {
        let (one, two) = (sample::root(), second_root());
        let (one, two) = (one.certificate(), two.certificate());
        let bundle = TrustBundle::new([one.clone(), two.clone()]);
        assert_eq!(TrustBundle::new([two.clone(), one.clone(), one.clone()]).to_pem(), bundle.to_pem());
        assert_eq!(TrustBundle::from_pem(&bundle.to_pem()).unwrap(), bundle);
        assert_eq!(bundle.roots().len(), 2);
        assert!(bundle.contains(one) && bundle.contains(two));
        assert!(bundle.fingerprints().is_sorted());
    }

    #[test]
    fn a_certificate_of_either_trusted_root_is_accepted_for_its_own_usage_only() {
        let (one, two) = (sample::root(), second_root());
        let bundle = TrustBundle::new([one.certificate().clone(), two.certificate().clone()]);
        for root in [&one, &two] {
            let leaf = sample::issue(root, &sample::leaf_profile(Usage::Client), &sample::key());
            assert_eq!(bundle.verify(&leaf, Usage::Client, now()), Ok(root.certificate()));
            let error = bundle.verify(&leaf, Usage::Server, now()).unwrap_err();
            assert_eq!(error.to_string(), "the certificate is not for use as a server");
        }
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_refused_with_the_reason() {
        let root = sample::root();
        let leaf = sample::issue(&root, &sample::leaf_profile(Usage::Client), &sample::key());
        let bundle = TrustBundle::new([root.certificate().clone()]);
        let refused =
            |bundle: &TrustBundle, at| bundle.verify(&leaf, Usage::Client, at).unwrap_err().to_string();

        let stranger = TrustBundle::new([second_root().certificate().clone()]);
        assert!(refused(&stranger, now()).contains("not among the trusted roots"));
        let namesake = TrustBundle::new([sample::root().certificate().clone()]);
        assert!(refused(&namesake, now()).contains("not among the trusted roots"));
        assert!(refused(&bundle, now() - DAY).contains("is not valid before"));
        assert!(refused(&bundle, now() + 91 * DAY).contains("the certificate expired at"));
        assert_eq!(
            bundle.verify(root.certificate(), Usage::Client, now()),
            Err(ChainError::IsACa),
            "a root is no client"
        );
        let impostor = TrustBundle::new([leaf.clone()]);
        assert!(matches!(
            impostor.verify(&leaf, Usage::Client, now()),
            Err(ChainError::UnknownIssuer { .. })
        ));
    }

    #[test]
    fn the_broker_needs_exactly_one_list_in_date_for_every_root() {
        let (one, two) = (sample::root(), second_root());
        let bundle = TrustBundle::new([one.certificate().clone(), two.certificate().clone()]);
        bundle.check_crls(&[list(&two, 4), list(&one, 9)], now()).unwrap();

        let refused = |lists: &[Crl], at| bundle.check_crls(lists, at).unwrap_err();
        let missing = refused(&[list(&one, 9)], now()).to_string();
        assert_eq!(missing, r#"there is no revocation list for the root "C=TW, CN=Site CA g2""#);
        let several = refused(&[list(&one, 8), list(&two, 4), list(&one, 9)], now()).to_string();
        assert!(
            several.contains("there are 2 revocation lists") && several.contains("numbers [8, 9]"),
            "{several}"
        );
        let stray = refused(&[list(&one, 9), list(&two, 4), list(&sample::root(), 3)], now());
        assert!(matches!(stray, CrlSetError::Stray { number: 3, .. }));
        let late = refused(&[list(&one, 9), list(&two, 4)], now() + 8 * DAY).to_string();
        assert!(late.contains("expired at 2026-03-08T12:00:00Z"), "{late}");
        let early = refused(&[list(&one, 9), list(&two, 4)], now() - DAY).to_string();
        assert!(early.contains("is not valid before"), "{early}");

        let mut forged = list(&one, 9).der().to_vec();
        *forged.last_mut().unwrap() ^= 1;
        let forged = Crl::from_der(forged).unwrap();
        assert!(matches!(refused(&[forged, list(&two, 4)], now()), CrlSetError::Invalid { number: 9, .. }));
    }

    #[test]
    fn a_mounted_set_is_accepted_only_as_a_whole() {
        use crate::{ClientFiles, RevocationReason, RevokedCertificate, ServerFiles};

        let root = sample::root();
        let key = sample::key();
        let server = sample::issue(&root, &sample::leaf_profile(Usage::Server), &key);
        let client = sample::issue(&root, &sample::leaf_profile(Usage::Client), &key);
        let (server_pem, client_pem, key_pem) = (server.to_pem(), client.to_pem(), key.to_pem());
        let (ca, crl) = (root.certificate().to_pem(), list(&root, 1).to_pem());

        let files = ServerFiles::check(&server_pem, &key_pem, &ca, &crl, now()).unwrap();
        assert_eq!(files.certificate, server);
        assert_eq!(files.crls[0].number(), 1);
        ClientFiles::check(&client_pem, &key_pem, &ca, now()).unwrap();

        let refused = |crt: &str, key: &str, ca: &str, crl: &str| {
            ServerFiles::check(crt, key, ca, crl, now()).unwrap_err().to_string()
        };
        assert!(refused("", &key_pem, &ca, &crl).starts_with("tls.crt: the certificate holds no PEM block"));
        assert!(
            refused(&server_pem, "", &ca, &crl).starts_with("tls.key: the private key holds no PEM block")
        );
        assert!(
            refused(&server_pem, &key_pem, "", &crl)
                .starts_with("ca.crt: the certificate holds no PEM block")
        );
        assert!(
            refused(&server_pem, &key_pem, &ca, "")
                .starts_with("ca.crl: the revocation list holds no PEM block")
        );
        assert!(refused(&server_pem, &sample::key().to_pem(), &ca, &crl).contains("the public keys differ"));
        assert!(refused(&client_pem, &key_pem, &ca, &crl).contains("not for use as a server"));
        let other = second_root();
        assert!(
            refused(&server_pem, &key_pem, &other.certificate().to_pem(), &crl)
                .starts_with("tls.crt against ca.crt")
        );
        assert!(
            refused(&server_pem, &key_pem, &ca, &list(&other, 1).to_pem())
                .starts_with("ca.crl against ca.crt")
        );
        let revoked = RevokedCertificate {
            serial: server.serial(),
            revoked_at: now(),
            reason: RevocationReason::Superseded,
        };
        let contents = CrlContents { revoked: vec![revoked], ..sample::empty_list(2) };
        let crl = root.sign_crl(&contents, now()).unwrap().to_pem();
        assert_eq!(refused(&server_pem, &key_pem, &ca, &crl), "tls.crt is revoked by ca.crl");
    }

    #[test]
    fn a_root_that_may_not_sign_vouches_for_nobody() {
        // The same name and key, but the certificate of a leaf.
        let root = sample::root();
        let mut profile = sample::leaf_profile(Usage::Client);
        profile.subject = Subject::new("device001").unwrap();
        let leaf = sample::issue(&root, &profile, root.key());
        let bundle = TrustBundle::new([leaf.clone()]);
        assert!(bundle.verify(&leaf, Usage::Client, now()).is_err());
    }
}
