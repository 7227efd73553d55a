//! What a device says about itself, unasked.

use jiff::Timestamp;
use rumqttc::{LastWill, LastWillProperties, QoS};

use crate::{
    Identity, Publication,
    topic::Channel,
    wire::{ConnectionStatus, Reading},
};

/// How long the broker waits for a lost device to come back before it publishes the last will, in
/// seconds (MQTT 5, 3.1.3.2.2). Changing the certificate takes a tenth of a second and is no absence.
const WILL_DELAY: u32 = 5;

impl Publication {
    /// A measurement of device `name`.
    pub fn reading(name: &str, reading: &Reading) -> Self {
        Self { topic: Channel::Telemetry.topic(name), payload: reading.to_json(), retain: false }
    }

    /// Whether device `name` is there, for everyone who asks later, too.
    pub fn status(name: &str, status: ConnectionStatus) -> Self {
        Self { topic: Channel::Status.topic(name), payload: status.to_json(), retain: true }
    }

    /// Which certificate a device uses and which roots it trusts.
    pub fn acknowledgement(identity: &Identity) -> Self {
        Self {
            topic: Channel::Certificate.topic(identity.name()),
            payload: identity.acknowledgement().to_json(),
            retain: true,
        }
    }
}

/// What the broker says in the name of a device that vanished.
pub(crate) fn last_will(name: &str, now: Timestamp) -> LastWill {
    let Publication { topic, payload, retain } = Publication::status(name, ConnectionStatus::offline(now));
    let properties = LastWillProperties {
        delay_interval: Some(WILL_DELAY),
        payload_format_indicator: None,
        message_expiry_interval: None,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    };
    LastWill::new(topic, payload, QoS::AtLeastOnce, retain, Some(properties))
}
