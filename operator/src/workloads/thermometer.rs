//! The Deployment of a device that asks for a simulated thermometer.

use api::IotDevice;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::Images;
use super::pod::{self, CLIENT_FILES, CLIENT_PKI, NONROOT, PKI_VOLUME};

const PORT: &str = "http";

/// The thermometer of `device`, which connects to `broker` (`HOST:PORT`) with the certificate in the Secret `secret`;
/// `None` for a physical device.
pub fn deployment(device: &IotDevice, broker: &str, secret: &str, images: &Images) -> Option<Deployment> {
    let api::Thermometer { interval, mean, swing } = device.spec.thermometer.as_ref()?;
    let container = Container {
        name: "thermometer".into(),
        image: Some(images.thermometer.clone()),
        image_pull_policy: Some(images.pull_policy.clone()),
        args: Some(vec![
            format!("--broker={broker}"),
            format!("--pki={CLIENT_PKI}"),
            format!("--interval={interval}"),
            format!("--mean={mean}"),
            format!("--swing={swing}"),
            "--listen=0.0.0.0:8080".into(),
        ]),
        ports: Some(vec![pod::port(PORT, 8080)]),
        liveness_probe: Some(pod::liveness(PORT)),
        readiness_probe: Some(pod::readiness(PORT)),
        resources: Some(pod::modest("5m", "16Mi", "64Mi")),
        security_context: Some(pod::restricted()),
        volume_mounts: Some(vec![pod::read_only(PKI_VOLUME, CLIENT_PKI)]),
        ..Container::default()
    };
    let spec = PodSpec {
        containers: vec![container],
        termination_grace_period_seconds: Some(5), // time to say goodbye to the broker
        volumes: Some(vec![pod::secret_volume(secret, &CLIENT_FILES)]),
        ..pod::pod(NONROOT)
    };
    Some(pod::deployment(device, &[], spec))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads::fixtures;

    #[test]
    fn a_device_with_a_thermometer_becomes_a_pod_with_its_certificate() {
        let broker = "mqttbroker-mosquitto.plant.svc.cluster.local:8883";
        insta::assert_yaml_snapshot!(deployment(
            &fixtures::device(),
            broker,
            "iotdevice-device001",
            &fixtures::images()
        ));
    }

    #[test]
    fn a_physical_device_has_no_pod() {
        let mut device = fixtures::device();
        device.spec.thermometer = None;
        assert_eq!(deployment(&device, "broker:8883", "iotdevice-device001", &fixtures::images()), None);
    }
}
