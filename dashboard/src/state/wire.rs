//! The JSON that tabs and scripts get. All times are whole milliseconds since 1970, all durations milliseconds.

use link::wire::ConnectionState;
use schemars::JsonSchema;
use serde::Serialize;

use super::events::Event;
use super::holder::{Holder, HolderId};
use super::source::Sources;

/// Everything at one moment: `GET /api/v1/state`.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot<'a> {
    /// Follow `/api/v1/stream?after=<event>` from here without missing anything.
    pub event: String,
    /// The server's clock.
    pub now: i64,
    /// Version of the dashboard.
    pub version: &'static str,
    /// Hash of the page's files: a page of another one is of another server.
    pub assets: &'a str,
    /// The namespace that is shown.
    pub namespace: &'a str,
    /// Where this comes from, and whether it still does.
    pub sources: &'a Sources,
    /// Everything that holds a certificate, as the cluster says.
    pub holders: Vec<&'a Holder>,
    /// Every device, as its messages say.
    pub devices: Vec<Device<'a>>,
    /// The newest log lines, oldest first.
    pub log: Vec<&'a LogLine>,
    /// Message counts.
    pub rate: Rate,
    /// What the broker says of itself.
    pub broker: &'a BrokerFacts,
    /// The certificate that the dashboard itself presents.
    pub own_certificate: Option<&'a OwnCertificate>,
    /// The certificate that the broker presents.
    pub handshake: Option<&'a Handshake>,
}

/// What changed since the last frame: `event: changes` of the stream. Absent fields did not change.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes<'a> {
    /// The server's clock.
    pub now: i64,
    /// The latest reading of each device that sent one: name, measured at, received at, °C.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub readings: Vec<(&'a str, i64, i64, f32)>,
    /// Devices of which more than the reading changed, without sparkline.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device<'a>>,
    /// Devices that are no more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed_devices: Vec<&'a str>,
    /// Holders that are new or changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<&'a Holder>,
    /// Holders of which there are new events: `GET /api/v1/events/{kind}/{name}` has them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events_of: Vec<&'a HolderId>,
    /// Holders that are no more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed_holders: Vec<HolderId>,
    /// New log lines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<&'a LogLine>,
    /// Messages that were left out of `log` because they were too many to read.
    #[serde(skip_serializing_if = "is_zero")]
    pub log_skipped: u64,
    /// Sources, when one went down or came back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sources: Option<&'a Sources>,
    /// Message counts, once a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// What the broker says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker: Option<&'a BrokerFacts>,
    /// The certificate that the dashboard itself presents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_certificate: Option<&'a OwnCertificate>,
    /// The certificate that the broker presents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake: Option<&'a Handshake>,
}

/// A device as its messages say.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Device<'a> {
    /// Common name of its certificate.
    pub name: &'a str,
    /// Whether there is an `IotDevice` of this name.
    pub registered: bool,
    /// The newest reading.
    pub latest: Option<Latest>,
    /// Milliseconds without a reading after which the latest one is stale.
    pub stale_after: i64,
    /// Milliseconds between two readings.
    pub interval: Option<i64>,
    /// What the device, or the broker in its name, said of its session.
    pub connection: Option<Connection>,
    /// The certificate that the device says it uses.
    pub in_use: Option<InUse<'a>>,
    /// Where it connected from, as the broker's log says, the newest last: a change of address each, four at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<&'a SeenAt>,
    /// Readings that never came, since the dashboard started.
    pub lost: u64,
    /// Restarts seen since the dashboard started.
    pub restarts: u32,
    /// Payloads that were not understood since the dashboard started.
    pub malformed: u64,
    /// Device clock minus ours at the last reading: large when the clock is wrong or a queue was emptied.
    pub clock_ahead: Option<i64>,
    /// The last five minutes in slots of five seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spark: Option<Vec<Option<f32>>>,
}

/// Measured at, received at, °C.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Latest(pub i64, pub i64, pub f32);

/// A point of a chart: time, mean, minimum, maximum.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize)]
pub struct HistoryPoint(pub i64, pub f32, pub f32, pub f32);

/// The chart of one device: `GET /api/v1/devices/{name}/history`.
#[derive(Debug, JsonSchema, Serialize)]
pub struct History {
    /// The server's clock.
    pub now: i64,
    /// Oldest first; where the device was silent, there are none.
    pub points: Vec<HistoryPoint>,
}

/// See [`Device::connection`].
#[derive(Debug, JsonSchema, Serialize)]
pub struct Connection {
    /// `online` or `offline`.
    #[schemars(with = "OnlineOrOffline")]
    pub state: ConnectionState,
    /// Since when, where that is known: of a session that ended before this dashboard was connected it is not.
    pub since: Option<i64>,
}

/// The words of [`ConnectionState`], which knows nothing of this API.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[allow(dead_code)] // only its schema is used
enum OnlineOrOffline {
    /// The session is open.
    Online,
    /// The device said goodbye, or the broker lost it.
    Offline,
}

/// See [`Device::in_use`].
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InUse<'a> {
    /// Lower-case hex.
    pub serial_number: &'a str,
    /// When it expires.
    pub not_after: i64,
    /// SHA-256 of each root that the device trusts.
    pub roots: &'a [String],
}

/// An address that a device connected from.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub struct SeenAt {
    /// IPv4 or IPv6.
    pub address: String,
    /// The last time that it connected from there.
    pub at: i64,
}

/// What happened to one holder: `GET /api/v1/events/{kind}/{name}`.
#[derive(Debug, JsonSchema, Serialize)]
pub struct EventList<'a> {
    /// The newest ones, the newest last. The API server keeps them for an hour, the dashboard for as long as it runs.
    pub events: Vec<&'a Event>,
    /// Why there may be more than these: they cannot be read at the moment.
    pub problem: Option<&'a str>,
}

/// One message, or one event of the broker.
#[derive(Debug, JsonSchema, Serialize)]
pub struct LogLine {
    /// Rises by one.
    pub id: u64,
    /// When it came here.
    pub at: i64,
    /// Topic it was published to; `$SYS/broker/log/…` are events of the broker.
    pub topic: String,
    /// The payload as text, at most 512 bytes of it.
    pub payload: String,
    /// Whether the payload was longer.
    pub truncated: bool,
    /// Quality of service: 0, 1 or 2.
    pub qos: u8,
    /// Whether the broker kept it from before.
    pub retained: bool,
}

/// Message counts.
#[derive(Clone, Copy, Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// Messages a second, over the last ten seconds.
    pub per_second: f64,
    /// Messages since the dashboard started.
    pub total: u64,
}

/// What the broker says of itself below `$SYS/broker/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokerFacts {
    /// Its name and version.
    pub version: Option<String>,
    /// Clients connected to it, this dashboard among them.
    pub clients: Option<u64>,
    /// Seconds since it started.
    pub uptime: Option<u64>,
}

/// The certificate by which the dashboard is known to the broker.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnCertificate {
    /// Common name.
    pub name: String,
    /// Lower-case hex.
    pub serial_number: String,
    /// When it expires.
    pub not_after: i64,
}

/// What the broker presented to a connection that was made to see it.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Handshake {
    /// Where: `host:port`, as the `endpoint` of an `MqttBroker` says it.
    pub endpoint: String,
    /// When.
    pub at: i64,
    /// Lower-case hex.
    pub serial_number: String,
    /// SHA-256 of the DER encoding, lower-case hex.
    pub fingerprint: String,
    /// When it expires.
    pub not_after: i64,
    /// Why a client would not believe it.
    pub distrust: Option<String>,
}

// === impl LogLine ===

impl LogLine {
    /// Whether the broker speaks here of itself.
    pub fn is_broker_event(&self) -> bool {
        self.topic.starts_with("$SYS/broker/log/")
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands a reference
fn is_zero(number: &u64) -> bool {
    *number == 0
}
