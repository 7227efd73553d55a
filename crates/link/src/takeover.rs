//! Cutting somebody else's session.

use std::time::Duration;

use rumqttc::{AsyncClient, Broker, Event, MqttOptions, Packet, TlsConfiguration, Transport};
use tokio::time::timeout;

use crate::{BrokerAddress, Failure, Identity};

/// Connects as `identity` and leaves. Because the broker takes the common name as the client id,
/// whoever was connected under that name is thrown out, its session is forgotten and its last will
/// is published. Also proves that the broker accepts `identity`.
///
/// # Errors
/// The [`Failure`] with which the broker refused, or [`Failure::Unreachable`] after `within`.
pub async fn take_over(broker: &BrokerAddress, identity: &Identity, within: Duration) -> Result<(), Failure> {
    let mut options = MqttOptions::new(identity.name(), Broker::tcp(&broker.host, broker.port));
    options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(identity.tls())));
    options.set_clean_start(true);
    let (client, mut mqtt) = AsyncClient::builder(options).capacity(1).build();
    let connect_and_leave = async {
        loop {
            match mqtt.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    // The queue holds one request and this is the first: there is room.
                    let _ = client.try_disconnect_now();
                }
                Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect))
                | Err(rumqttc::ConnectionError::RequestsDone) => {
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) => return Err(Failure::from(&error)),
            }
        }
    };
    timeout(within, connect_and_leave)
        .await
        .unwrap_or_else(|_| Err(Failure::Unreachable("no answer in time".to_owned())))
}
