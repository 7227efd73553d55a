//! The Service of a broker: where clients connect to.

use api::{MqttBroker, names};
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;

use super::broker_config::PORT;
use super::service;

/// The port of the pod that the Service leads to.
pub(super) const PORT_NAME: &str = "mqtts";

/// The Service of `broker`.
pub fn service(broker: &MqttBroker) -> Service {
    service::service(broker, &broker.spec.service, PORT_NAME, PORT)
}

/// Where clients in the cluster connect to, `HOST:PORT`.
pub fn address(broker: &MqttBroker) -> String {
    let host = names::broker_host(&broker.name_any(), &broker.namespace().unwrap_or_default());
    format!("{host}:{}", broker.spec.service.port.unwrap_or(PORT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads::fixtures;

    #[test]
    fn a_broker_is_reached_as_its_spec_says() {
        insta::assert_yaml_snapshot!(service(&fixtures::broker()));
    }

    #[test]
    fn clients_are_sent_to_the_port_of_the_service() {
        let mut broker = fixtures::broker();
        assert_eq!(address(&broker), "mqttbroker-mosquitto.plant.svc.cluster.local:8883");
        broker.spec.service.port = Some(443);
        assert_eq!(address(&broker), "mqttbroker-mosquitto.plant.svc.cluster.local:443");
    }
}
