//! `IotDevice`: the identity of one device.

use kube::{CustomResource, core::Duration as GoDuration};
use pki::RevocationReason;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CertificateHolder, CertificateSpec, HolderStatus, LocalRef, schema};

/// A device of the fleet: a client certificate, kept valid, whose common name is the device's name.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "ca-iot.dev",
    version = "v1alpha1",
    kind = "IotDevice",
    plural = "iotdevices",
    singular = "iotdevice",
    shortname = "iotd",
    category = "iot",
    namespaced,
    status = "HolderStatus",
    derive = "PartialEq",
    doc = "A device of the fleet: a client certificate, kept valid, whose common name is the device's name."
)]
#[serde(rename_all = "camelCase")]
pub struct IotDeviceSpec {
    /// The certificate.
    #[serde(flatten)]
    pub certificate: CertificateSpec,
    /// The broker that the device talks to; absent: the only one in the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker_ref: Option<LocalRef>,
    /// A PKCS#10 request in PEM: the private key stays on the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16384))]
    pub csr: Option<String>,
    /// On hold: the certificate is revoked until this is `false` again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// For good: the certificate is revoked. Taking this away enrols the device afresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revoked>,
    /// Run a simulated thermometer; absent: a physical device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thermometer: Option<Thermometer>,
}

/// Why a device is revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revoked {
    /// The reason as it stands in the CRL (RFC 5280, 5.3.1).
    pub reason: RevocationReason,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// A simulated thermometer in a room that warms by day and cools by night.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Thermometer {
    /// How often it sends a reading, as a Go duration from `100ms` to `1h`.
    #[serde(default = "five_seconds")]
    #[schemars(schema_with = "schema::duration")]
    pub interval: GoDuration,
    /// The room's mean temperature in °C.
    #[serde(default = "room_temperature")]
    #[schemars(range(min = -100.0, max = 200.0))]
    pub mean: f64,
    /// How far the temperature swings around its mean over a day, in °C.
    #[serde(default = "mild_swing")]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub swing: f64,
}

// === impl IotDevice ===

impl CertificateHolder for IotDevice {
    fn certificate_spec(&self) -> &CertificateSpec {
        &self.spec.certificate
    }

    fn holder_status(&self) -> Option<&HolderStatus> {
        self.status.as_ref()
    }
}

// === impl Thermometer ===

impl Default for Thermometer {
    fn default() -> Self {
        Self { interval: five_seconds(), mean: room_temperature(), swing: mild_swing() }
    }
}

fn five_seconds() -> GoDuration {
    std::time::Duration::from_secs(5).into()
}

fn room_temperature() -> f64 {
    21.0
}

fn mild_swing() -> f64 {
    3.0
}
