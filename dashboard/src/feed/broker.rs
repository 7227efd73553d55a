//! The MQTT side: what devices and broker say.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use link::topic::{ALL_DEVICES, BROKER_LOG, Channel};
use link::wire::{CertificateAcknowledgement, ConnectionStatus, Reading, WireError};
use link::{BrokerAddress, Event, Events, Identity, Link, LinkOptions, Message, Qos};

use super::handshake;
use crate::live::Live;
use crate::state::log;
use crate::state::wire::OwnCertificate;
use crate::state::{SourceName, State};

/// What the broker says of itself beside its log, every ten seconds.
const BROKER_FACTS: &str = "$SYS/broker/";
const VERSION: &str = "version";
const CLIENTS: &str = "clients/connected";
const UPTIME: &str = "uptime";

/// How often a certificate that is not there yet is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Follows the broker until the end of the process.
pub async fn follow(live: Arc<Live>, address: BrokerAddress, pki: PathBuf) {
    // The handle is held for the whole session: dropping it would end it.
    let (link, mut events) = open(&live, &address, &pki).await;
    live.with(|state| state.own_certificate(own(&link.identity())));
    let listen = async {
        while let Some(event) = events.next().await {
            take(&live, event);
        }
    };
    tokio::select! {
        () = listen => {}
        () = handshake::follow(&live, &address, &link) => {}
    }
    let problem = "the MQTT session has ended; restart the dashboard";
    live.with(|state| state.source_down(SourceName::Broker, problem, Timestamp::now()));
}

/// A page that shows what is has no use for what was: nothing is kept for it while it is away, and each new connection
/// brings the retained state of all devices. At QoS 1 with a session, Mosquitto passes on 300 messages a second, since it
/// saves each of them; this way it was 5 000, as many as came.
fn options(address: &BrokerAddress, pki: &Path) -> LinkOptions {
    let observer = LinkOptions {
        subscription_qos: Qos::AtMostOnce,
        session_expiry: Duration::ZERO,
        ..LinkOptions::observer(address.clone(), pki)
    };
    [VERSION, CLIENTS, UPTIME]
        .iter()
        .fold(observer.subscribe(ALL_DEVICES).subscribe(BROKER_LOG), |options, fact| {
            options.subscribe(format!("{BROKER_FACTS}{fact}"))
        })
}

/// Opens the session as soon as there is a certificate.
async fn open(live: &Live, address: &BrokerAddress, pki: &Path) -> (Link, Events) {
    loop {
        match Link::open(options(address, pki)) {
            Ok(opened) => return opened,
            Err(error) => {
                let problem = format!("no usable certificate in {}: {error}", pki.display());
                tracing::warn!(%problem, "the broker is not asked yet");
                live.with(|state| state.source_down(SourceName::Broker, problem, Timestamp::now()));
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }
}

/// The link logs what happens to the session; here it goes into the state.
fn take(live: &Live, event: Event) {
    let now = Timestamp::now();
    match event {
        Event::Message(message) => live.with(|state| receive(state, &message, now)),
        Event::Connected { .. } => {
            live.with(|state| state.source_up(SourceName::Broker, now));
        }
        Event::Disconnected { reason, .. } => {
            live.with(|state| {
                state.source_down(SourceName::Broker, reason.to_string(), now);
                state.deaf();
            });
        }
        Event::IdentityChanged(identity) => {
            tracing::info!(
                serial_number = identity.serial_number(),
                "a new certificate or new roots are in use"
            );
            live.with(|state| state.own_certificate(own(&identity)));
        }
        Event::IdentityRejected { serial_number, reason } => {
            tracing::warn!(serial_number, reason, "the new certificate is not used");
        }
    }
}

/// One message into the state.
fn receive(state: &mut State, message: &Message, now: Timestamp) {
    let Message { topic, payload, qos, retain } = message;
    if let Some(fact) = topic.strip_prefix(BROKER_FACTS).filter(|fact| !fact.starts_with("log/")) {
        broker_fact(state, fact, payload);
        return;
    }
    let qos = match qos {
        Qos::AtMostOnce => 0,
        Qos::AtLeastOnce => 1,
        Qos::ExactlyOnce => 2,
    };
    state.message(log::Message { topic, payload, qos, retained: *retain }, now);
    let Some((name, channel)) = Channel::parse(topic) else { return };
    if let Err(error) = device(state, name, channel, message, now) {
        tracing::debug!(topic, %error, "not understood");
        state.malformed(name);
    }
}

fn device(
    state: &mut State,
    name: &str,
    channel: Channel,
    message: &Message,
    now: Timestamp,
) -> Result<(), WireError> {
    let payload = &message.payload;
    match channel {
        Channel::Telemetry => state.reading(name, &Reading::parse(payload)?, now),
        Channel::Status => state.connection(name, ConnectionStatus::parse(payload)?, message.retain, now),
        Channel::Certificate => state.acknowledged(name, CertificateAcknowledgement::parse(payload)?),
    }
    Ok(())
}

/// `$SYS/broker/uptime` says `4711 seconds`, `$SYS/broker/clients/connected` a number alone.
fn broker_fact(state: &mut State, fact: &str, payload: &[u8]) {
    let Ok(text) = std::str::from_utf8(payload) else { return };
    let number = || text.split(' ').next().and_then(|number| number.parse().ok());
    state.broker_facts(|facts| match fact {
        VERSION => facts.version = Some(text.chars().take(80).collect()),
        CLIENTS => facts.clients = number(),
        UPTIME => facts.uptime = number(),
        _ => {}
    });
}

fn own(identity: &Identity) -> OwnCertificate {
    OwnCertificate {
        name: identity.name().into(),
        serial_number: identity.serial_number().into(),
        not_after: identity.not_after().as_millisecond(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn after(messages: &[(&str, &str)]) -> Value {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let mut state = State::new("default", now);
        for (topic, payload) in messages {
            let message = Message {
                topic: (*topic).into(),
                payload: payload.as_bytes().into(),
                qos: Qos::AtLeastOnce,
                retain: false,
            };
            receive(&mut state, &message, now);
        }
        serde_json::to_value(state.snapshot(String::new(), "", now)).unwrap()
    }

    #[test]
    fn a_device_appears_with_what_it_says() {
        let acknowledgement = format!(
            r#"{{"serialNumber":"0a1b","notAfter":"2027-02-01T00:00:00Z","roots":["{}"]}}"#,
            "ff".repeat(32)
        );
        let state = after(&[
            ("devices/a/telemetry", r#"{"v":1,"ts":1800000000000,"seq":5,"celsius":21.4}"#),
            ("devices/a/status", r#"{"state":"online","ts":1799999999000}"#),
            ("devices/a/cert", &acknowledgement),
        ]);
        let device = &state["devices"][0];
        assert_eq!(device["latest"][2], 21.4_f32);
        assert_eq!(device["connection"]["state"], "online");
        assert_eq!(device["inUse"]["serialNumber"], "0a1b");
        assert_eq!(state["log"].as_array().unwrap().len(), 3);
        assert_eq!(state["rate"]["total"], 3);
    }

    #[test]
    fn nonsense_is_logged_and_counted_and_nothing_else() {
        let state = after(&[
            ("devices/a/telemetry", r#"{"v":1,"ts":1800000000000,"seq":5,"celsius":21.4}"#),
            ("devices/a/telemetry", "<b>hot</b>"),
            ("devices/a/more/levels", "x"),
        ]);
        assert_eq!(state["devices"][0]["malformed"], 1);
        assert_eq!(state["devices"][0]["latest"][2], 21.4_f32);
        assert_eq!(state["log"][1]["payload"], "<b>hot</b>");
    }

    #[test]
    fn the_broker_tells_its_version_and_its_log_is_in_the_log() {
        let state = after(&[
            ("$SYS/broker/version", "mosquitto version 2.1.2"),
            ("$SYS/broker/clients/connected", "4"),
            ("$SYS/broker/uptime", "4711 seconds"),
            ("$SYS/broker/log/N", "1800000000: New client connected"),
        ]);
        assert_eq!(state["broker"]["version"], "mosquitto version 2.1.2");
        assert_eq!((&state["broker"]["clients"], &state["broker"]["uptime"]), (&4.into(), &4711.into()));
        assert_eq!(state["log"].as_array().unwrap().len(), 1);
    }
}
