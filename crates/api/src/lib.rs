//! What users write and what they read back: the custom resources of `ca-iot.dev/v1alpha1`.
//!
//! | kind | file | becomes |
//! | --- | --- | --- |
//! | [`RootCA`] | `root_ca.rs` | a signing key, a trust bundle, a CRL |
//! | [`IotDevice`] | `iot_device.rs` | a client certificate, on request a simulated thermometer |
//! | [`MqttBroker`] | `mqtt_broker.rs` | a server certificate and a running Mosquitto |
//! | [`Dashboard`] | `dashboard.rs` | a client certificate and a web page |
//!
//! The last three hold a certificate from a root: what they ask for is one type, [`CertificateSpec`], and what they
//! report is one type, [`CertificateStatus`]. Limits that a schema can tell are in the schema (`schema.rs`), rules
//! across fields are CEL, and both say what to write instead. The words of [`conditions`] are the same in every kind.

pub mod conditions;
pub mod crds;
pub mod names;

mod certificate;
mod dashboard;
mod iot_device;
mod mqtt_broker;
mod root_ca;
mod schema;
mod workload;

pub use certificate::{
    CertificateHolder, CertificateSpec, CertificateState, CertificateStatus, DeviceSubject, HolderStatus,
    LocalRef, Renewal, Revocation, Superseded,
};
pub use dashboard::{Dashboard, DashboardSpec};
pub use iot_device::{IotDevice, IotDeviceSpec, Revoked, Thermometer};
pub use kube::core::Duration as GoDuration;
pub use mqtt_broker::{
    Access, BrokerStatus, BrokerTls, Loaded, LoadedCrl, MqttBroker, MqttBrokerSpec, Storage, TlsVersion,
};
pub use root_ca::{
    Crl, CrlStatus, DeletionPolicy, Generation, GenerationState, ImportFrom, RootCA, RootCASpec,
    RootCAStatus, RootSubject, Rotation, RotationPhase, RotationStatus,
};
pub use workload::{Resources, Service, ServiceType};
