//! Who is not to be believed is not talked to, and the reason says what to do.

use std::time::Duration;

use link::Failure;
use rustix::process::Signal;

use crate::{
    authority::{Authority, Secret},
    client::Client,
    mosquitto::Mosquitto,
};

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_broker_of_another_root_is_not_talked_to() {
    let (ours, theirs) = (Authority::new(1), Authority::new(2));
    let broker = Mosquitto::start(&theirs.broker("localhost"));
    let secret = ours.client("device001");
    let mut device = Client::device(&broker.address(), &secret);
    let (_, reason, _) = device.disconnected().await;
    println!("{reason}");
    assert!(matches!(reason, Failure::BrokerNotTrusted(_)), "{reason}");
    assert!(!reason.is_refusal(), "it is us who refuse");

    // Trusting its root helps at once, and then it is the broker that does not trust the device.
    let trusting = Secret { ca_crt: ours.certificate() + &theirs.certificate(), ..secret };
    device.volume.swap(&trusting);
    device.refused(&Failure::CertificateRefused("UnknownCA".to_owned())).await;
    let both = theirs.client("device001");
    device.volume.swap(&both);
    assert_eq!(device.connected().await.1, both.serial());
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_broker_of_another_name_is_not_talked_to() {
    let authority = Authority::new(1);
    let broker = Mosquitto::start(&authority.broker("somewhere.example"));
    let mut device = Client::device(&broker.address(), &authority.client("device001"));
    let (_, reason, _) = device.disconnected().await;
    println!("{reason}");
    assert!(matches!(reason, Failure::BrokerNotTrusted(_)), "{reason}");
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_revoked_device_knocks_rarely_until_it_has_a_new_certificate() {
    let authority = Authority::new(1);
    let of_broker = authority.broker("localhost");
    let mut broker = Mosquitto::start(&of_broker);
    let secret = authority.client("device001");
    let mut device = Client::device(&broker.address(), &secret);
    device.connected().await;

    broker.stop(Signal::TERM);
    broker.volume.swap(&Secret { ca_crl: authority.crl(&[&secret]), ..of_broker });
    broker.start_again();
    let retry_in = device.refused(&Failure::Revoked).await;
    assert_eq!(retry_in, Duration::from_mins(1));

    let renewed = authority.client("device001");
    device.volume.swap(&renewed);
    assert_eq!(device.connected().await.1, renewed.serial());
}
