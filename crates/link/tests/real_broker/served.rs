//! What a broker presents is seen by a handshake, whether it is believed or not.

use std::time::Duration;

use link::served;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::{authority::Authority, client::Client, mosquitto::Mosquitto};

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn the_certificate_of_a_broker_is_seen_without_touching_the_session_of_who_looks() {
    let authority = Authority::new(1);
    let first = authority.broker("localhost");
    let broker = Mosquitto::start(&first);
    let secret = authority.client("observer.dashboard");
    let observer = Client::observer(&broker.address(), &secret, "devices/+/telemetry").await;
    let seen = served(&broker.address(), &secret.identity(), PATIENCE).await.unwrap();
    assert_eq!((seen.serial_number, seen.distrust), (first.serial(), None));

    let second = authority.broker("localhost");
    broker.volume.swap(&second);
    broker.signal(Signal::HUP);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = served(&broker.address(), &secret.identity(), PATIENCE).await.unwrap();
        if seen.serial_number == second.serial() {
            break;
        }
        assert!(Instant::now() < deadline, "the broker still presents {}", seen.serial_number);
        sleep(Duration::from_millis(20)).await;
    }
    assert!(observer.link.is_connected());
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_certificate_that_is_not_believed_is_seen_all_the_same_with_the_reason() {
    let (ours, theirs) = (Authority::new(1), Authority::new(2));
    let presented = theirs.broker("localhost");
    let broker = Mosquitto::start(&presented);
    let seen =
        served(&broker.address(), &ours.client("observer.dashboard").identity(), PATIENCE).await.unwrap();
    assert_eq!(seen.serial_number, presented.serial());
    assert!(seen.distrust.is_some(), "another root's certificate is believed");
}
