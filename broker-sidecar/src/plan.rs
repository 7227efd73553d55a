//! From what is known and what is seen to the next step.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::process::Process;

/// First wait after a reload that could not be proved; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_mins(1);

/// Names the content of files: the beginning of its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version([u8; 8]);

/// What the sidecar remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The set in place.
    pub(crate) set: Option<Version>,
    /// When certificates or CRLs of the set in place run out.
    pub(crate) ends: Vec<Timestamp>,
    /// The ACL in place.
    pub(crate) acl: Option<Version>,
    /// The last reload.
    pub(crate) reload: Option<Reload>,
}

/// One try to make the broker use what was in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reload {
    pub(crate) process: Process,
    pub(crate) set: Option<Version>,
    pub(crate) acl: Option<Version>,
    pub(crate) at: Timestamp,
    /// How many tries in a row were not proved; 0 after a proof.
    pub(crate) failures: u32,
}

/// What one look shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The mounted set, if it is good.
    pub(crate) set: Option<Version>,
    /// The mounted ACL, if it is good.
    pub(crate) acl: Option<Version>,
    /// The running broker.
    pub(crate) process: Option<Process>,
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Put the mounted set where the broker reads it.
    PlaceSet,
    /// Put the mounted ACL where the broker reads it.
    PlaceAcl,
    /// Have the broker read what is in place, and prove it.
    Reload(Process, Because),
    /// Nothing is due.
    Wait,
}

/// Why a reload is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Because {
    /// What a broker reads at its start may be half of one set and half of the next: it is asked to read again.
    BrokerStarted,
    SetReplaced,
    AclReplaced,
    /// Something in the set has run out: tickets issued before are to be forgotten.
    Ended(Timestamp),
    Unproved,
    Interval,
}

/// What to do next. `now` is the time of the look.
pub(crate) fn plan(known: &Known, seen: &Seen, now: Timestamp, reload_every: Duration) -> Action {
    let complete = known.set.is_some() && known.acl.is_some();
    let process = seen.process.filter(|_| complete);
    let reload = known.reload.as_ref().filter(|reload| Some(reload.process) == process);

    // A starting broker is reading: files are not changed under it before it has answered once.
    if let (Some(process), None) = (process, reload) {
        return Action::Reload(process, Because::BrokerStarted);
    }
    if seen.set.is_some() && seen.set != known.set {
        return Action::PlaceSet;
    }
    if seen.acl.is_some() && seen.acl != known.acl {
        return Action::PlaceAcl;
    }
    match reload.and_then(|reload| Some((reload.process, why(known, reload, now, reload_every)?))) {
        Some((process, because)) => Action::Reload(process, because),
        None => Action::Wait,
    }
}

/// Why a broker that has been asked to reload before has to do it again.
fn why(known: &Known, last: &Reload, now: Timestamp, reload_every: Duration) -> Option<Because> {
    let passed = |wait: Duration| now.duration_since(last.at).unsigned_abs() >= wait;
    let ended = |end: &&Timestamp| !has_passed(**end, last.at) && has_passed(**end, now);
    if last.set != known.set {
        Some(Because::SetReplaced)
    } else if last.acl != known.acl {
        Some(Because::AclReplaced)
    } else if last.failures > 0 {
        passed(pause(last.failures)).then_some(Because::Unproved)
    } else if let Some(end) = known.ends.iter().find(ended) {
        Some(Because::Ended(*end))
    } else {
        passed(reload_every).then_some(Because::Interval)
    }
}

/// Whether something that is valid until `end` is not any more. X.509 times are whole seconds; the last one counts.
pub(crate) fn has_passed(end: Timestamp, now: Timestamp) -> bool {
    now.duration_since(end).as_secs() >= 1
}

/// The pause after so many failures in a row.
fn pause(failures: u32) -> Duration {
    RETRY_MIN.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(RETRY_MAX)
}

impl Version {
    /// The version of these contents, in this order.
    pub(crate) fn of(contents: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for content in contents {
            hash.update((content.len() as u64).to_be_bytes());
            hash.update(content);
        }
        let mut version = [0; 8];
        version.copy_from_slice(&hash.finalize()[..8]);
        Self(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl fmt::Display for Because {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BrokerStarted => out.write_str("the broker has started"),
            Self::SetReplaced => out.write_str("certificates or CRLs were replaced"),
            Self::AclReplaced => out.write_str("the ACL was replaced"),
            Self::Ended(at) => write!(out, "something in the set ended at {at}"),
            Self::Unproved => out.write_str("the last reload could not be proved"),
            Self::Interval => out.write_str("the last reload was long ago"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_mins(15);
    const BROKER: Process = Process { pid: 12, started: 100 };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn version(name: &str) -> Version {
        Version::of(&[name])
    }

    /// Set "a" and ACL "x" are in place and mounted, and the broker was proved to use them at second 0.
    fn settled() -> (Known, Seen) {
        let (set, acl) = (Some(version("a")), Some(version("x")));
        let reload = Reload { process: BROKER, set, acl, at: at(0), failures: 0 };
        let known = Known { set, ends: vec![at(400)], acl, reload: Some(reload) };
        (known, Seen { set, acl, process: Some(BROKER) })
    }

    fn next(known: &Known, seen: &Seen, second: i64) -> Action {
        plan(known, seen, at(second), EVERY)
    }

    fn reload(because: Because) -> Action {
        Action::Reload(BROKER, because)
    }

    #[test]
    fn files_are_in_place_before_a_broker_is_looked_for() {
        let mut known = Known::default();
        let (_, seen) = settled();
        assert_eq!(next(&known, &seen, 0), Action::PlaceSet);
        known.set = Some(version("a"));
        assert_eq!(next(&known, &seen, 0), Action::PlaceAcl);
        known.acl = Some(version("x"));
        assert_eq!(next(&known, &Seen { process: None, ..seen.clone() }, 0), Action::Wait);
        assert_eq!(next(&known, &seen, 0), reload(Because::BrokerStarted));
    }

    #[test]
    fn nothing_happens_while_nothing_changes() {
        let (known, seen) = settled();
        assert_eq!(next(&known, &seen, 399), Action::Wait);
    }

    #[test]
    fn a_new_set_is_placed_and_then_loaded() {
        let (mut known, mut seen) = settled();
        seen.set = Some(version("b"));
        assert_eq!(next(&known, &seen, 1), Action::PlaceSet);
        known.set = Some(version("b"));
        assert_eq!(next(&known, &seen, 1), reload(Because::SetReplaced));
    }

    #[test]
    fn a_new_acl_is_placed_and_then_loaded() {
        let (mut known, mut seen) = settled();
        seen.acl = Some(version("y"));
        assert_eq!(next(&known, &seen, 1), Action::PlaceAcl);
        known.acl = Some(version("y"));
        assert_eq!(next(&known, &seen, 1), reload(Because::AclReplaced));
    }

    #[test]
    fn a_refused_set_leaves_the_broker_alone() {
        let (known, mut seen) = settled();
        seen.set = None;
        seen.acl = None;
        assert_eq!(next(&known, &seen, 1), Action::Wait);
    }

    #[test]
    fn a_broker_that_came_back_is_asked_to_load_before_files_change_under_it() {
        let (known, mut seen) = settled();
        seen.set = Some(version("b"));
        seen.process = Some(Process { started: 200, ..BROKER });
        let Action::Reload(process, Because::BrokerStarted) = next(&known, &seen, 1) else { panic!() };
        assert_eq!(process.started, 200);
    }

    #[test]
    fn tickets_are_forgotten_once_something_has_ended_and_at_least_every_interval() {
        let (mut known, seen) = settled();
        assert_eq!(next(&known, &seen, 400), Action::Wait);
        assert_eq!(next(&known, &seen, 401), reload(Because::Ended(at(400))));
        if let Some(reload) = &mut known.reload {
            reload.at = at(401);
        }
        assert_eq!(next(&known, &seen, 402), Action::Wait);
        assert_eq!(next(&known, &seen, 401 + 899), Action::Wait);
        assert_eq!(next(&known, &seen, 401 + 900), reload(Because::Interval));
    }

    #[test]
    fn a_reload_that_was_not_proved_is_tried_again_less_and_less_often() {
        let (mut known, seen) = settled();
        for (failures, wait) in [(1, 1), (2, 2), (3, 4), (7, 60), (4_000, 60)] {
            if let Some(reload) = &mut known.reload {
                reload.failures = failures;
            }
            assert_eq!(next(&known, &seen, wait - 1), Action::Wait, "{failures}");
            assert_eq!(next(&known, &seen, wait), reload(Because::Unproved), "{failures}");
        }
    }

    #[test]
    fn a_new_set_does_not_wait_for_a_reload_that_fails() {
        let (mut known, mut seen) = settled();
        if let Some(reload) = &mut known.reload {
            reload.failures = 9;
        }
        seen.set = Some(version("b"));
        assert_eq!(next(&known, &seen, 1), Action::PlaceSet);
    }
}
