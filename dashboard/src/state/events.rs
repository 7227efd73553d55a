//! What happened to everything that holds a certificate, as Kubernetes' events tell it.

use std::collections::{BTreeMap, VecDeque};

use schemars::JsonSchema;
use serde::Serialize;

use super::holder::HolderId;
use super::wire::EventList;

/// One event: what was done, or went wrong, and why.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Event {
    /// Tells a repetition from another one.
    #[serde(skip)]
    pub uid: String,
    /// When it happened last.
    pub at: i64,
    /// Whether it is a `Warning`.
    pub warning: bool,
    /// One word.
    pub reason: String,
    /// One sentence, at most 1 kB.
    pub message: String,
    /// How often it happened.
    pub count: i64,
}

/// The newest events of each holder.
#[derive(Debug, Default)]
pub struct Events {
    /// Newest last.
    by_holder: BTreeMap<HolderId, VecDeque<Event>>,
    /// Why they cannot be read at the moment.
    pub problem: Option<String>,
}

/// Of one holder: years of renewals, and half a page.
const MAX_OF_ONE: usize = 20;
/// The API server's own bound for `note`.
const MAX_MESSAGE: usize = 1_024;

impl Events {
    /// Takes an event, or its repetition. Says whether that is news.
    pub fn take(&mut self, id: HolderId, mut event: Event) -> bool {
        event.message.truncate(event.message.floor_char_boundary(MAX_MESSAGE));
        let events = self.by_holder.entry(id).or_default();
        if events.contains(&event) {
            return false;
        }
        events.retain(|known| known.uid != event.uid);
        let place = events.partition_point(|known| known.at <= event.at);
        if events.len() == MAX_OF_ONE && place == 0 {
            return false;
        }
        events.insert(place, event);
        if events.len() > MAX_OF_ONE {
            events.pop_front();
        }
        true
    }

    /// The events of `id`.
    pub fn of(&self, id: &HolderId) -> EventList<'_> {
        let events = self.by_holder.get(id).into_iter().flatten().collect();
        EventList { events, problem: self.problem.as_deref() }
    }

    /// `id` is no more.
    pub fn forget(&mut self, id: &HolderId) {
        self.by_holder.remove(id);
    }

    /// Keeps the events of those for whom `keep` says so.
    pub fn retain(&mut self, keep: impl Fn(&HolderId) -> bool) {
        self.by_holder.retain(|id, _| keep(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::holder::Kind;

    fn id() -> HolderId {
        HolderId::new(Kind::IotDevice, "a")
    }

    fn event(at: i64) -> Event {
        Event {
            uid: at.to_string(),
            at,
            warning: false,
            reason: "Issued".into(),
            message: "because".into(),
            count: 1,
        }
    }

    fn times(events: &Events) -> Vec<i64> {
        events.of(&id()).events.iter().map(|event| event.at).collect()
    }

    #[test]
    fn the_newest_events_are_kept_in_order_however_they_come() {
        let mut events = Events::default();
        for at in (0..50).rev() {
            events.take(id(), event(at));
        }
        assert_eq!(times(&events), (30..50).collect::<Vec<_>>());
        assert!(!events.take(id(), event(3)), "older than all that is kept");
        assert!(!events.take(id(), event(40)), "seen before: a list after an outage");
    }

    #[test]
    fn what_happens_again_is_one_event_with_a_count() {
        let mut events = Events::default();
        events.take(id(), event(1));
        events.take(id(), event(2));
        assert!(events.take(id(), Event { at: 3, count: 2, ..event(1) }));
        assert_eq!(times(&events), [2, 3]);
        assert_eq!(events.of(&id()).events[1].count, 2);
    }

    #[test]
    fn a_long_message_is_cut_at_a_whole_character() {
        let mut events = Events::default();
        events.take(id(), Event { message: "憑".repeat(1_000), ..event(1) });
        assert_eq!(events.of(&id()).events[0].message.chars().count(), 341);
    }
}
