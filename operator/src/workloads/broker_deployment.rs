//! The Deployment of a broker: Mosquitto, and before it the sidecar, which decides which files it gets to see.

use api::{MqttBroker, names};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, EmptyDirVolumeSource, PersistentVolumeClaimVolumeSource, PodSpec,
    Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt as _;

use super::Images;
use super::broker_config::{self, ACL, CONF, CONFIG, DATA, PKI, PORT, RUN};
use super::broker_service::PORT_NAME;
use super::pod::{self, PKI_VOLUME};

/// The user and group of Mosquitto; the sidecar's too, so that it may signal it and write what it reads.
const MOSQUITTO: i64 = 1883;
/// The sidecar's port for the kubelet and the operator (`/loaded`).
const STATUS_PORT: &str = "status";
/// On the pod template: a Mosquitto that was started with another configuration is started anew.
const CONF_HASH: &str = "ca-iot.dev/mosquitto-conf-sha256";

/// The keys of the Secret: what a client has, and the CRLs.
const FILES: [&str; 4] = ["tls.crt", "tls.key", "ca.crt", "ca.crl"];

const CONF_VOLUME: &str = "conf";
const ACL_VOLUME: &str = "acl";
const RUN_VOLUME: &str = "run";
const DATA_VOLUME: &str = "data";

/// The pod of `broker`, which presents the certificate in the Secret `secret`.
pub fn deployment(broker: &MqttBroker, secret: &str, images: &Images) -> Deployment {
    let name = names::owned::<MqttBroker>(&broker.name_any());
    let spec = PodSpec {
        init_containers: Some(vec![sidecar(images)]),
        containers: vec![mosquitto(broker, images)],
        share_process_namespace: Some(true), // the sidecar finds Mosquitto and sends it SIGHUP
        termination_grace_period_seconds: Some(60), // time to write the database
        volumes: Some(vec![
            pod::secret_volume(secret, &FILES),
            config_volume(CONF_VOLUME, &name, CONF),
            config_volume(ACL_VOLUME, &name, ACL),
            run_volume(),
            data_volume(broker, &name),
        ]),
        ..pod::pod(MOSQUITTO)
    };
    let hash = broker_config::conf_hash(broker);
    pod::deployment(
        broker,
        &[(CONF_HASH, &hash), ("kubectl.kubernetes.io/default-container", "mosquitto")],
        spec,
    )
}

/// A native sidecar: Mosquitto is started when checked files are in place, and ends before the sidecar does.
fn sidecar(images: &Images) -> Container {
    Container {
        name: "sidecar".into(),
        image: Some(images.sidecar.clone()),
        image_pull_policy: Some(images.pull_policy.clone()),
        restart_policy: Some("Always".into()),
        args: Some(vec![
            format!("--pki={PKI}"),
            format!("--acl-source={CONFIG}/{ACL}"),
            format!("--run={RUN}"),
            format!("--broker=127.0.0.1:{PORT}"),
            "--listen=0.0.0.0:8080".into(),
        ]),
        ports: Some(vec![pod::port(STATUS_PORT, 8080)]),
        // Ten minutes: files that are refused are not mended by a restart, but a new attempt does no harm.
        startup_probe: Some(pod::probe("/startupz", STATUS_PORT, 1, 600)),
        liveness_probe: Some(pod::liveness(STATUS_PORT)),
        readiness_probe: Some(pod::readiness(STATUS_PORT)),
        resources: Some(pod::modest("10m", "16Mi", "64Mi")),
        security_context: Some(pod::restricted()),
        volume_mounts: Some(vec![
            pod::read_only(PKI_VOLUME, PKI),
            pod::read_only(ACL_VOLUME, CONFIG),
            pod::writable(RUN_VOLUME, RUN),
        ]),
        ..Container::default()
    }
}

/// No probe of its own: a TCP connection proves nothing and fills the log. The sidecar's handshake makes the pod ready.
fn mosquitto(broker: &MqttBroker, images: &Images) -> Container {
    Container {
        name: "mosquitto".into(),
        image: Some(broker.spec.image.as_ref().unwrap_or(&images.mosquitto).clone()),
        image_pull_policy: Some(images.pull_policy.clone()),
        command: Some(vec!["/usr/sbin/mosquitto".into(), "-c".into(), format!("{CONFIG}/{CONF}")]),
        ports: Some(vec![pod::port(PORT_NAME, PORT)]),
        resources: Some(pod::resources(&broker.spec.resources, pod::modest("50m", "64Mi", "512Mi"))),
        security_context: Some(pod::restricted()),
        volume_mounts: Some(vec![
            pod::read_only(CONF_VOLUME, CONFIG),
            pod::read_only(RUN_VOLUME, RUN),
            pod::writable(DATA_VOLUME, DATA),
        ]),
        ..Container::default()
    }
}

/// One key of the `ConfigMap` `name`.
fn config_volume(volume: &str, name: &str, key: &str) -> Volume {
    Volume {
        name: volume.into(),
        config_map: Some(ConfigMapVolumeSource {
            name: name.into(),
            items: Some(vec![pod::item(key)]),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// In memory: a private key is in it. A Secret is at most 1 MiB, and two sets are there while one replaces the other.
fn run_volume() -> Volume {
    Volume { name: RUN_VOLUME.into(), empty_dir: Some(empty_dir(Some("Memory"), "8Mi")), ..Volume::default() }
}

/// The claim of [`super::broker_storage`], or what survives the container but not the pod.
fn data_volume(broker: &MqttBroker, name: &str) -> Volume {
    let volume = Volume { name: DATA_VOLUME.into(), ..Volume::default() };
    match broker.spec.storage {
        Some(_) => {
            let claim = PersistentVolumeClaimVolumeSource { claim_name: name.into(), read_only: None };
            Volume { persistent_volume_claim: Some(claim), ..volume }
        }
        None => Volume { empty_dir: Some(empty_dir(None, "1Gi")), ..volume },
    }
}

fn empty_dir(medium: Option<&str>, size_limit: &str) -> EmptyDirVolumeSource {
    EmptyDirVolumeSource {
        medium: medium.map(str::to_owned),
        size_limit: Some(Quantity(size_limit.into())),
        ..EmptyDirVolumeSource::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads::fixtures;

    #[test]
    fn a_broker_becomes_mosquitto_and_its_sidecar() {
        let broker = fixtures::broker();
        insta::assert_yaml_snapshot!(deployment(&broker, "mqttbroker-mosquitto", &fixtures::images()));
    }

    #[test]
    fn a_broker_without_storage_keeps_its_messages_in_the_pod() {
        let mut broker = fixtures::broker();
        broker.spec.storage = None;
        let pod = deployment(&broker, "mqttbroker-mosquitto", &fixtures::images()).spec.template.spec;
        let volumes = pod.unwrap().volumes.unwrap();
        assert!(volumes.iter().all(|volume| volume.persistent_volume_claim.is_none()));
        assert!(volumes.iter().any(|volume| volume.name == DATA_VOLUME && volume.empty_dir.is_some()));
    }

    #[test]
    fn mosquitto_never_sees_the_mounted_secret() {
        let broker = mosquitto(&fixtures::broker(), &fixtures::images());
        assert!(broker.volume_mounts.unwrap().iter().all(|mount| mount.name != PKI_VOLUME));
    }
}
