//! One resource of each kind, as users would write them.

use api::{
    Access, BrokerTls, Dashboard, DashboardSpec, IotDevice, IotDeviceSpec, MqttBroker, MqttBrokerSpec,
    Resources, Service, ServiceType, Storage, Thermometer, TlsVersion,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

use super::Images;

pub(super) fn images() -> Images {
    Images {
        thermometer: "ca-iot/thermometer:0.1.0".into(),
        dashboard: "ca-iot/dashboard:0.1.0".into(),
        sidecar: "ca-iot/broker-sidecar:0.1.0".into(),
        mosquitto: "eclipse-mosquitto:2.1.2".into(),
        pull_policy: "IfNotPresent".into(),
    }
}

pub(super) fn device() -> IotDevice {
    let interval = std::time::Duration::from_millis(200).into();
    let thermometer = Some(Thermometer { interval, mean: -18.5, swing: 2.0 });
    in_cluster(IotDevice::new("device001", IotDeviceSpec { thermometer, ..IotDeviceSpec::default() }))
}

pub(super) fn broker() -> MqttBroker {
    let access = |name: &str, read: &[&str], write: &[&str]| Access {
        name: name.into(),
        read: read.iter().map(|filter| (*filter).to_owned()).collect(),
        write: write.iter().map(|filter| (*filter).to_owned()).collect(),
    };
    in_cluster(MqttBroker::new(
        "mosquitto",
        MqttBrokerSpec {
            resources: Resources {
                requests: [("cpu".into(), Quantity("1".into())), ("memory".into(), Quantity("1Gi".into()))]
                    .into(),
                limits: [("memory".into(), Quantity("2Gi".into()))].into(),
            },
            storage: Some(Storage { size: Quantity("1Gi".into()), storage_class_name: Some("fast".into()) }),
            service: Service { type_: ServiceType::NodePort, node_port: Some(30_883), ..Service::default() },
            tls: BrokerTls { min_version: TlsVersion::V13 },
            max_connections: Some(10_000),
            access: vec![
                access("historian", &["devices/#"], &[]),
                access("controller", &["devices/+/telemetry", "devices/+/status"], &["cmd/boiler room/#"]),
                access("historian", &["$SYS/#", "devices/#"], &[]),
            ],
            ..MqttBrokerSpec::default()
        },
    ))
}

pub(super) fn dashboard() -> Dashboard {
    let service = Service {
        type_: ServiceType::LoadBalancer,
        annotations: [("example.com/internal".into(), "true".into())].into(),
        ..Service::default()
    };
    in_cluster(Dashboard::new("dashboard", DashboardSpec { service, ..DashboardSpec::default() }))
}

fn in_cluster<K: ResourceExt>(mut resource: K) -> K {
    resource.meta_mut().namespace = Some("plant".into());
    resource.meta_mut().uid = Some("4bd1e3a6-7f0e-4a52-9c53-0e1a9e1f2a11".into());
    resource
}
