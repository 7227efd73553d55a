//! The Deployment of a dashboard.

use api::{Dashboard, names};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use kube::ResourceExt as _;

use super::Images;
use super::dashboard_service::PORT_NAME;
use super::pod::{self, CLIENT_FILES, CLIENT_PKI, NONROOT, PKI_VOLUME};

const PORT: i32 = 5000;

/// The pod of `dashboard`, which connects to `broker` (`HOST:PORT`) with the certificate in the Secret `secret`. It has a token,
/// of the account in [`super::dashboard_access`], because it reads the custom resources.
pub fn deployment(dashboard: &Dashboard, broker: &str, secret: &str, images: &Images) -> Deployment {
    let container = Container {
        name: "dashboard".into(),
        image: Some(dashboard.spec.image.as_ref().unwrap_or(&images.dashboard).clone()),
        image_pull_policy: Some(images.pull_policy.clone()),
        args: Some(vec![
            format!("--broker={broker}"),
            format!("--pki={CLIENT_PKI}"),
            format!("--listen=0.0.0.0:{PORT}"),
            format!("--namespace={}", dashboard.namespace().unwrap_or_default()),
        ]),
        ports: Some(vec![pod::port(PORT_NAME, PORT)]),
        liveness_probe: Some(pod::liveness(PORT_NAME)),
        readiness_probe: Some(pod::readiness(PORT_NAME)),
        resources: Some(pod::resources(&dashboard.spec.resources, pod::modest("20m", "32Mi", "256Mi"))),
        security_context: Some(pod::restricted()),
        volume_mounts: Some(vec![pod::read_only(PKI_VOLUME, CLIENT_PKI)]),
        ..Container::default()
    };
    let spec = PodSpec {
        automount_service_account_token: Some(true),
        service_account_name: Some(names::owned::<Dashboard>(&dashboard.name_any())),
        containers: vec![container],
        termination_grace_period_seconds: Some(5), // open pages reconnect by themselves
        volumes: Some(vec![pod::secret_volume(secret, &CLIENT_FILES)]),
        ..pod::pod(NONROOT)
    };
    pod::deployment(dashboard, &[], spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads::fixtures;

    #[test]
    fn a_dashboard_becomes_a_pod_that_may_read_the_api() {
        let broker = "mqttbroker-mosquitto.plant.svc.cluster.local:8883";
        insta::assert_yaml_snapshot!(deployment(
            &fixtures::dashboard(),
            broker,
            "dashboard-dashboard",
            &fixtures::images()
        ));
    }
}
