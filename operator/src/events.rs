//! What happened, for people: Events.
//!
//! A courtesy, and written like one: beside the work, a few at a time. A thousand certificates are in force before a thousand Events
//! have said so. What cannot be written is logged and lost, and so is what waits when the process is killed.

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::error::in_short;

/// How many are written at a time: an eighth of what a controller works on.
const AT_ONCE: usize = 4;
/// How many may wait, each of about a kilobyte.
const MOST_WAITING: usize = 10_000;
/// The most octets that the API server takes as the note of an Event.
const LONGEST_NOTE: usize = 1024;

/// What happened, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether somebody should do something.
    pub warning: bool,
    /// One word.
    pub reason: &'static str,
    /// What the operator did or tried, one word.
    pub action: &'static str,
    /// What happened and why, and what to do about it.
    pub text: String,
}

/// Where it is told.
pub struct Events {
    identity: String,
    waiting: Sender<Event>,
}

/// Who writes what was told.
pub struct Writer {
    client: Client,
    waiting: Receiver<Event>,
}

// === impl Events ===

impl Events {
    /// Told by `identity`, the name of this replica. Nothing is written unless the [`Writer`] is at work.
    pub fn new(client: Client, identity: String) -> (Self, Writer) {
        let (sender, receiver) = channel(MOST_WAITING);
        (Self { identity, waiting: sender }, Writer { client, waiting: receiver })
    }

    /// Has an Event about `regarding` written.
    pub fn tell(&self, regarding: ObjectReference, note: &Note, now: Timestamp) {
        let event = Event {
            metadata: ObjectMeta {
                generate_name: regarding.name.as_ref().map(|name| format!("{name}-")),
                namespace: regarding.namespace.clone(),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(note.reason.to_owned()),
            action: Some(note.action.to_owned()),
            note: Some(note.text[..note.text.floor_char_boundary(LONGEST_NOTE)].to_owned()),
            regarding: Some(regarding),
            reporting_controller: Some("ca-iot.dev/operator".to_owned()),
            reporting_instance: Some(self.identity.clone()),
            ..Event::default()
        };
        if let Err(lost) = self.waiting.try_send(event) {
            complain(&lost.into_inner(), "too many wait already");
        }
    }
}

// === impl Writer ===

impl Writer {
    /// Writes whatever is told. Never ends.
    pub async fn run(&mut self) {
        let Self { client, waiting } = self;
        let told = stream::poll_fn(|context| waiting.poll_recv(context));
        told.for_each_concurrent(AT_ONCE, |event| write(client, event)).await;
    }

    /// Writes what waits.
    pub async fn catch_up(&mut self) {
        while let Ok(event) = self.waiting.try_recv() {
            write(&self.client, event).await;
        }
    }
}

async fn write(client: &Client, event: Event) {
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    if let Err(error) = events.create(&PostParams::default(), &event).await {
        complain(&event, &in_short(&error));
    }
}

fn complain(event: &Event, problem: &str) {
    let regarding = event.regarding.clone().unwrap_or_default();
    let part = Option::unwrap_or_default;
    let (kind, namespace, name) = (part(regarding.kind), part(regarding.namespace), part(regarding.name));
    tracing::warn!(%kind, %namespace, %name, %problem, "an event could not be written");
}
