//! What all pods have in common: they pass Pod Security `restricted` and have no more than they need.

use std::collections::BTreeMap;

use api::Resources;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::{
    Capabilities, ContainerPort, HTTPGetAction, KeyToPath, PodSecurityContext, PodSpec, PodTemplateSpec,
    Probe, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::metadata::{Owner, labels, metadata, selector};

/// The user and group of our own images.
pub(super) const NONROOT: i64 = 65_532;
/// Where the certificate of a device or dashboard is mounted.
pub(super) const CLIENT_PKI: &str = "/pki";
/// The keys of a client's Secret that its pod gets to see.
pub(super) const CLIENT_FILES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];
/// The volume with the certificate.
pub(super) const PKI_VOLUME: &str = "pki";

/// A Deployment of one pod. The old pod ends before the new one starts: the client id is the common name, so two pods
/// with one certificate would throw each other out of the broker, and two brokers would share one database.
pub(super) fn deployment<K: Owner>(owner: &K, annotations: &[(&str, &str)], pod: PodSpec) -> Deployment {
    let annotations: BTreeMap<_, _> =
        annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let template = ObjectMeta {
        labels: Some(labels(owner)),
        annotations: Some(annotations).filter(|some| !some.is_empty()),
        ..ObjectMeta::default()
    };
    Deployment {
        metadata: metadata(owner),
        spec: DeploymentSpec {
            replicas: Some(1),
            revision_history_limit: Some(0), // the custom resource says what runs: nothing to roll back to
            selector: selector(owner),
            strategy: Some(DeploymentStrategy { type_: Some("Recreate".into()), rolling_update: None }),
            template: PodTemplateSpec { metadata: Some(template), spec: Some(pod) },
            ..DeploymentSpec::default()
        },
        status: None,
    }
}

/// A pod without containers yet, whose files belong to `user` as a group, too.
pub(super) fn pod(user: i64) -> PodSpec {
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false), // thousands of devices have no Service, but the namespace may have many
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(user),
            run_as_group: Some(user),
            fs_group: Some(user),
            fs_group_change_policy: Some("OnRootMismatch".into()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".into(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    }
}

/// What no container of ours may do.
pub(super) fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

/// The files `keys` of the Secret `name`, readable for the pod's group alone.
pub(super) fn secret_volume(name: &str, keys: &[&str]) -> Volume {
    Volume {
        name: PKI_VOLUME.into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name.to_owned()),
            default_mode: Some(0o440),
            items: Some(keys.iter().map(|key| item(key)).collect()),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// A key of a Secret or `ConfigMap` as a file of the same name.
pub(super) fn item(key: &str) -> KeyToPath {
    KeyToPath { key: key.to_owned(), path: key.to_owned(), ..KeyToPath::default() }
}

/// A mount that is only read.
pub(super) fn read_only(volume: &str, path: &str) -> VolumeMount {
    VolumeMount { read_only: Some(true), ..writable(volume, path) }
}

/// A mount that is written to.
pub(super) fn writable(volume: &str, path: &str) -> VolumeMount {
    VolumeMount { name: volume.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

/// A port of a container. The protocol is half of its key in a server-side apply, so it is never left out.
pub(super) fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    }
}

/// Asks `path` on the port `port` every `seconds`, until `failures` answers in a row are bad or late.
pub(super) fn probe(path: &str, port: &str, seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(port.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(seconds),
        timeout_seconds: Some(3),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// A minute without a sign of life, and the container is started anew.
pub(super) fn liveness(port: &str) -> Probe {
    probe("/healthz", port, 10, 6)
}

/// Noticed within two seconds when it becomes ready, within six when it is no longer.
pub(super) fn readiness(port: &str) -> Probe {
    probe("/readyz", port, 2, 3)
}

/// What is set aside for a container, and the memory that it may use at most. No CPU limit: it would only add latency.
pub(super) fn modest(cpu: &str, memory: &str, memory_limit: &str) -> ResourceRequirements {
    let quantity = |text: &str| Quantity(text.to_owned());
    ResourceRequirements {
        requests: Some([("cpu".into(), quantity(cpu)), ("memory".into(), quantity(memory))].into()),
        limits: Some([("memory".into(), quantity(memory_limit))].into()),
        ..ResourceRequirements::default()
    }
}

/// What the user asks for, as a whole; `default` when nothing. The two are never mixed: a request above a limit that the
/// user does not see would be refused.
pub(super) fn resources(asked: &Resources, default: ResourceRequirements) -> ResourceRequirements {
    let Resources { requests, limits } = asked.clone();
    if requests.is_empty() && limits.is_empty() {
        return default;
    }
    ResourceRequirements {
        requests: Some(requests).filter(|some| !some.is_empty()),
        limits: Some(limits).filter(|some| !some.is_empty()),
        ..ResourceRequirements::default()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Container;

    use super::*;
    use crate::workloads::{broker_deployment, dashboard_deployment, fixtures, thermometer};

    fn pods() -> [PodSpec; 3] {
        let images = fixtures::images();
        [
            thermometer::deployment(&fixtures::device(), "broker:8883", "iotdevice-device001", &images)
                .unwrap(),
            broker_deployment::deployment(&fixtures::broker(), "mqttbroker-mosquitto", &images),
            dashboard_deployment::deployment(
                &fixtures::dashboard(),
                "broker:8883",
                "dashboard-dashboard",
                &images,
            ),
        ]
        .map(|deployment| deployment.spec.template.spec.unwrap())
    }

    fn containers(pod: &PodSpec) -> impl Iterator<Item = &Container> {
        pod.init_containers.iter().flatten().chain(&pod.containers)
    }

    /// The rules of Pod Security, level `restricted`, of Kubernetes 1.34.
    #[test]
    fn pods_are_let_into_a_restricted_namespace() {
        for pod in pods() {
            let all = pod.security_context.as_ref().unwrap();
            assert_eq!(all.run_as_non_root, Some(true));
            assert!(all.run_as_user.is_some_and(|user| user > 0));
            assert_eq!(all.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault");
            assert!(all.sysctls.is_none());
            assert!([pod.host_network, pod.host_pid, pod.host_ipc].iter().all(Option::is_none));
            for volume in pod.volumes.iter().flatten() {
                let allowed = [
                    volume.secret.is_some(),
                    volume.config_map.is_some(),
                    volume.empty_dir.is_some(),
                    volume.persistent_volume_claim.is_some(),
                ];
                assert_eq!(allowed.into_iter().filter(|is| *is).count(), 1, "{volume:?}");
            }
            for container in containers(&pod) {
                let own = container.security_context.as_ref().unwrap();
                assert_eq!(own.allow_privilege_escalation, Some(false), "{}", container.name);
                let capabilities = own.capabilities.as_ref().unwrap();
                assert_eq!(capabilities.drop.as_deref(), Some(["ALL".to_owned()].as_slice()));
                assert!(capabilities.add.is_none());
                assert_eq!(own.read_only_root_filesystem, Some(true)); // our rule, not one of the level
                assert!([own.privileged, own.run_as_non_root].iter().all(Option::is_none));
                assert!(
                    own.run_as_user.is_none() && own.seccomp_profile.is_none() && own.proc_mount.is_none()
                );
                assert!(container.ports.iter().flatten().all(|port| port.host_port.is_none()));
            }
        }
    }

    #[test]
    fn only_the_dashboard_has_a_token_and_it_mounts_no_secret_but_its_own() {
        let [thermometer, broker, dashboard] = pods();
        for pod in [thermometer, broker] {
            assert_eq!(pod.automount_service_account_token, Some(false));
            assert_eq!(pod.service_account_name, None);
        }
        assert_eq!(dashboard.automount_service_account_token, Some(true));
        let secrets = dashboard.volumes.into_iter().flatten().filter_map(|volume| volume.secret?.secret_name);
        assert_eq!(secrets.collect::<Vec<_>>(), ["dashboard-dashboard"]);
    }

    #[test]
    fn no_container_takes_all_memory_of_its_node() {
        for pod in pods() {
            for container in containers(&pod) {
                let limits = container.resources.as_ref().and_then(|all| all.limits.as_ref());
                assert!(limits.is_some_and(|limits| limits.contains_key("memory")), "{}", container.name);
            }
        }
    }

    #[test]
    fn what_the_user_asks_for_is_not_mixed_with_the_defaults() {
        let asked = Resources {
            requests: [("memory".to_owned(), Quantity("2Gi".into()))].into(),
            ..Resources::default()
        };
        let given = resources(&asked, modest("1m", "1Mi", "64Mi"));
        assert_eq!(given.requests, Some(asked.requests));
        assert_eq!(given.limits, None);
        assert_eq!(
            resources(&Resources::default(), modest("1m", "1Mi", "64Mi")),
            modest("1m", "1Mi", "64Mi")
        );
    }
}
