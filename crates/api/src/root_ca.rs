//! `RootCA`: a certificate authority of the namespace, its generations, and its CRL.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, core::Duration as GoDuration};
use pki::KeyAlgorithm;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// A certificate authority: a signing key, a trust bundle and a CRL, kept valid.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "ca-iot.dev",
    version = "v1alpha1",
    kind = "RootCA",
    plural = "rootcas",
    singular = "rootca",
    shortname = "rca",
    category = "iot",
    namespaced,
    status = "RootCAStatus",
    derive = "PartialEq",
    doc = "A certificate authority: a signing key, a trust bundle and a CRL, kept valid."
)]
#[serde(rename_all = "camelCase")]
pub struct RootCASpec {
    /// The distinguished name; ` g<generation>` is put after the common name.
    pub subject: RootSubject,
    /// The kind of key pair.
    #[serde(default)]
    pub key_algorithm: KeyAlgorithm,
    /// How long a generation of the root lives, as a Go duration of at least `1h`.
    #[serde(default = "ten_years")]
    #[schemars(schema_with = "schema::duration")]
    pub duration: GoDuration,
    /// Adopt the CA of this Secret instead of making one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import_from: Option<ImportFrom>,
    /// When and how the root is replaced.
    #[serde(default, skip_serializing_if = "Rotation::is_default")]
    pub rotation: Rotation,
    /// The certificate revocation list.
    #[serde(default)]
    pub crl: Crl,
    /// What happens to the key when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// A root's distinguished name (RFC 5280, appendix A.1 has the upper bounds).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RootSubject {
    /// CN, at most 58 characters: ` g<generation>` is put after it.
    #[schemars(length(min = 1, max = 58))]
    pub common_name: String,
    /// The other attributes.
    #[serde(flatten)]
    pub attributes: crate::DeviceSubject,
}

/// The Secret to adopt a CA from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImportFrom {
    /// A Secret of this namespace with `tls.crt` and `tls.key`, as `kubectl create secret tls` makes them.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}

/// When and how the root is replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// Every new value replaces the root once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::trigger")]
    pub trigger: Option<String>,
    /// How long before its end the root is replaced; absent: half of `duration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub before_expiry: Option<GoDuration>,
    /// Hold the rotation where it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// How long to wait for devices that do not acknowledge; absent: a week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub acknowledge_within: Option<GoDuration>,
    /// The old key is compromised: drop it as soon as the broker has switched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub distrust_now: bool,
}

/// The certificate revocation list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Crl {
    /// From thisUpdate to nextUpdate, at least `2m`; it is signed anew at half of it.
    #[serde(default = "one_week")]
    #[schemars(schema_with = "schema::duration")]
    pub valid_for: GoDuration,
    /// The CRL distribution point (RFC 5280, 4.2.1.13) that stands in certificates; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 1024), regex(pattern = r"^https?://[!-~]+$"))]
    pub distribution_url: Option<String>,
}

/// What happens to the key of a deleted root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The Secret stays, and is taken up by a root of the same name.
    #[default]
    Retain,
    /// The Secret goes too.
    Delete,
}

/// What is so of a root.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RootCAStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The distinguished name of the generation that signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The generation that signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_generation: Option<i32>,
    /// How many devices refer to this root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<i32>,
    /// The generations that are trusted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub generations: Vec<Generation>,
    /// The replacement that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationStatus>,
    /// The CRL of the generation that signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl: Option<CrlStatus>,
    /// `Ready`, and `Degraded` when something is wrong that does not stop it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// One generation of a root.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Generation {
    /// Counts from 1.
    pub generation: i32,
    /// What it is used for.
    pub state: GenerationState,
    /// The serial number in lower-case hexadecimal octets.
    pub serial_number: String,
    /// Valid from.
    pub not_before: Time,
    /// Valid until.
    pub not_after: Time,
    /// SHA-256 of the DER encoding in lower-case hexadecimal.
    pub fingerprint: String,
}

/// What a generation of a root is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GenerationState {
    /// Trusted, but it does not sign yet.
    Prepared,
    /// It signs.
    Active,
    /// Trusted as long as its certificates are in use.
    Retiring,
}

/// How far the replacement of a root has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotationStatus {
    /// Where it is.
    pub phase: RotationPhase,
    /// Why it runs.
    pub reason: String,
    /// When it began.
    pub started_at: Time,
    /// How many devices trust the new generation.
    pub trusting: i32,
    /// How many devices have a certificate of the new generation.
    pub reissued: i32,
    /// How many devices there are.
    pub total: i32,
    /// The first ten devices that it waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub laggards: Vec<String>,
}

/// The phases of a replacement, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum RotationPhase {
    /// The new root goes to everyone.
    Distributing,
    /// Brokers, then dashboards and the operator get certificates of the new root.
    SwitchingServers,
    /// Devices get certificates of the new root.
    Reissuing,
    /// Devices take their new certificates into use.
    Draining,
    /// The old root leaves every bundle.
    Retiring,
}

/// The CRL of the generation that signs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CrlStatus {
    /// The CRL number (RFC 5280, 5.2.3); it only rises.
    pub number: i64,
    /// Signed at.
    pub this_update: Time,
    /// Invalid after; signed anew long before.
    pub next_update: Time,
    /// How many certificates it revokes.
    pub revoked: i32,
}

// === impl Rotation ===

impl Rotation {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

// === impl RotationPhase ===

impl RotationPhase {
    /// All of them, in their order.
    pub const ALL: [Self; 5] =
        [Self::Distributing, Self::SwitchingServers, Self::Reissuing, Self::Draining, Self::Retiring];

    /// As it is written in a status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Distributing => "Distributing",
            Self::SwitchingServers => "SwitchingServers",
            Self::Reissuing => "Reissuing",
            Self::Draining => "Draining",
            Self::Retiring => "Retiring",
        }
    }
}

impl fmt::Display for RotationPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Crl ===

impl Default for Crl {
    fn default() -> Self {
        Self { valid_for: one_week(), distribution_url: None }
    }
}

fn one_week() -> GoDuration {
    std::time::Duration::from_hours(7 * 24).into()
}

fn ten_years() -> GoDuration {
    std::time::Duration::from_hours(87_600).into()
}
