//! Whether what is shown of the cluster is all there is: every kind was listed, and each is still followed. That the API server
//! answers is not enough.

use std::collections::{BTreeMap, BTreeSet};

use super::holder::Kind;

/// Of each kind: whether it was listed, and what is wrong with following it.
#[derive(Debug, Default)]
pub(super) struct Watches {
    listed: BTreeSet<Kind>,
    failing: BTreeMap<Kind, Failing>,
}

/// Failures in a row.
#[derive(Debug)]
struct Failing {
    times: u32,
    last: i64,
    problem: String,
}

/// A watch that fails once starts again by itself.
const TIMES: u32 = 2;
/// One that goes on failing does so at least this often: it waits for half a minute at the most.
const WITHIN_MS: i64 = 60_000;

impl Watches {
    /// All objects of `kind` are known.
    pub(super) fn listed(&mut self, kind: Kind) {
        self.listed.insert(kind);
        self.failing.remove(&kind);
    }

    /// The watch of `kind` works.
    pub(super) fn works(&mut self, kind: Kind) {
        self.failing.remove(&kind);
    }

    /// The watch of `kind` has failed, and starts again.
    pub(super) fn failed(&mut self, kind: Kind, problem: String, now: i64) {
        let times = self.failing.get(&kind).map_or(0, |before| before.times) + 1;
        self.failing.insert(kind, Failing { times, last: now, problem });
    }

    /// The API server does not answer: no wonder that watches fail.
    pub(super) fn excused(&mut self) {
        self.failing.clear();
    }

    /// Whether everything was listed.
    pub(super) fn complete(&self) -> bool {
        self.listed.len() == Kind::ALL.len()
    }

    /// What is wrong although the API server answers.
    pub(super) fn problem(&mut self, now: i64) -> Option<String> {
        self.failing.retain(|_, failing| now - failing.last <= WITHIN_MS);
        self.failing.values().find(|failing| failing.times >= TIMES).map(|failing| failing.problem.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_known_when_every_kind_was_listed() {
        let mut watches = Watches::default();
        for kind in Kind::ALL {
            assert!(!watches.complete());
            watches.listed(kind);
        }
        assert!(watches.complete());
    }

    #[test]
    fn a_watch_that_goes_on_failing_is_a_problem_until_it_works() {
        let mut watches = Watches::default();
        watches.failed(Kind::RootCA, "a".into(), 0);
        assert_eq!(watches.problem(1), None, "it starts again");
        watches.failed(Kind::RootCA, "b".into(), 1_000);
        assert_eq!(watches.problem(1_001), Some("b".into()));
        assert_eq!(watches.problem(1_000 + WITHIN_MS + 1), None, "it has not failed since");
        for at in [0, 1] {
            watches.failed(Kind::RootCA, "c".into(), at);
        }
        watches.works(Kind::RootCA);
        assert_eq!(watches.problem(2), None);
    }

    #[test]
    fn an_outage_of_the_api_server_is_not_told_twice() {
        let mut watches = Watches::default();
        for at in [0, 1] {
            watches.failed(Kind::IotDevice, "reset".into(), at);
        }
        watches.excused();
        assert_eq!(watches.problem(2), None);
    }
}
