//! How a thermometer tells: a reading each interval, over a link that queues while there is no connection.

use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use link::wire::{Reading, Sequence};
use link::{Link, LinkOptions, Publication};
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
    // The link tells its own story in the log; nobody sends a thermometer anything.
    let listening = async { while events.next().await.is_some() {} };
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

async fn stop_signal() -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (terminate, interrupt) = (pin!(terminate.recv()), pin!(interrupt.recv()));
    tokio::select! { _ = terminate => {}, _ = interrupt => {} }
    Ok(())
}
