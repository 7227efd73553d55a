//! What the cluster says of everything that holds a certificate: roots, brokers, dashboards, devices.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

/// A resource's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize)]
pub enum Kind {
    /// A certificate authority.
    RootCA,
    /// The broker.
    MqttBroker,
    /// A dashboard, this one for example.
    Dashboard,
    /// A device.
    IotDevice,
}

/// Kind and name; `IotDevice/device001` in JSON.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "String")]
pub struct HolderId {
    /// Its kind.
    pub kind: Kind,
    /// Its name, in the one namespace that is watched.
    pub name: String,
}

/// One resource, boiled down to what the page shows. All times in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// Kind and name.
    pub id: HolderId,
    /// Its kind alone.
    pub kind: Kind,
    /// Its name alone.
    pub name: String,
    /// When it was created.
    pub created: Option<i64>,
    /// The state that the operator reports (`Valid`, `Revoked`, …); a root's is that of its active generation.
    pub state: Option<String>,
    /// The condition `Ready`.
    pub ready: Option<Condition>,
    /// Other conditions that hold and mean trouble.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<Condition>,
    /// Its certificate; a root has one for each generation.
    pub certificates: Vec<Certificate>,
    /// Certificates that were replaced and are still within their dates.
    pub superseded: usize,
    /// Names and addresses asked for beyond its own name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alt_names: Vec<String>,
    /// The key's algorithm, where the resource decides it: not for a device with a signing request, nor an imported root.
    pub key_algorithm: Option<String>,
    /// Only where it applies to the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// Only where it applies to the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker: Option<Broker>,
    /// Only where it applies to the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceSpec>,
}

/// A certificate as the status tells it.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// Lower-case hex.
    pub serial_number: String,
    /// SHA-256 of the DER encoding, lower-case hex.
    pub fingerprint: String,
    /// Valid from.
    pub not_before: i64,
    /// Valid until.
    pub not_after: i64,
    /// When it was signed, which is later than `notBefore`; not known of an imported root.
    pub issued_at: Option<i64>,
    /// When it will be replaced; roots: when the rotation begins, if that is known.
    pub renewal_time: Option<i64>,
    /// A root's own generation, or that of the root that signed it.
    pub generation: i64,
    /// State of a root's generation (`Prepared`, `Active`, `Retiring`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation_state: Option<String>,
    /// The Secret that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
}

/// A condition of a resource.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Condition {
    /// `Ready`, `Degraded`, …
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// Since when.
    pub since: i64,
}

/// What only a root has.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Root {
    /// Common name.
    pub subject: String,
    /// Its revocation list.
    pub crl: Option<Crl>,
    /// A running rotation.
    pub rotation: Option<Rotation>,
    /// Whether the rotation is held.
    pub paused: bool,
}

/// A revocation list.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Crl {
    /// `CRLNumber`.
    pub number: i64,
    /// Valid from.
    pub this_update: i64,
    /// When it was signed, which is later.
    pub signed_at: i64,
    /// Worthless after.
    pub next_update: i64,
    /// Entries.
    pub revoked: i64,
}

/// A running rotation.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// `Distributing`, `SwitchingServers`, …
    pub phase: String,
    /// What started it.
    pub reason: String,
    /// When.
    pub started_at: Option<i64>,
    /// Holders that trust the new root.
    pub trusting: i64,
    /// Holders with a certificate from the new root.
    pub reissued: i64,
    /// All holders.
    pub total: i64,
    /// The first ten that are waited for.
    pub laggards: Vec<String>,
}

/// What only a broker has.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Broker {
    /// Where devices connect.
    pub endpoint: Option<String>,
    /// What the running broker really uses, as its sidecar proved with a handshake.
    pub loaded: Option<Loaded>,
}

/// See [`Broker::loaded`].
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Loaded {
    /// Serial number of the certificate that it presents.
    pub serial_number: String,
    /// Fingerprints of the roots that it trusts.
    pub roots: Vec<String>,
    /// Its revocation lists, one of each root.
    pub crls: Vec<LoadedCrl>,
    /// Since when.
    pub loaded_at: i64,
}

/// See [`Loaded::crls`].
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize)]
pub struct LoadedCrl {
    /// Fingerprint of the root that signed it.
    pub root: String,
    /// Its number.
    pub number: i64,
}

/// What only a device has.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceSpec {
    /// Whether a simulated thermometer was asked for.
    pub simulated: bool,
    /// Its interval.
    #[serde(skip)]
    pub interval: Option<Duration>,
    /// On hold.
    pub suspended: bool,
    /// Revoked for good: the reason.
    pub revoked: Option<String>,
    /// And what was written beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_message: Option<String>,
    /// Whether it keeps its private key to itself.
    pub csr: bool,
    /// How far it is barred, once it is to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub barred: Option<Barred>,
}

/// See [`DeviceSpec::barred`]. Each step is confirmed before the next.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Barred {
    /// The revocation list that has its certificates.
    pub crl_number: Option<i64>,
    /// When it was signed.
    pub listed_at: Option<i64>,
    /// When every broker had loaded it.
    pub loaded_at: Option<i64>,
    /// When its session was cut.
    pub session_cut_at: Option<i64>,
}

// === impl Kind ===

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::RootCA, Self::MqttBroker, Self::Dashboard, Self::IotDevice];

    /// Reads what stands in manifests.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// As in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RootCA => "RootCA",
            Self::MqttBroker => "MqttBroker",
            Self::Dashboard => "Dashboard",
            Self::IotDevice => "IotDevice",
        }
    }
}

// === impl HolderId ===

impl HolderId {
    /// Names a resource.
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }
}

impl Serialize for HolderId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}/{}", self.kind.as_str(), self.name))
    }
}

// === impl Holder ===

impl Holder {
    /// A resource of which nothing is known yet but that it exists.
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        let id = HolderId::new(kind, name);
        Self {
            kind,
            name: id.name.clone(),
            id,
            created: None,
            state: None,
            ready: None,
            troubles: Vec::new(),
            certificates: Vec::new(),
            superseded: 0,
            alt_names: Vec::new(),
            key_algorithm: None,
            root: None,
            broker: None,
            device: None,
        }
    }
}
