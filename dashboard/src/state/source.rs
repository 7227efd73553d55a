//! Where the state comes from, and since when it does or does not.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

/// Both sources.
#[derive(Debug, JsonSchema, Serialize)]
pub struct Sources {
    /// The Kubernetes API: resources and their certificates.
    pub api: Source,
    /// The MQTT broker: readings, connections, log.
    pub broker: Source,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Source {
    /// How it is.
    pub health: Health,
    /// Since when, in milliseconds since 1970.
    pub since: i64,
    /// What is wrong, for people.
    pub problem: Option<String>,
    /// Whether it has ever answered: what is not there is not known before.
    #[serde(rename = "everUp")]
    pub ever_up: bool,
}

/// How a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Nothing came of it yet, neither an answer nor an error.
    Connecting,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

// === impl Sources ===

impl Sources {
    /// Nothing known yet.
    pub fn new(now: Timestamp) -> Self {
        let source =
            Source { health: Health::Connecting, since: now.as_millisecond(), problem: None, ever_up: false };
        Self { api: source.clone(), broker: source }
    }
}

// === impl Source ===

impl Source {
    /// It answers. Says whether that is news.
    pub fn up(&mut self, now: Timestamp) -> bool {
        self.become_(Health::Up, None, now)
    }

    /// It does not, because of `problem`. `since` stays at the first failure. Says whether that is news.
    pub fn down(&mut self, problem: String, now: Timestamp) -> bool {
        self.become_(Health::Down, Some(problem), now)
    }

    fn become_(&mut self, health: Health, problem: Option<String>, now: Timestamp) -> bool {
        if self.health == health && self.problem == problem {
            return false;
        }
        if self.health != health {
            self.since = now.as_millisecond();
        }
        self.ever_up |= health == Health::Up;
        self.health = health;
        self.problem = problem;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_counts_from_its_first_failure() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut source = Sources::new(at(0)).api;
        assert!(source.up(at(1)));
        assert!(!source.up(at(2)));
        assert!(source.down("connection refused".into(), at(3)));
        assert!(source.down("timed out".into(), at(9)));
        assert_eq!((source.health, source.since), (Health::Down, 3_000));
        assert!(source.up(at(10)));
        assert_eq!((source.since, source.problem, source.ever_up), (10_000, None, true));
    }
}
