//! How a thermometer tells: a reading each interval, over a link that queues while there is no connection.

use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use link::wire::{Reading, Sequence};
use link::{Event, Link, LinkOptions, Publication};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::room::Room;
use crate::{Arguments, probes};

/// How long it may take to send what is queued before the program ends; the pod has 10 s.
const GOODBYE: Duration = Duration::from_secs(5);

/// Sends readings until SIGTERM or SIGINT.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { broker, pki, interval, mean, swing, listen } = arguments;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}: choose another --listen"))?;
    let problem = format!("there is no usable certificate in {}", pki.display());
    let (link, mut events) = Link::open(LinkOptions::device(broker.clone(), pki)).context(problem)?;
    tracing::info!(name = link.name(), %broker, ?interval, "a thermometer starts");
    let probes = tokio::spawn(probes::serve(listener, link.clone()));

    let room = Room::new(link.name(), mean, swing);
    let measuring = measure(&link, room, interval);
    let listening = async {
        while let Some(event) = events.next().await {
            tell(&event);
        }
    };
    tokio::select! {
        () = measuring => {}
        () = listening => anyhow::bail!("the link has ended by itself"),
        stopped = stop_signal() => stopped?,
    }
    probes.abort();
    let unsent = link.close(GOODBYE).await;
    tracing::info!(unsent, "stopped");
    Ok(())
}

async fn measure(link: &Link, room: Room, interval: Duration) {
    let mut sequence = Sequence::starting_at(Timestamp::now());
    let mut ticks = interval_at(Instant::now(), interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = Timestamp::now();
        let Some(seq) = sequence.next() else { return };
        let reading = Reading::new(now, seq, room.celsius(now));
        if let Err(problem) = link.publish(Publication::reading(link.name(), &reading)) {
            tracing::warn!(seq, "a reading is lost: {problem}");
        }
    }
}

fn tell(event: &Event) {
    match event {
        Event::Connected { session_present, serial_number } => {
            tracing::info!(%serial_number, session_present, "connected");
        }
        Event::Disconnected { reason, retry_in } => tracing::warn!(?retry_in, "not connected: {reason}"),
        Event::IdentityChanged(identity) => {
            tracing::info!(serial_number = %identity.acknowledgement().serial_number, "new certificate or roots in use");
        }
        Event::IdentityRejected { serial_number, reason } => {
            let serial_number = serial_number.as_deref().unwrap_or("unreadable");
            tracing::warn!(%serial_number, "new files are not used: {reason}");
        }
        Event::Message(message) => tracing::debug!(topic = %message.topic, "a message that nobody asked for"),
    }
}

async fn stop_signal() -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (terminate, interrupt) = (pin!(terminate.recv()), pin!(interrupt.recv()));
    tokio::select! { _ = terminate => {}, _ = interrupt => {} }
    Ok(())
}
