//! A link under test, its mounted Secret, and everything that happens on it with the time at which it did.

use std::time::Duration;

use jiff::Timestamp;
use link::{
    BrokerAddress, Event, Failure, Identity, Link, LinkOptions, Message, Publication,
    wire::{Reading, Sequence},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, interval, sleep, timeout_at},
};

use crate::{authority::Secret, volume::Volume};

/// Longer than anything here takes, the detection of a silent broker included.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Client {
    pub(crate) link: Link,
    pub(crate) volume: Volume,
    happened: mpsc::UnboundedReceiver<(Instant, Event)>,
}

/// Readings that are published at a steady rate until they are stopped.
pub(crate) struct Readings {
    /// The number of the first one.
    pub(crate) first: u64,
    stop: oneshot::Sender<()>,
    publishing: JoinHandle<u64>,
}

// === impl Client ===

impl Client {
    /// A device that hears its commands.
    pub(crate) fn device(broker: &BrokerAddress, secret: &Secret) -> Self {
        Self::open(secret, |volume| {
            let name = Identity::load(volume.path(), Timestamp::now()).unwrap().name().to_owned();
            LinkOptions::device(broker.clone(), volume.path()).subscribe(link::topic::commands(&name))
        })
    }

    /// Hears `filter`, once the broker knows that it wants to.
    pub(crate) async fn observer(broker: &BrokerAddress, secret: &Secret, filter: &str) -> Self {
        let mut observer = Self::open(secret, |volume| {
            LinkOptions::observer(broker.clone(), volume.path()).subscribe(filter)
        });
        observer.connected().await;
        observer
    }

    pub(crate) fn open(secret: &Secret, options: impl FnOnce(&Volume) -> LinkOptions) -> Self {
        let volume = Volume::mount(secret);
        let (link, mut events) = Link::open(options(&volume)).unwrap();
        let (note, happened) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if note.send((Instant::now(), event)).is_err() {
                    return;
                }
            }
        });
        Self { link, volume, happened }
    }

    /// Waits for the first event that is wanted, past all others.
    pub(crate) async fn until<T>(&mut self, what: &str, wanted: impl Fn(Event) -> Option<T>) -> (Instant, T) {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            match timeout_at(deadline, self.happened.recv()).await {
                Ok(Some((at, event))) => {
                    let short = format!("{event:?}").chars().take(160).collect::<String>();
                    match wanted(event) {
                        Some(found) => return (at, found),
                        None => seen.push(short),
                    }
                }
                Ok(None) => panic!("{}: the link ended before: {what}; {seen:#?}", self.link.name()),
                Err(late) => panic!("{}: {late}, {PATIENCE:?}: {what}; {seen:#?}", self.link.name()),
            }
        }
    }

    /// Waits for the broker's consent; returns whether it still had the session, and for which certificate.
    pub(crate) async fn connected(&mut self) -> (bool, String) {
        self.until("connected", |event| match event {
            Event::Connected { session_present, serial_number } => Some((session_present, serial_number)),
            _ => None,
        })
        .await
        .1
    }

    /// Waits for a lost or failed connection; returns when, why, and how long until the next attempt.
    pub(crate) async fn disconnected(&mut self) -> (Instant, Failure, Duration) {
        let (at, (reason, retry_in)) = self
            .until("disconnected", |event| match event {
                Event::Disconnected { reason, retry_in } => Some((reason, retry_in)),
                _ => None,
            })
            .await;
        (at, reason, retry_in)
    }

    /// Waits for a failure of this kind, past others; returns how long until the next attempt.
    pub(crate) async fn refused(&mut self, failure: &Failure) -> Duration {
        self.until("a refusal", |event| match event {
            Event::Disconnected { reason, retry_in } if reason == *failure => Some(retry_in),
            _ => None,
        })
        .await
        .1
    }

    /// Waits until the new identity is in use.
    pub(crate) async fn identity_changed(&mut self) {
        let changed = |event| matches!(event, Event::IdentityChanged(_)).then_some(());
        self.until("a new identity", changed).await;
    }

    /// Waits until new files are not used; returns the serial number in them and why.
    pub(crate) async fn identity_rejected(&mut self) -> (Option<String>, String) {
        self.until("a rejected identity", |event| match event {
            Event::IdentityRejected { serial_number, reason } => Some((serial_number, reason)),
            _ => None,
        })
        .await
        .1
    }

    pub(crate) async fn message(
        &mut self,
        what: &str,
        wanted: impl Fn(&Message) -> bool,
    ) -> (Instant, Message) {
        self.until(what, |event| match event {
            Event::Message(message) if wanted(&message) => Some(message),
            _ => None,
        })
        .await
    }

    /// Hears readings up to number `last`: returns their numbers and the longest time between two of them.
    pub(crate) async fn readings_to(&mut self, last: u64) -> (Vec<u64>, Duration) {
        let mut numbers: Vec<u64> = Vec::new();
        let (mut before, mut gap) = (None, Duration::ZERO);
        while numbers.last() != Some(&last) {
            let (at, message) =
                self.message("a reading", |message| message.topic.ends_with("/telemetry")).await;
            gap = gap.max(before.map_or(Duration::ZERO, |before| at - before));
            before = Some(at);
            numbers.push(Reading::parse(&message.payload).unwrap().seq);
        }
        (numbers, gap)
    }

    /// Waits until the broker has acknowledged all that was published.
    pub(crate) async fn published_all(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let backlog = self.link.backlog();
            if backlog.queued + backlog.in_flight == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "{backlog:?}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn publish(&self, seq: u64) {
        let reading = Reading::new(Timestamp::now(), seq, 21.5);
        self.link.publish(Publication::reading(self.link.name(), &reading)).unwrap();
    }
}

// === impl Readings ===

impl Readings {
    /// Publishes `per_second` over `link`.
    pub(crate) fn of(link: &Link, per_second: u32) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let link = link.clone();
        let mut numbers = Sequence::starting_at(Timestamp::now()).peekable();
        let first = *numbers.peek().unwrap();
        let publishing = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_secs(1) / per_second);
            loop {
                tokio::select! {
                    _ = &mut stopped => return numbers.next().unwrap() - 1,
                    _ = ticks.tick() => {
                        let reading = Reading::new(Timestamp::now(), numbers.next().unwrap(), 21.5);
                        link.publish(Publication::reading(link.name(), &reading)).unwrap();
                    }
                }
            }
        });
        Self { first, stop, publishing }
    }

    /// Returns the number of the last one.
    pub(crate) async fn stop(self) -> u64 {
        self.stop.send(()).unwrap();
        self.publishing.await.unwrap()
    }
}

/// Whether every number from `first` to `last` is there, in order; the repetitions that QoS 1 allows are
/// counted and returned.
#[track_caller]
pub(crate) fn assert_complete(numbers: &[u64], first: u64, last: u64) -> usize {
    let mut seen = Vec::new();
    for number in numbers {
        if *number >= first && seen.last().is_none_or(|last| number > last) {
            seen.push(*number);
        }
    }
    let missing: Vec<_> = (first..=last).filter(|number| seen.binary_search(number).is_err()).collect();
    assert!(missing.is_empty(), "{} of {} missing: {missing:?}", missing.len(), last - first + 1);
    assert_eq!(seen.len() as u64, last - first + 1);
    numbers.len() - seen.len()
}
