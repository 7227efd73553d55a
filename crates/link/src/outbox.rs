//! What waits to be published: a bounded queue in which the oldest makes room for the newest.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::wire::MAX_PAYLOAD;

/// One message to be published at QoS 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Without wildcards.
    pub topic: String,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: Vec<u8>,
    /// Whether the broker keeps it for who subscribes later.
    pub retain: bool,
}

/// Why a publication was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Empty, too long, or with a wildcard.
    #[error("`{0}` is not a topic to publish to")]
    Topic(String),
    /// More than [`MAX_PAYLOAD`] bytes.
    #[error("the payload has {0} bytes, more than the {MAX_PAYLOAD} allowed")]
    TooLong(usize),
    /// The link was closed.
    #[error("the link is closed")]
    Closed,
}

/// How far publishing has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Waiting for a connection, or for the broker to acknowledge what was sent before.
    pub queued: usize,
    /// Sent, not yet acknowledged.
    pub in_flight: usize,
    /// Dropped from a full queue since the start, the oldest first.
    pub dropped: u64,
    /// Refused by the broker since the start, for instance by its access list.
    pub refused: u64,
}

/// Shared by the handles, which put in, and the session, which takes out.
#[derive(Debug)]
pub(crate) struct Outbox {
    limit: usize,
    inner: Mutex<Inner>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<Publication>,
    in_flight: usize,
    dropped: u64,
    refused: u64,
    closed: bool,
}

impl Outbox {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), inner: Mutex::default(), filled: Notify::new() }
    }

    /// Queues a publication, dropping the oldest if there is no room.
    pub(crate) fn push(&self, publication: Publication) -> Result<(), PublishError> {
        let Publication { topic, payload, retain: _ } = &publication;
        if !rumqttc::valid_topic(topic) || topic.is_empty() || topic.len() > usize::from(u16::MAX) {
            return Err(PublishError::Topic(publication.topic));
        }
        if payload.len() > MAX_PAYLOAD {
            return Err(PublishError::TooLong(payload.len()));
        }
        let mut inner = self.lock();
        if inner.closed {
            return Err(PublishError::Closed);
        }
        inner.queue.push_back(publication);
        inner.trim(self.limit);
        drop(inner);
        self.filled.notify_one();
        Ok(())
    }

    /// Puts back what was sent and never acknowledged, in its old order and ahead of all else.
    pub(crate) fn put_back(&self, unacknowledged: impl DoubleEndedIterator<Item = Publication>) {
        let mut inner = self.lock();
        for publication in unacknowledged.rev() {
            inner.queue.push_front(publication);
        }
        inner.trim(self.limit);
    }

    pub(crate) fn pop(&self) -> Option<Publication> {
        self.lock().queue.pop_front()
    }

    /// Waits until something was pushed since the last call.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Takes nothing more.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    pub(crate) fn note_in_flight(&self, in_flight: usize) {
        self.lock().in_flight = in_flight;
    }

    pub(crate) fn note_refused(&self) {
        self.lock().refused += 1;
    }

    pub(crate) fn backlog(&self) -> Backlog {
        let Inner { ref queue, in_flight, dropped, refused, closed: _ } = *self.lock();
        Backlog { queued: queue.len(), in_flight, dropped, refused }
    }

    /// Nothing in here panics while it holds the lock, and every state of the queue is a good one.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn trim(&mut self, limit: usize) {
        while self.queue.len() > limit {
            self.queue.pop_front();
            self.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(n: u8) -> Publication {
        Publication { topic: "devices/a/telemetry".into(), payload: vec![n], retain: false }
    }

    fn drain(outbox: &Outbox) -> Vec<u8> {
        std::iter::from_fn(|| outbox.pop()).map(|publication| publication.payload[0]).collect()
    }

    #[test]
    fn a_full_queue_drops_the_oldest_and_counts() {
        let outbox = Outbox::new(3);
        for n in 0..5 {
            outbox.push(publication(n)).unwrap();
        }
        assert_eq!(outbox.backlog(), Backlog { queued: 3, dropped: 2, ..Backlog::default() });
        assert_eq!(drain(&outbox), [2, 3, 4]);
    }

    #[test]
    fn what_was_not_acknowledged_goes_first_again() {
        let outbox = Outbox::new(10);
        outbox.push(publication(3)).unwrap();
        outbox.put_back([publication(1), publication(2)].into_iter());
        assert_eq!(drain(&outbox), [1, 2, 3]);
    }

    #[test]
    fn what_no_broker_would_take_is_refused_at_once() {
        let outbox = Outbox::new(10);
        let with_topic = |topic: &str| Publication { topic: topic.into(), ..publication(0) };
        for topic in ["", "devices/#", "devices/+/status"] {
            assert!(matches!(outbox.push(with_topic(topic)), Err(PublishError::Topic(_))), "{topic}");
        }
        let long = Publication { payload: vec![0; MAX_PAYLOAD + 1], ..publication(0) };
        assert!(matches!(outbox.push(long), Err(PublishError::TooLong(_))));
        outbox.close();
        assert!(matches!(outbox.push(publication(0)), Err(PublishError::Closed)));
    }
}
