//! Every reading arrives, whatever happens to the broker.

use std::time::Duration;

use link::{Backlog, LinkOptions, Publication, topic};
use rustix::process::Signal;
use tokio::time::Instant;

use crate::{
    authority::Authority,
    client::{Client, Readings, assert_complete},
    mosquitto::Mosquitto,
};

const TELEMETRY: &str = "devices/+/telemetry";

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn readings_and_commands_arrive() {
    let authority = Authority::new(1);
    let broker = Mosquitto::start(&authority.broker("localhost"));
    let address = broker.address();
    let mut observer = Client::observer(&address, &authority.client("observer.dashboard"), TELEMETRY).await;
    let mut device = Client::device(&address, &authority.client("device001"));
    device.connected().await;
    for seq in 1..=2_000 {
        device.publish(seq);
        if seq % 500 == 0 {
            assert_eq!(observer.readings_to(seq).await.0, (seq - 499..=seq).collect::<Vec<_>>());
        }
    }

    let operator = Client::open(&authority.client("operator.ca-iot"), |volume| {
        LinkOptions::observer(address, volume.path())
    });
    let reboot =
        Publication { topic: topic::command("device001", "reboot"), payload: b"now".to_vec(), retain: false };
    operator.link.publish(reboot).unwrap();
    let (_, command) = device.message("a command", |_| true).await;
    assert_eq!((command.topic.as_str(), command.payload.as_slice()), ("cmd/device001/reboot", &b"now"[..]));
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn what_was_measured_while_the_broker_was_away_arrives_in_order() {
    let authority = Authority::new(1);
    let mut broker = Mosquitto::start(&authority.broker("localhost"));
    let address = broker.address();
    let mut observer = Client::observer(&address, &authority.client("observer.dashboard"), TELEMETRY).await;
    let mut device = Client::device(&address, &authority.client("device001"));
    device.connected().await;
    device.publish(1);
    observer.readings_to(1).await;

    broker.stop(Signal::TERM);
    device.disconnected().await;
    assert!(!device.link.is_connected());
    for seq in 2..=600 {
        device.publish(seq);
    }
    assert_eq!(device.link.backlog().queued, 599);
    broker.start_again();
    let (numbers, _) = observer.readings_to(600).await;
    assert_complete(&numbers, 2, 600);
    assert!(device.connected().await.0, "the broker remembers the session");
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_broker_killed_in_mid_stream_loses_no_reading() {
    let authority = Authority::new(1);
    let mut broker = Mosquitto::start(&authority.broker("localhost"));
    let address = broker.address();
    let mut observer = Client::observer(&address, &authority.client("observer.dashboard"), TELEMETRY).await;
    let mut device = Client::open(&authority.client("device001"), |volume| LinkOptions {
        queue_limit: 10_000,
        ..LinkOptions::device(address, volume.path())
    });
    device.connected().await;
    let readings = Readings::of(&device.link, 100);
    let first = readings.first;
    observer.readings_to(first + 50).await;

    broker.stop(Signal::KILL);
    device.disconnected().await;
    broker.start_again();
    device.connected().await;
    let last = readings.stop().await;
    let (numbers, _) = observer.readings_to(last).await;
    let repeated = assert_complete(&numbers, first + 51, last);
    println!("killed in mid-stream: {} readings after it, {repeated} repeated", numbers.len());
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_full_queue_drops_the_oldest_and_counts() {
    let authority = Authority::new(1);
    let mut broker = Mosquitto::start(&authority.broker("localhost"));
    let address = broker.address();
    let mut observer = Client::observer(&address, &authority.client("observer.dashboard"), TELEMETRY).await;
    let mut device = Client::open(&authority.client("device001"), |volume| LinkOptions {
        queue_limit: 50,
        ..LinkOptions::device(address, volume.path())
    });
    device.connected().await;
    broker.stop(Signal::TERM);
    device.disconnected().await;
    for seq in 1..=200 {
        device.publish(seq);
    }
    let Backlog { queued, dropped, .. } = device.link.backlog();
    assert_eq!((queued, dropped), (50, 150));
    broker.start_again();
    let (numbers, _) = observer.readings_to(200).await;
    assert_complete(&numbers, 151, 200);
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_broker_that_forgot_the_session_is_asked_again_for_the_same_topics() {
    let authority = Authority::new(1);
    let mut broker = Mosquitto::start(&authority.broker("localhost"));
    let address = broker.address();
    let mut observer = Client::observer(&address, &authority.client("observer.dashboard"), TELEMETRY).await;
    let mut device = Client::device(&address, &authority.client("device001"));
    device.connected().await;
    device.publish(1);
    observer.readings_to(1).await;

    broker.stop(Signal::TERM);
    broker.forget_everything();
    broker.start_again();
    assert!(!observer.connected().await.0, "the session is gone");
    assert!(!device.connected().await.0, "the session is gone");
    device.publish(2);
    observer.readings_to(2).await;
}

/// A broker whose process hangs: its kernel still takes connections and octets.
#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_broker_that_falls_silent_is_noticed_and_nothing_is_lost() {
    let authority = Authority::new(1);
    let broker = Mosquitto::start(&authority.broker("localhost"));
    let address = broker.address();
    let mut observer = Client::observer(&address, &authority.client("observer.dashboard"), TELEMETRY).await;
    let mut device = Client::device(&address, &authority.client("device001"));
    device.connected().await;
    device.publish(1);
    observer.readings_to(1).await;

    let silent = Instant::now();
    broker.signal(Signal::STOP);
    let readings = Readings::of(&device.link, 5);
    let (noticed, reason, _) = device.disconnected().await;
    println!("a silent broker noticed by a device after {:?}: {reason}", noticed - silent);
    assert!(noticed - silent < Duration::from_secs(25));
    let (_, reason, _) = device.disconnected().await;
    println!("the next attempt: {reason}");
    let (noticed, reason, _) = observer.disconnected().await;
    println!("by one who only listens after {:?}: {reason}", noticed - silent);
    assert!(noticed - silent < Duration::from_secs(40));

    broker.signal(Signal::CONT);
    device.connected().await;
    let first = readings.first;
    let last = readings.stop().await;
    let (numbers, _) = observer.readings_to(last).await;
    let repeated = assert_complete(&numbers, first, last);
    println!("{} readings, {repeated} repeated", numbers.len());
}
