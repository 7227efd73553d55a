//! What appears in the cluster for a custom resource: one file, one thing. Pure: nothing is read or written, nothing can
//! fail, and every object is complete, so that a server-side apply by one field manager says all that we own of it.
//!
//! | for | file | becomes |
//! | --- | --- | --- |
//! | `IotDevice` | [`thermometer`] | a Deployment, when the device asks for a simulated thermometer |
//! | `MqttBroker` | [`broker_config`] | a `ConfigMap`: `mosquitto.conf` and the access rules |
//! | | [`broker_deployment`] | a Deployment: Mosquitto, and the sidecar that feeds it |
//! | | [`broker_service`] | a Service: where clients connect to |
//! | | [`broker_storage`] | a `PersistentVolumeClaim`, when the broker asks for one |
//! | `Dashboard` | [`dashboard_deployment`] | a Deployment |
//! | | [`dashboard_service`] | a Service |
//! | | [`dashboard_access`] | a `ServiceAccount`, a Role and a `RoleBinding`: it reads the four kinds |
//!
//! `metadata` holds what all objects have in common, `pod` what all pods have, `service` what both Services have.
//! Secrets are not among them: certificates are issued, not built.

pub mod broker_config;
pub mod broker_deployment;
pub mod broker_service;
pub mod broker_storage;
pub mod dashboard_access;
pub mod dashboard_deployment;
pub mod dashboard_service;
pub mod metadata;
pub mod thermometer;

mod pod;
mod service;

#[cfg(test)]
mod fixtures;

/// The images that pods are made from, unless a resource names its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// The simulated thermometer.
    pub thermometer: String,
    /// The dashboard.
    pub dashboard: String,
    /// What runs beside Mosquitto in the broker's pod.
    pub sidecar: String,
    /// Mosquitto, 2.1.2 or newer.
    pub mosquitto: String,
    /// `Always`, `IfNotPresent` or `Never`; for all of them.
    pub pull_policy: String,
}
