//! What both Services have in common.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::metadata::{Owner, identity, metadata};

/// Leads to the port `name` of the owner's pod, from `default_port` unless `asked` says otherwise.
pub(super) fn service<K: Owner>(owner: &K, asked: &api::Service, name: &str, default_port: i32) -> Service {
    let api::Service { type_, port, node_port, annotations } = asked;
    let has_node_port = *type_ != api::ServiceType::ClusterIP;
    Service {
        metadata: ObjectMeta {
            annotations: Some(annotations.clone()).filter(|some| !some.is_empty()),
            ..metadata(owner)
        },
        spec: Some(ServiceSpec {
            type_: Some(type_.as_str().into()),
            selector: Some(identity(owner)),
            ports: Some(vec![ServicePort {
                name: Some(name.to_owned()),
                port: port.unwrap_or(default_port),
                target_port: Some(IntOrString::String(name.to_owned())),
                protocol: Some("TCP".into()), // half of its key in a server-side apply
                node_port: node_port.filter(|_| has_node_port),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

#[cfg(test)]
mod tests {
    use api::{MqttBroker, MqttBrokerSpec, ServiceType};

    use super::*;

    fn node_port(type_: ServiceType) -> Option<i32> {
        let asked = api::Service { type_, node_port: Some(30_883), ..api::Service::default() };
        let broker = MqttBroker::new("mosquitto", MqttBrokerSpec::default());
        service(&broker, &asked, "mqtts", 8883).spec.unwrap().ports.unwrap()[0].node_port
    }

    #[test]
    fn a_service_turned_back_to_the_cluster_gives_up_its_node_port() {
        assert_eq!(node_port(ServiceType::NodePort), Some(30_883));
        assert_eq!(node_port(ServiceType::LoadBalancer), Some(30_883));
        assert_eq!(node_port(ServiceType::ClusterIP), None);
    }
}
