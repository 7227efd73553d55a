//! Others are told whether a device is there.

use std::time::Duration;

use link::{
    Failure,
    wire::{ConnectionState, ConnectionStatus},
};
use rustix::process::Signal;
use tokio::time::{Instant, timeout_at};

use crate::{
    authority::{Authority, Secret},
    client::Client,
    mosquitto::Mosquitto,
};

/// What the broker is told to wait before it publishes a last will.
const WILL_DELAY: Duration = Duration::from_secs(5);

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_device_that_vanishes_is_offline_by_its_last_will() {
    let authority = Authority::new(1);
    let broker = Mosquitto::start(&authority.broker("localhost"));
    let mut observer = observer(&authority, &broker).await;
    let device = Client::device(&broker.address(), &authority.client("device001"));
    assert_eq!(status(&mut observer).await.1, ConnectionState::Online);

    let vanished = Instant::now();
    drop(device);
    let (at, state) = status(&mut observer).await;
    assert_eq!(state, ConnectionState::Offline);
    println!("the last will came after {:?}", at - vanished);
    assert!(at - vanished > WILL_DELAY / 2, "a device may come back; the broker counts in whole seconds");
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_device_that_says_goodbye_is_offline_at_once() {
    let authority = Authority::new(1);
    let broker = Mosquitto::start(&authority.broker("localhost"));
    let mut observer = observer(&authority, &broker).await;
    let device = Client::device(&broker.address(), &authority.client("device001"));
    assert_eq!(status(&mut observer).await.1, ConnectionState::Online);

    let asked = Instant::now();
    for seq in 0..100 {
        device.publish(seq);
    }
    assert_eq!(device.link.close(Duration::from_secs(5)).await, 0, "all that was queued is published");
    assert!(asked.elapsed() < WILL_DELAY);
    let (at, state) = status(&mut observer).await;
    assert_eq!(state, ConnectionState::Offline);
    assert!(at - asked < WILL_DELAY);
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_link_that_never_found_its_broker_can_be_closed() {
    let authority = Authority::new(1);
    let mut broker = Mosquitto::start(&authority.broker("localhost"));
    broker.stop(Signal::TERM);
    let mut device = Client::device(&broker.address(), &authority.client("device001"));
    assert!(matches!(device.disconnected().await.1, Failure::Unreachable(_)));
    device.publish(1);
    assert_eq!(device.link.close(Duration::from_secs(5)).await, 1, "one reading was never sent");
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn what_is_left_at_a_goodbye_is_delivered_when_the_broker_is_back_in_time() {
    let authority = Authority::new(1);
    let mut broker = Mosquitto::start(&authority.broker("localhost"));
    let mut device = Client::device(&broker.address(), &authority.client("device001"));
    device.connected().await;
    broker.stop(Signal::TERM);
    device.disconnected().await;
    device.publish(1);
    let closing = tokio::spawn(async move { device.link.close(Duration::from_secs(20)).await });
    tokio::task::yield_now().await;
    broker.start_again();
    assert_eq!(closing.await.unwrap(), 0, "it was delivered");
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn who_is_taken_over_is_thrown_out_and_comes_back_later() {
    let authority = Authority::new(1);
    let broker = Mosquitto::start(&authority.broker("localhost"));
    let mut device = Client::device(&broker.address(), &authority.client("device001"));
    device.connected().await;
    let other = authority.client("device001").identity();
    link::take_over(&broker.address(), &other, Duration::from_secs(5)).await.unwrap();
    device.disconnected().await;
    let (session_present, _) = device.connected().await;
    assert!(!session_present, "its session was forgotten");
}

/// The operator's part in a revocation: a list that the broker has loaded, then the cut.
#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_revoked_device_is_cut_and_stays_offline() {
    let authority = Authority::new(1);
    let of_broker = authority.broker("localhost");
    let broker = Mosquitto::start(&of_broker);
    let mut observer = observer(&authority, &broker).await;
    let (secret, witness) = (authority.client("device001"), authority.client("device002"));
    let mut device = Client::device(&broker.address(), &secret);
    assert_eq!(status(&mut observer).await.1, ConnectionState::Online);

    broker.volume.swap(&Secret { ca_crl: authority.crl(&[&secret, &witness]), ..of_broker });
    broker.signal(Signal::HUP);
    let within = Duration::from_secs(5);
    let witness = witness.identity();
    while link::take_over(&broker.address(), &witness, within).await != Err(Failure::Revoked) {}
    assert!(device.link.is_connected(), "a list cuts nobody");

    let cutter = authority.client("device001").identity();
    link::take_over(&broker.address(), &cutter, within).await.unwrap();
    assert_eq!(status(&mut observer).await.1, ConnectionState::Offline);
    device.refused(&Failure::Revoked).await;
}

/// Two processes with the same certificate can only be a mistake; it must not cost the broker much.
#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn two_processes_with_one_certificate_fight_ever_more_slowly() {
    let authority = Authority::new(1);
    let broker = Mosquitto::start(&authority.broker("localhost"));
    let secret = authority.client("device001");
    let (mut one, mut other) =
        (Client::device(&broker.address(), &secret), Client::device(&broker.address(), &secret));
    let deadline = Instant::now() + Duration::from_secs(30);
    let count = async |client: &mut Client| {
        let mut lost = Vec::new();
        while let Ok((_, _, retry_in)) = timeout_at(deadline, client.disconnected()).await {
            lost.push(retry_in);
        }
        lost
    };
    let (one, other) = tokio::join!(count(&mut one), count(&mut other));
    println!(
        "taken over within 30 s: {} and {} times, retried in {one:?} and {other:?}",
        one.len(),
        other.len()
    );
    assert!(!one.is_empty() && !other.is_empty());
    assert!(one.len() + other.len() < 30);
}

async fn observer(authority: &Authority, broker: &Mosquitto) -> Client {
    let secret = authority.client("observer.dashboard");
    Client::observer(&broker.address(), &secret, "devices/device001/status").await
}

async fn status(observer: &mut Client) -> (Instant, ConnectionState) {
    let (at, message) = observer.message("a status", |_| true).await;
    (at, ConnectionStatus::parse(&message.payload).unwrap().state)
}
