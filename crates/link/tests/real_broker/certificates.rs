//! Certificates and roots are replaced under a live session.

use std::{cell::RefCell, time::Duration};

use link::{
    Event,
    wire::{CertificateAcknowledgement, ConnectionState, ConnectionStatus, Reading},
};

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
    observer.message("a reading", |_| true).await;

    for _ in 0..times {
        let renewed = authority.client("device001");
        device.volume.swap(&renewed);
        let (session_present, serial_number) = device.connected().await;
        assert_eq!((session_present, serial_number), (true, renewed.serial()));
        device.identity_changed().await;
        assert_eq!(device.link.identity().serial_number(), renewed.serial());
    }
    let (first, last) = readings.stop().await;
    let (numbers, gap) = observer.readings_to(last).await;
    let repeated = assert_complete(&numbers, first + 1, last);
    println!(
        "{times} new certificates: {} readings, {repeated} repeated, longest gap {gap:?}",
        numbers.len()
    );
    assert!(gap < Duration::from_millis(800), "{gap:?}");
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn one_who_listens_changes_its_certificate_and_misses_nothing() {
    let authority = Authority::new(1);
    let broker = Mosquitto::start(&authority.broker("localhost"));
    let address = broker.address();
    let secret = authority.client("observer.dashboard");
    let mut observer = Client::observer(&address, &secret, "devices/+/telemetry").await;
    let mut device = Client::device(&address, &authority.client("device001"));
    device.connected().await;
    let readings = Readings::of(&device.link, 200);
    let (_, message) = observer.message("a reading", |_| true).await;
    let mut first = Reading::parse(&message.payload).unwrap().seq;

    for _ in 0..10 {
        observer.volume.swap(&authority.client("observer.dashboard"));
        let numbers = RefCell::<Vec<u64>>::default();
        observer
            .until("a new identity", |event| match event {
                Event::IdentityChanged(_) => Some(()),
                Event::Message(message) => {
                    numbers.borrow_mut().push(Reading::parse(&message.payload).unwrap().seq);
                    None
                }
                _ => None,
            })
            .await;
        let numbers = numbers.into_inner();
        let last = *numbers.last().unwrap();
        assert_complete(&numbers, first + 1, last);
        first = last;
    }
    let (_, last) = readings.stop().await;
    let (numbers, _) = observer.readings_to(last).await;
    assert_complete(&numbers, first + 1, last);
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
    observer.message("a reading", |_| true).await;

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
    let (first, last) = readings.stop().await;
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
