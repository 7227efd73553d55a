//! What comes over the wire from a device, whoever that is, is read without a panic however it is damaged, and what is
//! read is within its ranges and says what was sent.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use jiff::Timestamp;
use link::BrokerAddress;
use link::topic::Channel;
use link::wire::{CertificateAcknowledgement, ConnectionStatus, MAX_PAYLOAD, MAX_ROOTS, Reading};

fn now() -> Timestamp {
    "2026-03-01T12:00:00.123Z".parse().unwrap()
}

#[test]
fn a_reading_is_within_its_range_or_refused() {
    let samples = [
        Reading::new(now(), 1_789_990_000_000_123, 21.4).to_json(),
        Reading::new(now(), u64::MAX, -273.15).to_json(),
        br#"{"v":1,"ts":1750000000000,"seq":7,"celsius":1e3,"unit":"C","also":[{"a":null}]}"#.to_vec(),
    ];
    fuzz::check(&samples, |payload| {
        let Ok(reading) = Reading::parse(payload) else { return Ok(()) };
        if payload.len() > MAX_PAYLOAD || !(-273.15..=10_000.0).contains(&reading.celsius) {
            return Err(format!("{reading:?} was taken"));
        }
        same(&reading, Reading::parse(&reading.to_json()))
    });
}

#[test]
fn a_status_is_read_or_refused() {
    let samples = [ConnectionStatus::online(now()).to_json(), ConnectionStatus::offline(now()).to_json()];
    fuzz::check(&samples, |payload| {
        let Ok(status) = ConnectionStatus::parse(payload) else { return Ok(()) };
        same(&status, ConnectionStatus::parse(&status.to_json()))
    });
}

#[test]
fn an_acknowledgement_names_serial_and_roots_as_they_are_written_everywhere_or_is_refused() {
    let acknowledgement = |roots| CertificateAcknowledgement {
        serial_number: "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567".to_owned(),
        not_after: "2026-06-01T00:00:00Z".parse().unwrap(),
        roots: (0..roots).map(|n| format!("{n:064x}")).collect(),
    };
    let samples = [1, 2, MAX_ROOTS].map(|roots| acknowledgement(roots).to_json());
    fuzz::check(&samples, |payload| {
        let Ok(read) = CertificateAcknowledgement::parse(payload) else { return Ok(()) };
        let hex = |text: &str| text.bytes().all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'));
        let roots =
            read.roots.len() <= MAX_ROOTS && read.roots.iter().all(|root| root.len() == 64 && hex(root));
        if !hex(&read.serial_number) || !roots {
            return Err(format!("{read:?} was taken"));
        }
        same(&read, CertificateAcknowledgement::parse(&read.to_json()))
    });
}

#[test]
fn a_topic_and_an_address_are_read_or_refused() {
    let samples = [
        "devices/device001/telemetry",
        "devices/device001/cert",
        "devices/a/status",
        "cmd/device001/identify",
        "mqttbroker-mosquitto.plant.svc.cluster.local:8883",
        "[2001:db8::7]:8883",
    ];
    let samples: Vec<_> = samples.iter().map(|text| text.as_bytes().to_vec()).collect();
    fuzz::check(&samples, |octets| {
        let text = String::from_utf8_lossy(octets);
        let _ = text.parse::<BrokerAddress>();
        let Some((name, channel)) = Channel::parse(&text) else { return Ok(()) };
        if channel.topic(name) == *text { Ok(()) } else { Err(format!("{text:?} was taken for {name}'s")) }
    });
}

fn same<T: PartialEq + std::fmt::Debug, E: std::fmt::Display>(
    read: &T,
    again: Result<T, E>,
) -> Result<(), String> {
    match again {
        Ok(again) if again == *read => Ok(()),
        Ok(again) => Err(format!("{read:?} is read back as {again:?}")),
        Err(problem) => Err(format!("{read:?} is not read back: {problem}")),
    }
}
