//! What is to be done about a certificate, and why. Pure: time is an argument.

use jiff::Timestamp;
use pki::{IssueReason, RevocationReason, Validity, Verdict, Wanted, examine};

use super::Current;
use super::request::Request;
use super::secret::{Stored, certificate_status};
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
    let wanted = Wanted {
        profile_hash: &profile_hash,
        root: signer.signing.certificate(),
        root_generation: signer.number,
        trigger: request.trigger.as_deref(),
        key_holder: request.key_holder(),
        renew_before: request.renew_before,
        seed,
    };
    let issue = |because| match Validity::plan(
        request.duration(),
        request.renew_before,
        seed,
        signer.signing.certificate(),
        now,
    ) {
        Ok(validity) => Plan::Issue { because, validity },
        Err(problem) => Plan::Fail {
            problem: problem.to_string(),
            current: stored.and_then(|stored| stored.current(request, seed)),
        },
    };
    match examine(stored.map(Stored::facts).as_ref(), &wanted, now) {
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
            if in_order { Plan::Keep { current } } else { Plan::Refresh { current } }
        }
        Verdict::Issue { because } => issue(because),
    }
}
