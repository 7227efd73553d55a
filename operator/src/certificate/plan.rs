//! What is to be done about a certificate, and why. Pure: time is an argument.

use api::CertificateStatus;
use jiff::Timestamp;
use pki::{IssueReason, Noted, RevocationReason, Validity, Verdict, Wanted, examine, outgrown};

use super::Current;
use super::request::Request;
use super::secret::{Pair, Stored, certificate_status};
use crate::roots::{Signer, UsableRoot};

/// What is to be done about a certificate.
#[derive(Debug)]
pub enum Plan {
    /// Nothing, until the renewal time.
    Keep {
        /// The certificate.
        current: Current,
    },
    /// The pair is right, but what stands beside it is not.
    Refresh {
        /// The certificate.
        current: Current,
        /// It and its key, as they stand.
        pair: Pair,
    },
    /// A new pair.
    Issue {
        /// Why.
        because: IssueReason,
        /// From when to when.
        validity: Validity,
    },
    /// A new pair is needed, and none would be any good.
    Fail {
        /// Why not.
        problem: String,
        /// The certificate that is there meanwhile.
        current: Option<Current>,
    },
}

/// What is to be done about the certificate in `stored` so that it is what is asked for. `in_order`: what stands beside the pair
/// is as it should be.
pub fn plan(
    request: &Request,
    stored: Option<&Stored>,
    in_order: bool,
    (root, signer): (&UsableRoot, &Signer),
    seed: &str,
    now: Timestamp,
) -> Plan {
    let profile_hash = request.profile(signer).hash();
    let current = || stored.and_then(|stored| stored.current(request, seed));
    let issue = |because| issue(because, request, signer, seed, now, current);
    match examine(stored.map(Stored::facts).as_ref(), &wanted(request, signer, &profile_hash, seed), now) {
        Verdict::Keep { certificate, .. } => {
            if let Some(problem) = stored.and_then(|stored| stored.not_the_issued_one(&certificate)) {
                return issue(IssueReason::DataUnreadable { what: problem });
            }
            let listed = root.revoked.reason(certificate.serial());
            if let Some(reason) = listed.filter(|reason| *reason != RevocationReason::CertificateHold) {
                return issue(IssueReason::Revoked { reason });
            }
            let certificate = certificate_status(&certificate, request, signer.number, seed);
            let superseded = stored.map(Stored::superseded).unwrap_or_default();
            let current = Current { certificate, superseded };
            match stored.and_then(|stored| stored.pair(request)) {
                Some(pair) if !in_order => Plan::Refresh { current, pair },
                _ => Plan::Keep { current },
            }
        }
        Verdict::Issue { because } => issue(because),
    }
}

/// The same for a Secret whose data are known to be right, by what was `noted` in its metadata. None: that asks for nothing, and
/// the Secret has to be read.
pub fn renewal(
    request: &Request,
    noted: &Noted<'_>,
    current: &Current,
    signer: &Signer,
    seed: &str,
    now: Timestamp,
) -> Option<Plan> {
    let profile_hash = request.profile(signer).hash();
    let CertificateStatus { not_before, not_after, .. } = &current.certificate;
    let wanted = wanted(request, signer, &profile_hash, seed);
    let because = outgrown(noted, not_before.0, not_after.0, &wanted, now)?;
    Some(issue(because, request, signer, seed, now, || Some(current.clone())))
}

fn wanted<'a>(request: &'a Request, signer: &'a Signer, profile_hash: &'a str, seed: &'a str) -> Wanted<'a> {
    Wanted {
        profile_hash,
        root: signer.signing.certificate(),
        root_generation: signer.number,
        trigger: request.trigger.as_deref(),
        key_holder: request.key_holder(),
        renew_before: request.renew_before,
        seed,
    }
}

/// A new pair, if one would be any good; `current` is there meanwhile.
fn issue(
    because: IssueReason,
    request: &Request,
    signer: &Signer,
    seed: &str,
    now: Timestamp,
    current: impl FnOnce() -> Option<Current>,
) -> Plan {
    let root = signer.signing.certificate();
    match Validity::plan(request.duration(), request.renew_before, seed, root, now) {
        Ok(validity) => Plan::Issue { because, validity },
        Err(problem) => Plan::Fail { problem: problem.to_string(), current: current() },
    }
}
