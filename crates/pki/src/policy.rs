//! Whether a certificate that was issued is still what is asked for.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::certificate::Certificate;
use crate::key::{PrivateKey, PublicKey};
use crate::renewal::renewal_time;

/// What the Secret of a certificate holds: its data, and what was noted when it was issued.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stored<'a> {
    /// `tls.crt`.
    pub certificate: Option<&'a str>,
    /// `tls.key`.
    pub key: Option<&'a str>,
    /// [`crate::LeafProfile::hash`] at the time.
    pub profile_hash: Option<&'a str>,
    /// The generation of the root that signed it.
    pub root_generation: Option<u32>,
    /// The trigger that was served last.
    pub trigger: Option<&'a str>,
}

/// What the spec and the root ask for now.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// [`crate::LeafProfile::hash`] of the profile as it is now.
    pub profile_hash: &'a str,
    /// The root that signs now.
    pub root: &'a Certificate,
    /// The generation of that root.
    pub root_generation: u32,
    /// The trigger in the spec; none asks for nothing.
    pub trigger: Option<&'a str>,
    /// Who holds the private key.
    pub key_holder: KeyHolder<'a>,
    /// How long before its end the certificate is renewed; none is a third of its life.
    pub renew_before: Option<Duration>,
    /// The UID of the object, which moves the renewal time.
    pub seed: &'a str,
}

/// Where the private key of a certificate is.
#[derive(Clone, Copy, Debug)]
pub enum KeyHolder<'a> {
    /// In the Secret, beside the certificate.
    Secret,
    /// In the device, which sent a signing request for this public key.
    Device(&'a PublicKey),
}

/// What is to be done about a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing, until it is due.
    Keep {
        /// The certificate in the Secret.
        certificate: Box<Certificate>,
        /// When it is to be renewed.
        renewal_time: Timestamp,
    },
    /// Issue a new one.
    Issue {
        /// Why.
        because: IssueReason,
    },
}

/// Why a certificate is issued. The order is that of the checks: the first that applies is the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssueReason {
    /// There is no Secret.
    SecretMissing,
    /// The Secret lacks data, or the data cannot be read.
    DataUnreadable {
        /// What is wrong with which part.
        what: String,
    },
    /// The certificate is not for the key beside it, or not for the signing request's.
    KeyMismatch,
    /// The spec asks for something else than what was issued.
    ProfileChanged,
    /// Another generation of the root signs now.
    RootGenerationChanged {
        /// The generation that signed it, if it was noted.
        from: Option<u32>,
        /// The generation that signs now.
        to: u32,
    },
    /// The generation is right, but the root is another: it was deleted and made anew, or somebody replaced the certificate.
    NotSignedByRoot,
    /// The trigger in the spec has a new value.
    Triggered {
        /// The new value.
        trigger: String,
    },
    /// It is time.
    RenewalDue {
        /// Since when.
        since: Timestamp,
        /// When the certificate expires.
        not_after: Timestamp,
    },
}

/// Whether the certificate in `stored` (none: there is no Secret) is still what is `wanted`.
pub fn examine(stored: Option<&Stored<'_>>, wanted: &Wanted<'_>, now: Timestamp) -> Verdict {
    match keep(stored, wanted, now) {
        Ok((certificate, renewal_time)) => Verdict::Keep { certificate: Box::new(certificate), renewal_time },
        Err(because) => Verdict::Issue { because },
    }
}

fn keep(
    stored: Option<&Stored<'_>>,
    wanted: &Wanted<'_>,
    now: Timestamp,
) -> Result<(Certificate, Timestamp), IssueReason> {
    let stored = stored.ok_or(IssueReason::SecretMissing)?;
    let certificate = read_certificate(stored)?;
    let matches = match wanted.key_holder {
        KeyHolder::Secret => read_key(stored)?.public_key().fits(&certificate),
        KeyHolder::Device(public_key) => public_key.fits(&certificate),
    };
    if !matches {
        return Err(IssueReason::KeyMismatch);
    }
    if stored.profile_hash != Some(wanted.profile_hash) {
        return Err(IssueReason::ProfileChanged);
    }
    if stored.root_generation != Some(wanted.root_generation) {
        let (from, to) = (stored.root_generation, wanted.root_generation);
        return Err(IssueReason::RootGenerationChanged { from, to });
    }
    if !certificate.names_as_issuer(wanted.root) || certificate.check_signed_by(wanted.root).is_err() {
        return Err(IssueReason::NotSignedByRoot);
    }
    if let Some(trigger) = wanted.trigger
        && stored.trigger != Some(trigger)
    {
        return Err(IssueReason::Triggered { trigger: trigger.to_owned() });
    }
    let (not_before, not_after) = (certificate.not_before(), certificate.not_after());
    let due = renewal_time(not_before, not_after, wanted.renew_before, wanted.seed);
    if due <= now {
        return Err(IssueReason::RenewalDue { since: due, not_after });
    }
    Ok((certificate, due))
}

fn read_certificate(stored: &Stored<'_>) -> Result<Certificate, IssueReason> {
    let text = stored.certificate.ok_or_else(|| unreadable("tls.crt is missing"))?;
    Certificate::from_pem(text).map_err(|error| unreadable(format!("tls.crt: {error}")))
}

fn read_key(stored: &Stored<'_>) -> Result<PrivateKey, IssueReason> {
    let text = stored.key.ok_or_else(|| unreadable("tls.key is missing"))?;
    PrivateKey::from_pem(text).map_err(|error| unreadable(format!("tls.key: {error}")))
}

fn unreadable(what: impl Into<String>) -> IssueReason {
    IssueReason::DataUnreadable { what: what.into() }
}

impl IssueReason {
    /// One word for conditions and metrics, in Kubernetes' spelling.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::SecretMissing => "SecretMissing",
            Self::DataUnreadable { .. } => "DataUnreadable",
            Self::KeyMismatch => "KeyMismatch",
            Self::ProfileChanged => "ProfileChanged",
            Self::RootGenerationChanged { .. } => "RootGenerationChanged",
            Self::NotSignedByRoot => "NotSignedByRoot",
            Self::Triggered { .. } => "Triggered",
            Self::RenewalDue { .. } => "RenewalDue",
        }
    }
}

impl fmt::Display for IssueReason {
    /// A clause that fits behind "because": `its Secret is missing`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SecretMissing => f.write_str("there is no Secret with a certificate yet"),
            Self::DataUnreadable { what } => write!(f, "the Secret cannot be used: {what}"),
            Self::KeyMismatch => f.write_str("the key does not belong to the certificate"),
            Self::ProfileChanged => f.write_str("the spec asks for something else than what was issued"),
            Self::RootGenerationChanged { from: Some(from), to } => {
                write!(f, "generation {to} of the root signs now, it was signed by generation {from}")
            }
            Self::RootGenerationChanged { from: None, to } => {
                write!(f, "generation {to} of the root signs now, and it is not known which one signed it")
            }
            Self::NotSignedByRoot => f.write_str("the certificate was not signed by the present root"),
            Self::Triggered { trigger } => write!(f, "spec.renewal.trigger changed to {trigger:?}"),
            Self::RenewalDue { since, not_after } => {
                write!(f, "renewal is due since {since}; the certificate expires at {not_after}")
            }
        }
    }
}
