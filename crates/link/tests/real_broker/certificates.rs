//! Certificates and roots are replaced under a live session.

use std::{sync::Arc, time::Duration};

use link::{
    Event, IdentitySource, Link, LinkOptions,
    wire::{CertificateAcknowledgement, ConnectionState, ConnectionStatus, Reading},
};
use tokio::{sync::watch, time::timeout};

use crate::{
    authority::{Authority, Secret},
    client::{Client, Readings, assert_complete},
    mosquitto::Mosquitto,
};

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_new_certificate_in_mid_stream_loses_no_reading() {
    swap_in_mid_stream(1).await;
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn ten_new_certificates_in_a_row_lose_no_reading() {
    swap_in_mid_stream(10).await;
}

async fn swap_in_mid_stream(times: usize) {
    let authority = Authority::new(1);
    let broker = Mosquitto::start(&authority.broker("localhost"));
    let address = broker.address();
    let secret = authority.client("observer.dashboard");
    let mut observer = Client::observer(&address, &secret, "devices/+/telemetry").await;
    let mut device = Client::device(&address, &authority.client("device001"));
    device.connected().await;
    let readings = Readings::of(&device.link, 100);
    let first = readings.first;
    observer.readings_to(first).await;

    for _ in 0..times {
        let renewed = authority.client("device001");
        device.volume.swap(&renewed);
        let (session_present, serial_number) = device.connected().await;
        assert_eq!((session_present, serial_number), (true, renewed.serial()));
        device.identity_changed().await;
        assert_eq!(device.link.identity().serial_number(), renewed.serial());
    }
    let last = readings.stop().await;
    let (numbers, gap) = observer.readings_to(last).await;
    let repeated = assert_complete(&numbers, first + 1, last);
    println!(
        "{times} new certificates: {} readings, {repeated} repeated, longest gap {gap:?}",
        numbers.len()
    );
    assert!(gap < Duration::from_millis(800), "{gap:?}");
}

/// What the client has acknowledged, the broker does not send again: it must not be lost between them.
#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_slow_reader_misses_nothing_when_its_certificate_changes() {
    const READINGS: u64 = 1_500; // more than wait for a reader in the link, fewer than the broker keeps on top
    let authority = Authority::new(1);
    let broker = Mosquitto::start(&authority.broker("localhost"));
    let (give, given) = watch::channel(Arc::new(authority.client("observer.dashboard").identity()));
    let options = LinkOptions {
        identity: IdentitySource::Given(given),
        ..LinkOptions::observer(broker.address(), "").subscribe("devices/+/telemetry")
    };
    let (_link, mut events) = Link::open(options).unwrap();
    assert!(matches!(events.next().await, Some(Event::Connected { .. })));
    let mut device = Client::open(&authority.client("device001"), |volume| LinkOptions {
        queue_limit: 2_000,
        ..LinkOptions::device(broker.address(), volume.path())
    });
    device.connected().await;
    for seq in 1..=READINGS {
        device.publish(seq);
    }
    device.published_all().await;

    let (mut numbers, mut changes) = (Vec::new(), 0);
    while numbers.last() != Some(&READINGS) {
        if numbers.len() % 50 == 0 {
            give.send(Arc::new(authority.client("observer.dashboard").identity())).unwrap();
        }
        match timeout(Duration::from_secs(30), events.next()).await.unwrap().unwrap() {
            Event::Message(message) => numbers.push(Reading::parse(&message.payload).unwrap().seq),
            Event::IdentityChanged(_) => changes += 1,
            _ => {}
        }
    }
    println!("{changes} new certificates of a slow reader: {} readings", numbers.len());
    assert!(changes > 0);
    assert_complete(&numbers, 1, READINGS);
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_refused_certificate_is_reported_and_the_one_before_it_stays_in_use() {
    let authority = Authority::new(1);
    let broker = Mosquitto::start(&authority.broker("localhost"));
    let address = broker.address();
    let secret = authority.client("observer.dashboard");
    let mut observer = Client::observer(&address, &secret, "devices/+/telemetry").await;
    let good = authority.client("device001");
    let mut device = Client::device(&address, &good);
    device.connected().await;
    let readings = Readings::of(&device.link, 100);
    let first = readings.first;
    observer.readings_to(first).await;

    let foreign = Secret { ca_crt: authority.certificate(), ..Authority::new(2).client("device001") };
    device.volume.swap(&foreign);
    let (serial_number, reason) = device.identity_rejected().await;
    println!("refused: {reason}");
    assert_eq!(serial_number, Some(foreign.serial()));
    assert!(reason.contains("refused the certificate"), "{reason}");
    assert_eq!(device.connected().await, (true, good.serial()));
    assert_eq!(device.link.identity().serial_number(), good.serial());

    let better = authority.client("device001");
    device.volume.swap(&better);
    device.identity_changed().await;
    assert_eq!(device.link.identity().serial_number(), better.serial());
    let last = readings.stop().await;
    let (numbers, gap) = observer.readings_to(last).await;
    assert_complete(&numbers, first + 1, last);
    println!("a refused certificate and a good one: longest gap {gap:?}");
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn files_that_do_not_belong_together_cut_no_session() {
    let authority = Authority::new(1);
    let broker = Mosquitto::start(&authority.broker("localhost"));
    let good = authority.client("device001");
    let mut device = Client::device(&broker.address(), &good);
    device.connected().await;
    let halves = Secret { tls_key: authority.client("device001").tls_key, ..good.clone() };
    let other = authority.client("device002");
    for (secret, problem) in [(halves, "tls.key does not belong to tls.crt"), (other, "`device002`")] {
        device.volume.swap(&secret);
        let (_, reason) = device.identity_rejected().await;
        assert!(reason.contains(problem), "{reason}");
        assert!(device.link.is_connected());
        assert_eq!(device.link.identity().serial_number(), good.serial());
    }
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn trust_in_another_root_is_acknowledged_within_the_session() {
    let (old, new) = (Authority::new(1), Authority::new(2));
    let broker = Mosquitto::start(&old.broker("localhost"));
    let address = broker.address();
    let mut observer =
        Client::observer(&address, &old.client("observer.dashboard"), "devices/device001/+").await;
    let secret = old.client("device001");
    let mut device = Client::device(&address, &secret);
    assert_eq!(acknowledged(&mut observer).await.roots, [old.fingerprint()]);

    let both = Secret { ca_crt: old.certificate() + &new.certificate(), ..secret.clone() };
    device.volume.swap(&both);
    device.identity_changed().await;
    let CertificateAcknowledgement { serial_number, mut roots, .. } = acknowledged(&mut observer).await;
    let mut wanted = [old.fingerprint(), new.fingerprint()];
    wanted.sort();
    roots.sort();
    assert_eq!((serial_number, roots.as_slice()), (secret.serial(), wanted.as_slice()));

    // The session was not cut for it: the next thing that is said is the goodbye, not another greeting.
    device.link.close(Duration::from_secs(5)).await;
    let (_, message) = observer.message("a status", |message| message.topic.ends_with("/status")).await;
    assert_eq!(ConnectionStatus::parse(&message.payload).unwrap().state, ConnectionState::Offline);
}

async fn acknowledged(observer: &mut Client) -> CertificateAcknowledgement {
    let (_, message) =
        observer.message("an acknowledgement", |message| message.topic == "devices/device001/cert").await;
    CertificateAcknowledgement::parse(&message.payload).unwrap()
}
