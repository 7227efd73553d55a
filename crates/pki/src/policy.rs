//! Whether a certificate that was issued is still what is asked for.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::certificate::Certificate;
use crate::crl::RevocationReason;
use crate::key::{PrivateKey, PublicKey};
use crate::renewal::renewal_time;

/// A certificate that begins later than this from now is of no use. What an hour's step of the clock did mends itself.
pub const AHEAD: Duration = Duration::from_hours(24);

/// What the Secret of a certificate holds: its data, and what was noted when it was issued.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stored<'a> {
    /// `tls.crt`.
    pub certificate: Option<&'a str>,
    /// `tls.key`.
    pub key: Option<&'a str>,
    /// What was noted.
    pub noted: Noted<'a>,
}

/// What was noted when a certificate was issued.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noted<'a> {
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
    /// It was issued when the clock was far ahead, and nobody accepts it for a long time.
    NotYetValid {
        /// When it begins.
        not_before: Timestamp,
    },
    /// The generation is right, but the root is another: it was deleted and made anew, or somebody replaced the certificate.
    NotSignedByRoot,
    /// It was revoked for good, and the holder is in service again.
    Revoked {
        /// Why it was revoked.
        reason: RevocationReason,
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
    let (not_before, not_after) = (certificate.not_before(), certificate.not_after());
    if let Some(because) = outgrown(&stored.noted, not_before, not_after, wanted, now) {
        return Err(because);
    }
    if !certificate.names_as_issuer(wanted.root) || certificate.check_signed_by(wanted.root).is_err() {
        return Err(IssueReason::NotSignedByRoot);
    }
    Ok((certificate, renewal_time(not_before, not_after, wanted.renew_before, wanted.seed)))
}

/// Why a certificate whose data are right is to be followed by a new one, by its dates and what was `noted` of it alone.
pub fn outgrown(
    noted: &Noted<'_>,
    not_before: Timestamp,
    not_after: Timestamp,
    wanted: &Wanted<'_>,
    now: Timestamp,
) -> Option<IssueReason> {
    if noted.profile_hash != Some(wanted.profile_hash) {
        return Some(IssueReason::ProfileChanged);
    }
    if noted.root_generation != Some(wanted.root_generation) {
        let (from, to) = (noted.root_generation, wanted.root_generation);
        return Some(IssueReason::RootGenerationChanged { from, to });
    }
    if let Some(trigger) = wanted.trigger
        && noted.trigger != Some(trigger)
    {
        return Some(IssueReason::Triggered { trigger: trigger.to_owned() });
    }
    if not_before > now + AHEAD {
        return Some(IssueReason::NotYetValid { not_before });
    }
    let since = renewal_time(not_before, not_after, wanted.renew_before, wanted.seed);
    (since <= now).then_some(IssueReason::RenewalDue { since, not_after })
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
            Self::Revoked { .. } => "Revoked",
            Self::Triggered { .. } => "Triggered",
            Self::RenewalDue { .. } => "RenewalDue",
            Self::NotYetValid { .. } => "NotYetValid",
        }
    }
}

impl fmt::Display for IssueReason {
    /// A clause that fits behind "because".
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
            Self::Revoked { reason } => write!(f, "the certificate before it was revoked ({reason})"),
            Self::Triggered { trigger } => write!(f, "spec.renewal.trigger changed to {trigger:?}"),
            Self::NotYetValid { not_before } => {
                write!(f, "it is not valid before {not_before}: the clock was ahead when it was issued")
            }
            Self::RenewalDue { since, not_after } => {
                write!(f, "renewal is due since {since}; the certificate expires at {not_after}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Usage;
    use crate::sample::{self, DAY, now};

    #[test]
    fn the_first_thing_that_is_wrong_is_the_reason_to_issue() {
        let (root, other) = (sample::root(), sample::root());
        let (key, stranger) = (sample::key(), sample::key());
        let profile = sample::leaf_profile(Usage::Client);
        let leaf = sample::issue(&root, &profile, &key).to_pem();
        let (key, stranger) = (key.to_pem(), stranger.to_pem());
        let hash = profile.hash();

        // Everything is wrong at once. From one line to the next one thing is put right, and the next reason shows.
        let mut wanted = Wanted {
            profile_hash: &hash,
            root: other.certificate(),
            root_generation: 2,
            trigger: Some("monday"),
            key_holder: KeyHolder::Secret,
            renew_before: None,
            seed: "uid",
        };
        let mut now = now() + 100 * DAY;
        let mut stored = Stored::default();
        let reason =
            |stored: Option<&Stored<'_>>, wanted: &Wanted<'_>, now| match examine(stored, wanted, now) {
                Verdict::Issue { because } => because.to_string(),
                Verdict::Keep { .. } => "keep".to_owned(),
            };

        assert_eq!(reason(None, &wanted, now), "there is no Secret with a certificate yet");
        assert_eq!(reason(Some(&stored), &wanted, now), "the Secret cannot be used: tls.crt is missing");
        stored.certificate = Some(&leaf);
        assert_eq!(reason(Some(&stored), &wanted, now), "the Secret cannot be used: tls.key is missing");
        stored.key = Some(&stranger);
        assert_eq!(reason(Some(&stored), &wanted, now), "the key does not belong to the certificate");
        stored.key = Some(&key);
        assert_eq!(
            reason(Some(&stored), &wanted, now),
            "the spec asks for something else than what was issued"
        );
        stored.noted.profile_hash = Some(&hash);
        assert_eq!(
            reason(Some(&stored), &wanted, now),
            "generation 2 of the root signs now, and it is not known which one signed it"
        );
        stored.noted.root_generation = Some(1);
        assert_eq!(
            reason(Some(&stored), &wanted, now),
            "generation 2 of the root signs now, it was signed by generation 1"
        );
        wanted.root_generation = 1;
        assert_eq!(reason(Some(&stored), &wanted, now), "spec.renewal.trigger changed to \"monday\"");
        stored.noted.trigger = Some("monday");
        // A third of 90 days before its end is 12:00 on 30 April; the rest is the jitter of this seed.
        assert_eq!(
            reason(Some(&stored), &wanted, now),
            "renewal is due since 2026-04-30T05:19:46Z; the certificate expires at 2026-05-30T12:00:00Z"
        );
        now -= 99 * DAY;
        assert_eq!(reason(Some(&stored), &wanted, now), "the certificate was not signed by the present root");
        wanted.root = root.certificate();
        assert_eq!(reason(Some(&stored), &wanted, now), "keep");
    }

    #[test]
    fn a_trigger_that_is_removed_renews_nothing() {
        let root = sample::root();
        let key = sample::key();
        let profile = sample::leaf_profile(Usage::Client);
        let leaf = sample::issue(&root, &profile, &key);
        let (pem, key, hash) = (leaf.to_pem(), key.to_pem(), profile.hash());
        let stored = Stored {
            certificate: Some(&pem),
            key: Some(&key),
            noted: Noted { profile_hash: Some(&hash), root_generation: Some(1), trigger: Some("monday") },
        };
        let wanted = Wanted {
            profile_hash: &hash,
            root: root.certificate(),
            root_generation: 1,
            trigger: None,
            key_holder: KeyHolder::Secret,
            renew_before: Some(10 * DAY),
            seed: "uid",
        };
        let Verdict::Keep { certificate, renewal_time } = examine(Some(&stored), &wanted, now()) else {
            panic!("it is kept");
        };
        assert_eq!(*certificate, leaf);
        let early = "2026-05-19T12:00:00Z".parse().unwrap()..="2026-05-20T12:00:00Z".parse().unwrap();
        assert!(
            early.contains(&renewal_time),
            "10 days before the end and up to a day earlier: {renewal_time}"
        );
    }

    #[test]
    fn a_device_that_keeps_its_key_needs_none_in_the_secret_but_gets_a_new_certificate_for_a_new_request() {
        let root = sample::root();
        let key = sample::key();
        let profile = sample::leaf_profile(Usage::Client);
        let pem = sample::issue(&root, &profile, &key).to_pem();
        let hash = profile.hash();
        let stored = Stored {
            certificate: Some(&pem),
            noted: Noted { profile_hash: Some(&hash), root_generation: Some(1), trigger: None },
            ..Stored::default()
        };
        let wanted = |public_key| Wanted {
            profile_hash: &hash,
            root: root.certificate(),
            root_generation: 1,
            trigger: None,
            key_holder: KeyHolder::Device(public_key),
            renew_before: None,
            seed: "uid",
        };
        assert!(matches!(examine(Some(&stored), &wanted(key.public_key()), now()), Verdict::Keep { .. }));
        let new = sample::key();
        let because = IssueReason::KeyMismatch;
        assert_eq!(examine(Some(&stored), &wanted(new.public_key()), now()), Verdict::Issue { because });
    }

    #[test]
    fn a_damaged_secret_is_named_with_the_damage() {
        let root = sample::root();
        let stored = Stored { certificate: Some("garbage"), ..Stored::default() };
        let wanted = Wanted {
            profile_hash: "",
            root: root.certificate(),
            root_generation: 1,
            trigger: None,
            key_holder: KeyHolder::Secret,
            renew_before: None,
            seed: "uid",
        };
        let Verdict::Issue { because } = examine(Some(&stored), &wanted, now()) else {
            panic!("it is issued");
        };
        assert_eq!(because.as_str(), "DataUnreadable");
        assert_eq!(
            because.to_string(),
            "the Secret cannot be used: tls.crt: the certificate holds no PEM block: \
             expected -----BEGIN CERTIFICATE-----"
        );
    }
}
