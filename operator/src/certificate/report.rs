//! What is told of a certificate: the status, and when to look again because it will be different.

use std::time::Duration;

use api::conditions::{self, Reason, Verdict};
use api::{CertificateState, HolderStatus};
use jiff::Timestamp;

use super::{Current, Outcome, Standing};

/// The status of a holder whose certificate was looked after.
pub fn status(
    outcome: &Outcome,
    before: Option<&HolderStatus>,
    generation: Option<i64>,
    now: Timestamp,
) -> HolderStatus {
    let current = outcome.current.as_ref();
    let state = state(outcome, now);
    let overdue = current.filter(|_| state == CertificateState::RenewalOverdue);
    let verdicts = [
        (conditions::READY, Some(ready(outcome, now))),
        (conditions::RENEWAL_OVERDUE, overdue.map(|current| self::overdue(current, &outcome.ready))),
        (conditions::DEGRADED, outcome.degraded.clone()),
    ];
    let mut conditions = before.map(|status| status.conditions.clone()).unwrap_or_default();
    for (type_, verdict) in verdicts {
        match verdict {
            Some(verdict) => conditions::set(&mut conditions, type_, &verdict, generation, now),
            // Trouble that is over is not told any more.
            None => conditions.retain(|condition| condition.type_ != type_),
        }
    }
    HolderStatus {
        observed_generation: generation,
        state: Some(state),
        certificate: current.map(|current| current.certificate.clone()),
        superseded: current.map(|current| current.superseded.clone()).unwrap_or_default(),
        revocation: outcome.revocation.clone(),
        conditions,
    }
}

/// How long until something is due, or told otherwise: the next try, the renewal, the end.
pub fn look_again_in(outcome: &Outcome, now: Timestamp) -> Option<Duration> {
    let current = outcome.current.as_ref().map(|current| &current.certificate);
    let moments = current.into_iter().flat_map(|c| [c.renewal_time.0, c.not_after.0]);
    let until = moments.filter(|moment| *moment > now).map(|moment| {
        // Just past it: whole seconds are not over at their beginning.
        Duration::try_from(moment.duration_since(now)).unwrap_or_default() + Duration::from_millis(1100)
    });
    let asked =
        outcome.look_at.map(|moment| Duration::try_from(moment.duration_since(now)).unwrap_or_default());
    until.chain(outcome.retry_in).chain(asked).min()
}

fn state(outcome: &Outcome, now: Timestamp) -> CertificateState {
    match outcome.standing {
        Standing::InForce => {}
        Standing::Suspended => return CertificateState::Suspended,
        Standing::Revoked(_) => return CertificateState::Revoked,
    }
    match &outcome.current {
        Some(Current { certificate, .. }) if certificate.not_after.0 < now => CertificateState::Expired,
        Some(Current { certificate, .. }) if certificate.renewal_time.0 <= now => {
            CertificateState::RenewalOverdue
        }
        Some(_) => CertificateState::Valid,
        None if matches!(outcome.ready.reason, Reason::WaitingForRoot | Reason::Issuing) => {
            CertificateState::Pending
        }
        None => CertificateState::Failed,
    }
}

/// The truth now: what was said of a certificate does not outlive it.
fn ready(outcome: &Outcome, now: Timestamp) -> Verdict {
    match &outcome.current {
        _ if outcome.standing != Standing::InForce => outcome.ready.clone(),
        Some(Current { certificate, .. }) if certificate.not_after.0 < now => Verdict::no(
            Reason::Expired,
            format!("the certificate expired at {}: {}", certificate.not_after.0, outcome.ready.message),
        ),
        _ => outcome.ready.clone(),
    }
}

fn overdue(current: &Current, ready: &Verdict) -> Verdict {
    let due = current.certificate.renewal_time.0;
    Verdict::yes(Reason::RenewalOverdue, format!("renewal is due since {due}: {}", ready.message))
}

#[cfg(test)]
mod tests {
    use api::CertificateStatus;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn outcome(ready: Verdict) -> Outcome {
        let certificate = CertificateStatus {
            serial_number: "0a".into(),
            fingerprint: "ff".into(),
            not_before: Time(at(0)),
            not_after: Time(at(1000)),
            renewal_time: Time(at(600)),
            root_generation: 1,
            secret_name: "s".into(),
        };
        let current = Some(Current { certificate, superseded: Vec::new() });
        Outcome { current, ..Outcome::of(ready) }
    }

    #[test]
    fn an_expired_certificate_is_not_ready_whatever_was_said_before() {
        let outcome = outcome(Verdict::yes(Reason::Valid, "all is well"));
        let told = status(&outcome, None, Some(3), at(1001));
        assert_eq!(told.state, Some(CertificateState::Expired));
        assert!(!conditions::holds(&told.conditions, conditions::READY));
        assert_eq!(told.conditions[0].reason, "Expired");
    }

    #[test]
    fn a_late_renewal_is_told_and_taken_back() {
        let outcome = outcome(Verdict::yes(Reason::Valid, "the root is away"));
        let late = status(&outcome, None, None, at(700));
        assert_eq!(late.state, Some(CertificateState::RenewalOverdue));
        assert!(conditions::holds(&late.conditions, conditions::READY));
        assert!(conditions::holds(&late.conditions, conditions::RENEWAL_OVERDUE));
        let later = status(&outcome, Some(&late), None, at(800));
        assert_eq!(later, late, "nothing changed, nothing is written");
        let fine = status(&outcome, Some(&late), None, at(500));
        assert_eq!(fine.conditions.len(), 1);
    }

    #[test]
    fn it_is_looked_at_again_when_something_is_due() {
        let mut outcome = outcome(Verdict::yes(Reason::Valid, ""));
        assert_eq!(look_again_in(&outcome, at(590)).unwrap().as_secs(), 11);
        assert_eq!(look_again_in(&outcome, at(600)).unwrap().as_secs(), 401);
        outcome.retry_in = Some(Duration::from_secs(5));
        assert_eq!(look_again_in(&outcome, at(590)).unwrap().as_secs(), 5);
        assert_eq!(look_again_in(&outcome, at(2000)).unwrap().as_secs(), 5);
    }
}
