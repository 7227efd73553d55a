//! Conditions, and the words that stand in them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The type of the condition that every kind has: the object does now what it is for.
pub const READY: &str = "Ready";
/// The type of the condition of a certificate that should have been renewed by now.
pub const RENEWAL_OVERDUE: &str = "RenewalOverdue";
/// The type of the condition of an object that works, but not as it should.
pub const DEGRADED: &str = "Degraded";

/// The type of the condition of a root that is being replaced.
pub const ROTATING: &str = "Rotating";

/// Why a condition has the status that it has; the machine-readable half of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The certificate is valid now: chain, dates, revocation and the root's CRL.
    Valid,
    /// The root has a valid certificate and a CRL in date.
    Active,
    /// A field of the spec cannot be satisfied; the message names it and what to write.
    InvalidSpec,
    /// Waiting for the root that signs.
    WaitingForRoot,
    /// Waiting for the broker.
    WaitingForBroker,
    /// Waiting for a pod to become ready.
    WaitingForPods,
    /// An object of the needed name exists and is not ours.
    NameTaken,
    /// The Secret to adopt a root from is missing or cannot be used; the message says why.
    ImportRefused,
    /// The certificate is being made.
    Issuing,
    /// Making the certificate failed; it is tried again.
    IssueFailed,
    /// The renewal time has passed.
    RenewalOverdue,
    /// The certificate has expired.
    Expired,
    /// The certificate is on hold.
    Suspended,
    /// The certificate is revoked.
    Revoked,
    /// The running broker does not use what is mounted.
    NotLoaded,
    /// The API server refuses an object that is needed; the message says why.
    ApplyRefused,
    /// The root is being replaced; the message tells the phase.
    Rotating,
    /// The replacement of the root stands still because the spec says so.
    Paused,
    /// The CRL has nearly as many entries as a Secret can hold.
    CrlNearlyFull,
    /// All is as it should be (of conditions that tell of trouble).
    AsExpected,
}

impl Reason {
    /// The word as it stands in `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "Valid",
            Self::Active => "Active",
            Self::InvalidSpec => "InvalidSpec",
            Self::WaitingForRoot => "WaitingForRoot",
            Self::WaitingForBroker => "WaitingForBroker",
            Self::WaitingForPods => "WaitingForPods",
            Self::NameTaken => "NameTaken",
            Self::ImportRefused => "ImportRefused",
            Self::Issuing => "Issuing",
            Self::IssueFailed => "IssueFailed",
            Self::RenewalOverdue => "RenewalOverdue",
            Self::Expired => "Expired",
            Self::Suspended => "Suspended",
            Self::Revoked => "Revoked",
            Self::NotLoaded => "NotLoaded",
            Self::ApplyRefused => "ApplyRefused",
            Self::Rotating => "Rotating",
            Self::Paused => "Paused",
            Self::CrlNearlyFull => "CrlNearlyFull",
            Self::AsExpected => "AsExpected",
        }
    }
}

/// A condition's status, its reason, and the sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the condition holds.
    pub holds: bool,
    /// Why.
    pub reason: Reason,
    /// One sentence; of trouble it says what to do.
    pub message: String,
}

impl Verdict {
    /// The condition holds.
    pub fn yes(reason: Reason, message: impl Into<String>) -> Self {
        Self { holds: true, reason, message: message.into() }
    }

    /// The condition does not hold.
    pub fn no(reason: Reason, message: impl Into<String>) -> Self {
        Self { holds: false, reason, message: message.into() }
    }
}

/// Whether the condition `type_` holds.
pub fn holds(conditions: &[Condition], type_: &str) -> bool {
    conditions.iter().any(|c| c.type_ == type_ && c.status == "True")
}

/// Puts `verdict` under `type_`. The time of transition moves only with the status (KEP-1623).
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    verdict: &Verdict,
    generation: Option<i64>,
    now: Timestamp,
) {
    let status = if verdict.holds { "True" } else { "False" };
    let since = conditions.iter().find(|c| c.type_ == type_ && c.status == status).map_or_else(
        || Time(now.round(jiff::Unit::Second).unwrap_or(now)),
        |c| c.last_transition_time.clone(),
    );
    let condition = Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.as_str().to_owned(),
        message: verdict.message.clone(),
        observed_generation: generation,
        last_transition_time: since,
    };
    match conditions.iter_mut().find(|c| c.type_ == type_) {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_message_does_not_move_the_transition_time() {
        let (early, late) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(60).unwrap());
        let mut conditions = Vec::new();
        set(&mut conditions, READY, &Verdict::no(Reason::Issuing, "a"), Some(1), early);
        set(&mut conditions, READY, &Verdict::no(Reason::IssueFailed, "b"), Some(1), late);
        assert_eq!(conditions[0].last_transition_time.0, early);
        assert_eq!(conditions[0].message, "b");
        set(&mut conditions, READY, &Verdict::yes(Reason::Valid, "c"), Some(2), late);
        assert_eq!(conditions[0].last_transition_time.0, late);
        assert_eq!(conditions.len(), 1);
        assert!(holds(&conditions, READY));
    }
}
