//! The handle: what users of a link hold.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout_at},
};

use crate::{
    Backlog, Failure, Identity, IdentityError, LinkOptions, Publication, PublishError,
    outbox::Outbox,
    session::{Session, Status},
    watch::Identities,
};

/// How many events wait for a slow reader before the session stops reading from the broker, which
/// then keeps the messages.
const EVENTS: usize = 1024;

/// A session with a broker that is kept open until it is closed: clones are handles to the same
/// session. Dropping the last handle ends it as a crash would, by last will; [`Link::close`] says goodbye.
#[derive(Clone, Debug)]
pub struct Link {
    name: Arc<str>,
    outbox: Arc<Outbox>,
    close: Arc<watch::Sender<Option<Instant>>>,
    status: watch::Receiver<Status>,
}

/// What happens on a link, in order. To be read continuously: the session waits for its reader. Once
/// dropped, nothing waits any more.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<Event>);

/// See [`Events::next`].
#[derive(Debug)]
pub enum Event {
    /// The broker accepted the session.
    Connected {
        /// Whether it still had the subscriptions and messages of the session before.
        session_present: bool,
        /// Of the certificate that was accepted, lower-case hex.
        serial_number: String,
    },
    /// There is no connection, or an attempt to get one failed.
    Disconnected {
        /// Why.
        reason: Failure,
        /// When the next attempt is made; new files make it at once.
        retry_in: Duration,
    },
    /// Somebody published what is subscribed to.
    Message(Message),
    /// A new certificate was accepted by the broker, or new roots are trusted from now on.
    IdentityChanged(Arc<Identity>),
    /// New files are not used: they are no identity, or the broker refuses them. What was used before
    /// stays in use, as far as possible.
    IdentityRejected {
        /// Of the certificate, if one could be read.
        serial_number: Option<String>,
        /// What to do about it.
        reason: String,
    },
}

/// A message from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub topic: String,
    /// As it was sent.
    pub payload: Vec<u8>,
    /// How it was delivered.
    pub qos: Qos,
    /// Whether it was kept by the broker from before the subscription.
    pub retain: bool,
}

/// Delivery, MQTT 5, section 4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// May be lost.
    AtMostOnce,
    /// May come twice.
    AtLeastOnce,
    /// Comes once.
    ExactlyOnce,
}

impl Link {
    /// Starts the session on the current tokio runtime. Does not wait for the broker.
    ///
    /// # Errors
    /// [`IdentityError`] if there is no usable certificate to start with.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(options: LinkOptions) -> Result<(Self, Events), IdentityError> {
        let (identity, identities) = Identities::follow(options.identity.clone())?;
        let outbox = Arc::new(Outbox::new(options.queue_limit));
        let (event_sender, events) = mpsc::channel(EVENTS);
        let (close, close_receiver) = watch::channel(None);
        let (status_sender, status) = watch::channel(Status::new(Arc::clone(&identity)));
        let link = Self {
            name: identity.name().into(),
            outbox: Arc::clone(&outbox),
            close: Arc::new(close),
            status,
        };
        let session =
            Session::new(options, identity, identities, outbox, event_sender, status_sender, close_receiver);
        tokio::spawn(session.run());
        Ok((link, Events(events)))
    }

    /// The common name in the certificate.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Queues a message for publication at QoS 1 and returns at once. If the queue is full, the
    /// oldest in it is dropped and counted, see [`Link::backlog`].
    ///
    /// # Errors
    /// [`PublishError`] if no broker would take it, or the link is closed.
    pub fn publish(&self, publication: Publication) -> Result<(), PublishError> {
        self.outbox.push(publication)
    }

    /// How far publishing has got.
    pub fn backlog(&self) -> Backlog {
        self.outbox.backlog()
    }

    /// Whether the broker has accepted the session and has not been lost since. Stays true while the
    /// certificate is being replaced.
    pub fn is_connected(&self) -> bool {
        self.status.borrow().connected
    }

    /// The identity in use.
    pub fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.status.borrow().identity)
    }

    /// Publishes what is queued and the status `offline`, disconnects, and ends the session. Returns
    /// how many publications the broker had not acknowledged when the time was up.
    pub async fn close(&self, within: Duration) -> usize {
        // A moment more than the session itself takes, so that it can report.
        const GRACE: Duration = Duration::from_secs(1);
        let deadline = Instant::now() + within;
        self.outbox.close();
        self.close.send_replace(Some(deadline));
        let mut status = self.status.clone();
        let ended = timeout_at(deadline + GRACE, status.wait_for(|status| status.unsent.is_some())).await;
        if let Ok(Ok(status)) = ended
            && let Some(unsent) = status.unsent
        {
            return unsent;
        }
        let Backlog { queued, in_flight, .. } = self.backlog();
        queued + in_flight
    }
}

impl Events {
    /// The next event; `None` after the session has ended.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}
