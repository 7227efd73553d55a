//! Cutting somebody else's session.

use std::time::Duration;

use jiff::Timestamp;
use rumqttc::{AsyncClient, Broker, Event, MqttOptions, Packet, PublishOptions, TlsConfiguration, Transport};
use tokio::time::timeout;

use crate::{BrokerAddress, Failure, Identity, Publication, wire::ConnectionStatus};

/// A publication and a goodbye.
const REQUESTS: usize = 2;

/// There is one publication. Without a limit the client reserves room for 65 535 of them, several MiB: fifty sessions cut at
/// once were more than the operator's memory.
const WINDOW: u16 = 1;

/// Connects as `identity` and leaves. Because the broker takes the common name as the client id,
/// whoever was connected under that name is thrown out and its session is forgotten. Also proves that
/// the broker accepts `identity`.
///
/// Says `offline` in a device's name: Mosquitto 2.1.2 drops the last will of who is thrown out, if that
/// will has a delay. Names with a dot are no device's, and nothing is said for them.
///
/// # Errors
/// The [`Failure`] with which the broker refused, or [`Failure::Unreachable`] after `within`.
pub async fn take_over(broker: &BrokerAddress, identity: &Identity, within: Duration) -> Result<(), Failure> {
    let mut options = MqttOptions::new(identity.name(), Broker::tcp(&broker.host, broker.port));
    options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(identity.tls())));
    options.set_clean_start(true);
    options.set_outgoing_inflight_upper_limit(WINDOW);
    let (client, mut mqtt) = AsyncClient::builder(options).capacity(REQUESTS).build();
    let connect_and_leave = async {
        let mut accepted = false;
        loop {
            match mqtt.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    accepted = true;
                    // These are the first requests, and there is room for them. The goodbye waits for the
                    // acknowledgement of what was published before it.
                    if !identity.name().contains('.') {
                        let Publication { topic, payload, retain } =
                            Publication::status(identity.name(), ConnectionStatus::offline(Timestamp::now()));
                        let options = PublishOptions::at_least_once().retain(retain);
                        let _ = client.try_publish(topic, payload, options);
                    }
                    let _ = client.try_disconnect();
                }
                Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect))
                | Err(rumqttc::ConnectionError::RequestsDone) => {
                    return Ok(());
                }
                Ok(_) => {}
                // It has come back already, which threw us out in turn, and says so itself.
                Err(_) if accepted => return Ok(()),
                Err(error) => return Err(Failure::from(&error)),
            }
        }
    };
    timeout(within, connect_and_leave)
        .await
        .unwrap_or_else(|_| Err(Failure::Unreachable("no answer in time".to_owned())))
}
