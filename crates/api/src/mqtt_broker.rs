//! `MqttBroker`: a Mosquitto that lets in whoever holds a certificate of the root, and nobody else.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CertificateHolder, CertificateSpec, HolderStatus, Resources, Service, schema};

/// A Mosquitto broker with mutual TLS, its server certificate kept valid.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "ca-iot.dev",
    version = "v1alpha1",
    kind = "MqttBroker",
    plural = "mqttbrokers",
    singular = "mqttbroker",
    shortname = "mqb",
    category = "iot",
    namespaced,
    status = "BrokerStatus",
    derive = "PartialEq",
    doc = "A Mosquitto broker with mutual TLS, its server certificate kept valid."
)]
#[serde(rename_all = "camelCase")]
pub struct MqttBrokerSpec {
    /// The server certificate. The names of the Service in the cluster and `localhost` are always in it.
    #[serde(flatten)]
    pub certificate: CertificateSpec,
    /// The Mosquitto image, 2.1.2 or newer; absent: the operator's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::image")]
    pub image: Option<String>,
    /// What Mosquitto may use.
    #[serde(default)]
    pub resources: Resources,
    /// Where sessions, queued and retained messages are kept; absent: none survives the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// How it is reached.
    #[serde(default)]
    pub service: Service,
    /// The transport.
    #[serde(default)]
    pub tls: BrokerTls,
    /// How many clients may be connected; absent: as many as file descriptors allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<i32>,
    /// What backends may read and write, beside each device's own topics.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub access: Vec<Access>,
}

/// A volume of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Its size, such as `1Gi`.
    #[schemars(schema_with = "schema::quantity")]
    pub size: Quantity,
    /// Its storage class; absent: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

/// The transport.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokerTls {
    /// The oldest version of TLS that is accepted.
    #[serde(default)]
    pub min_version: TlsVersion,
}

/// Versions of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V13,
}

/// What one backend may read and write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Access {
    /// The `IotDevice` whose certificate the backend holds.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Topic filters that it may subscribe to, such as `devices/#`; printable ASCII without spaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::topic_filters")]
    pub read: Vec<String>,
    /// Topic filters that it may publish to; printable ASCII without spaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::topic_filters")]
    pub write: Vec<String>,
}

/// What is so of a broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokerStatus {
    /// What is so of its certificate.
    #[serde(flatten)]
    pub holder: HolderStatus,
    /// Where clients in the cluster connect to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// What the running broker really uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded: Option<Loaded>,
}

/// What the running broker really uses, as a handshake proved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Loaded {
    /// The serial number of the certificate that it presents.
    pub serial_number: String,
    /// The roots that it trusts, by SHA-256 fingerprint.
    pub roots: Vec<String>,
    /// The CRLs that it has loaded.
    pub crls: Vec<LoadedCrl>,
    /// Since when.
    pub loaded_at: Time,
}

/// A CRL that the broker has loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoadedCrl {
    /// The root that signed it, by SHA-256 fingerprint.
    pub root: String,
    /// Its number.
    pub number: i64,
}

// === impl MqttBroker ===

impl CertificateHolder for MqttBroker {
    fn certificate_spec(&self) -> &CertificateSpec {
        &self.spec.certificate
    }

    fn holder_status(&self) -> Option<&HolderStatus> {
        self.status.as_ref().map(|s| &s.holder)
    }
}

impl Loaded {
    /// The CRL numbers by root.
    pub fn crl_numbers(&self) -> BTreeMap<&str, i64> {
        self.crls.iter().map(|crl| (crl.root.as_str(), crl.number)).collect()
    }
}
