//! What every holder of a certificate asks for, and what is reported of the certificate it has.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use kube::core::Duration as GoDuration;
use pki::{KeyAlgorithm, RevocationReason};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// The certificate that a holder asks for. The common name is not among the fields: it follows from kind and name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateSpec {
    /// The root that signs; absent: the only one in the namespace.
    #[serde(default, rename = "rootCARef", skip_serializing_if = "Option::is_none")]
    pub root_ca_ref: Option<LocalRef>,
    /// The kind of key pair.
    #[serde(default)]
    pub key_algorithm: KeyAlgorithm,
    /// How long a certificate lives, as a Go duration of at least `1m`.
    #[serde(default = "ninety_days")]
    #[schemars(schema_with = "schema::duration")]
    pub duration: GoDuration,
    /// How long before its end it is replaced; absent: a third of `duration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub renew_before: Option<GoDuration>,
    /// What stands in the subject beside the common name.
    #[serde(default, skip_serializing_if = "DeviceSubject::is_empty")]
    pub subject: DeviceSubject,
    /// DNS names, as subject alternative names. Wildcards are refused; international names in their `xn--` form.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::dns_names")]
    pub dns_names: Vec<String>,
    /// IP addresses, as subject alternative names, without a mask.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ip_addresses")]
    pub ip_addresses: Vec<String>,
    /// URIs, as subject alternative names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::uris")]
    pub uris: Vec<String>,
    /// When to renew besides by time.
    #[serde(default, skip_serializing_if = "Renewal::is_empty")]
    pub renewal: Renewal,
    /// Another name for the Secret; cannot be changed later. Absent: the kind in lower case, a hyphen and the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub secret_name: Option<String>,
}

/// A reference to an object of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Attributes of a subject's distinguished name (RFC 5280, appendix A.1 has the upper bounds).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceSubject {
    /// O, at most 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub organization: Option<String>,
    /// OU, at most 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub organizational_unit: Option<String>,
    /// C, two capital letters (ISO 3166).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Z]{2}$"))]
    pub country: Option<String>,
    /// ST, at most 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub state: Option<String>,
    /// L, at most 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub locality: Option<String>,
}

/// When to renew besides by time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Renewal {
    /// Every new value renews once, with a new key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::trigger")]
    pub trigger: Option<String>,
}

/// What is so of a holder of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HolderStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The certificate's state in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<CertificateState>,
    /// The certificate in the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateStatus>,
    /// Certificates that were replaced, but are still within their dates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub superseded: Vec<Superseded>,
    /// How far its revocation or suspension has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<Revocation>,
    /// `Ready`, and of trouble `RenewalOverdue` and `Degraded`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// A certificate's state in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CertificateState {
    /// Not issued yet.
    #[default]
    Pending,
    /// In force.
    Valid,
    /// A new one is being made; the old one is in force.
    Renewing,
    /// In force, but it should have been replaced.
    RenewalOverdue,
    /// Its time is over.
    Expired,
    /// On hold.
    Suspended,
    /// Revoked for good.
    Revoked,
    /// Could not be issued.
    Failed,
}

/// A certificate as it stands in its Secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// The serial number in lower-case hexadecimal octets.
    pub serial_number: String,
    /// SHA-256 of the DER encoding in lower-case hexadecimal.
    pub fingerprint: String,
    /// Valid from.
    pub not_before: Time,
    /// Valid until.
    pub not_after: Time,
    /// When it will be replaced.
    pub renewal_time: Time,
    /// The generation of the root that signed it.
    pub root_generation: i32,
    /// The Secret that holds it.
    pub secret_name: String,
}

/// A certificate that was replaced, but is still within its dates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Superseded {
    /// The serial number in lower-case hexadecimal octets.
    pub serial_number: String,
    /// Valid until.
    pub not_after: Time,
    /// The root that signed it, where it is known.
    #[serde(default, rename = "rootCA", skip_serializing_if = "Option::is_none")]
    pub root_ca: Option<String>,
    /// The generation of that root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_generation: Option<i32>,
}

/// How far a revocation or suspension has come. Each step is taken when the one before it is confirmed: a session that is
/// cut before the broker knows the CRL comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    /// The reason as it stands in the CRL; `certificateHold` while suspended.
    pub reason: RevocationReason,
    /// The first CRL that lists every certificate of the device that is within its dates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl_number: Option<i64>,
    /// When that CRL was known to be signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed_at: Option<MicroTime>,
    /// When the broker was known to use it, or a later one: from then on the device is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded_at: Option<MicroTime>,
    /// When the session that the device may have had was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_cut_at: Option<MicroTime>,
}

/// A resource that holds a certificate.
pub trait CertificateHolder {
    /// What it asks for.
    fn certificate_spec(&self) -> &CertificateSpec;
    /// What was reported of it.
    fn holder_status(&self) -> Option<&HolderStatus>;
}

// === impl CertificateSpec ===

impl Default for CertificateSpec {
    fn default() -> Self {
        Self {
            root_ca_ref: None,
            key_algorithm: KeyAlgorithm::default(),
            duration: ninety_days(),
            renew_before: None,
            subject: DeviceSubject::default(),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            uris: Vec::new(),
            renewal: Renewal::default(),
            secret_name: None,
        }
    }
}

fn ninety_days() -> GoDuration {
    std::time::Duration::from_hours(90 * 24).into()
}

// === impl DeviceSubject ===

impl DeviceSubject {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

// === impl Renewal ===

impl Renewal {
    fn is_empty(&self) -> bool {
        self.trigger.is_none()
    }
}
