//! What travels over the topics: JSON, read strictly for what is needed and tolerant of fields that
//! a newer writer adds. A payload that does not parse is the sender's fault and never a panic.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Longest payload that is looked at, in bytes.
pub const MAX_PAYLOAD: usize = 8 * 1024;

/// Most roots that an acknowledgement names: two are trusted during a rotation, the rest is room.
pub const MAX_ROOTS: usize = 16;

/// One measurement, `{"v":1,"ts":1750000000000,"seq":1749990000000123,"celsius":21.4}`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Version of this format: 1.
    v: Version,
    /// When it was measured, by the device's clock; whole milliseconds since 1970 on the wire.
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub ts: Timestamp,
    /// Rises by one with each reading, see [`Sequence`].
    pub seq: u64,
    /// Temperature in degrees Celsius, -273.15 to 10 000.
    pub celsius: f64,
}

/// Whether a device is there; retained, so that who subscribes later knows it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// What is known.
    pub state: ConnectionState,
    /// When it was said. In a last will, which the broker holds ready from the start of the
    /// session, the moment at which the session was opened.
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub ts: Timestamp,
}

/// See [`ConnectionStatus`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionState {
    /// The session is open.
    Online,
    /// The device said goodbye, or the broker lost it.
    Offline,
}

/// Which certificate a device uses and which roots it trusts: what a rotation waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateAcknowledgement {
    /// Serial number of the certificate in use, lower-case hex.
    pub serial_number: String,
    /// When it expires.
    pub not_after: Timestamp,
    /// SHA-256 of each trusted root, lower-case hex, sorted.
    pub roots: Vec<String>,
}

/// Numbers the readings of one process: it starts at the microsecond at which the process started
/// and counts up by one. A device would have to publish a million readings a second to catch up
/// with its clock, so a later process always begins far above an earlier one; and until the year
/// 2255 every number is one that JSON readers hold exactly (2^53).
///
/// A reader compares neighbours with [`Continuity::between`].
#[derive(Debug)]
pub struct Sequence(u64);

/// How one reading of a device follows the reading before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// The very next one.
    Next,
    /// Readings in between are missing: this many.
    Lost(u64),
    /// The same one or an earlier one again: QoS 1 delivers at least once.
    Repeated,
    /// The device's process was started anew in between.
    Restarted,
}

/// Why a payload was not understood.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// More than [`MAX_PAYLOAD`] bytes.
    #[error("the payload has {0} bytes, more than the {MAX_PAYLOAD} allowed")]
    TooLong(usize),
    /// Not JSON, or a field is missing or of the wrong type.
    #[error("the payload is not what this topic carries: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A field has a value that cannot be.
    #[error("`{field}` is out of range")]
    OutOfRange {
        /// Its name in JSON.
        field: &'static str,
    },
}

/// The one version of a reading there is; other numbers do not parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
struct Version;

// === impl Reading ===

impl Reading {
    /// A reading of the current version.
    pub fn new(ts: Timestamp, seq: u64, celsius: f64) -> Self {
        Self { v: Version, ts, seq, celsius }
    }

    /// Parses the payload of a `telemetry` topic.
    ///
    /// # Errors
    /// [`WireError`] for anything but a reading of version 1 in range.
    pub fn parse(payload: &[u8]) -> Result<Self, WireError> {
        let reading: Self = parse(payload)?;
        if (-273.15..=10_000.0).contains(&reading.celsius) {
            Ok(reading)
        } else {
            Err(WireError::OutOfRange { field: "celsius" })
        }
    }

    /// The payload.
    pub fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }
}

// === impl ConnectionStatus ===

impl ConnectionStatus {
    /// The session is open at `ts`.
    pub fn online(ts: Timestamp) -> Self {
        Self { state: ConnectionState::Online, ts }
    }

    /// The session is over at `ts`.
    pub fn offline(ts: Timestamp) -> Self {
        Self { state: ConnectionState::Offline, ts }
    }

    /// Parses the payload of a `status` topic.
    ///
    /// # Errors
    /// [`WireError`] for anything else.
    pub fn parse(payload: &[u8]) -> Result<Self, WireError> {
        parse(payload)
    }

    /// The payload.
    pub fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }
}

// === impl CertificateAcknowledgement ===

impl CertificateAcknowledgement {
    /// Parses the payload of a `cert` topic.
    ///
    /// # Errors
    /// [`WireError`] for anything else, also for serials and fingerprints that are not lower-case hex.
    pub fn parse(payload: &[u8]) -> Result<Self, WireError> {
        let acknowledgement: Self = parse(payload)?;
        let Self { serial_number, not_after: _, roots } = &acknowledgement;
        // RFC 5280, 4.1.2.2: at most 20 octets.
        if !is_hex(serial_number) || serial_number.len() > 40 {
            return Err(WireError::OutOfRange { field: "serialNumber" });
        }
        if roots.len() > MAX_ROOTS || !roots.iter().all(|root| is_hex(root) && root.len() == 64) {
            return Err(WireError::OutOfRange { field: "roots" });
        }
        Ok(acknowledgement)
    }

    /// The payload.
    pub fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }
}

// === impl Sequence ===

impl Sequence {
    /// The numbers of a process that started at `start`.
    pub fn starting_at(start: Timestamp) -> Self {
        Self(u64::try_from(start.as_microsecond()).unwrap_or_default())
    }
}

impl Iterator for Sequence {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let seq = self.0;
        self.0 += 1;
        Some(seq)
    }
}

// === impl Continuity ===

impl Continuity {
    /// Numbers this far apart, one second of [`Sequence`], are not of the same process.
    const RESTART: u64 = 1_000_000;

    /// Compares the sequence numbers of two readings of one device in the order of their arrival.
    pub fn between(previous: u64, current: u64) -> Self {
        if previous.abs_diff(current) >= Self::RESTART {
            return Self::Restarted;
        }
        match current.checked_sub(previous) {
            None | Some(0) => Self::Repeated,
            Some(1) => Self::Next,
            Some(step) => Self::Lost(step - 1),
        }
    }
}

// === impl Version ===

impl TryFrom<u8> for Version {
    type Error = String;

    fn try_from(v: u8) -> Result<Self, String> {
        if v == 1 { Ok(Self) } else { Err(format!("version {v} is not one this reader knows")) }
    }
}

impl From<Version> for u8 {
    fn from(Version: Version) -> Self {
        1
    }
}

fn parse<T: DeserializeOwned>(payload: &[u8]) -> Result<T, WireError> {
    if payload.len() > MAX_PAYLOAD {
        return Err(WireError::TooLong(payload.len()));
    }
    Ok(serde_json::from_slice(payload)?)
}

/// These types have string keys and no fallible field, so serialising them to memory cannot fail;
/// an empty payload, which no reader accepts, stands for the impossible.
fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    #[test]
    fn payloads_look_as_documented() {
        let json = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let reading = Reading::new(at(1_750_000_000_000), 7, 21.4);
        assert_eq!(json(reading.to_json()), r#"{"v":1,"ts":1750000000000,"seq":7,"celsius":21.4}"#);
        let status = ConnectionStatus::offline(at(5));
        assert_eq!(json(status.to_json()), r#"{"state":"offline","ts":5}"#);
        let acknowledgement = CertificateAcknowledgement {
            serial_number: "0a1b".into(),
            not_after: at(1_750_000_000_000),
            roots: vec!["ab".repeat(32)],
        };
        let expected = format!(
            r#"{{"serialNumber":"0a1b","notAfter":"2025-06-15T15:06:40Z","roots":["{}"]}}"#,
            "ab".repeat(32)
        );
        assert_eq!(json(acknowledgement.to_json()), expected);
        assert_eq!(CertificateAcknowledgement::parse(expected.as_bytes()).unwrap(), acknowledgement);
    }

    #[test]
    fn fields_of_a_newer_device_do_no_harm() {
        let reading = Reading::parse(br#"{"v":1,"ts":1,"seq":2,"celsius":3,"humidity":40}"#).unwrap();
        assert_eq!(reading, Reading::new(at(1), 2, 3.0));
    }

    #[test]
    fn what_is_needed_must_be_there_and_in_range() {
        for payload in [
            "",
            "{}",
            "[]",
            r#"{"ts":1,"seq":2,"celsius":3}"#,
            r#"{"v":2,"ts":1,"seq":2,"celsius":3}"#,
            r#"{"v":1,"ts":1,"seq":-2,"celsius":3}"#,
            r#"{"v":1,"ts":1,"seq":2,"celsius":1e999}"#,
            r#"{"v":1,"ts":1,"seq":2,"celsius":-300}"#,
            r#"{"v":1,"ts":9223372036854775807,"seq":2,"celsius":3}"#,
        ] {
            assert!(Reading::parse(payload.as_bytes()).is_err(), "{payload}");
        }
        assert!(ConnectionStatus::parse(br#"{"state":"asleep","ts":1}"#).is_err());
        for (serial, roots) in [("", "[]"), ("XY", "[]"), ("0a", r#"["0a"]"#), (&*"a".repeat(42), "[]")] {
            let payload =
                format!(r#"{{"serialNumber":"{serial}","notAfter":"2025-06-15T15:06:40Z","roots":{roots}}}"#);
            assert!(CertificateAcknowledgement::parse(payload.as_bytes()).is_err(), "{payload}");
        }
    }

    #[test]
    fn a_huge_payload_is_not_even_parsed() {
        let payload = format!(r#"{{"v":1,"ts":1,"seq":2,"celsius":3,"pad":"{}"}}"#, "x".repeat(MAX_PAYLOAD));
        assert!(matches!(Reading::parse(payload.as_bytes()), Err(WireError::TooLong(_))));
    }

    #[test]
    fn loss_repetition_and_restart_are_told_apart() {
        let first = Sequence::starting_at(at(1_750_000_000_000)).next().unwrap();
        let later = Sequence::starting_at(at(1_750_000_002_000)).next().unwrap();
        assert_eq!(Continuity::between(first, first + 1), Continuity::Next);
        assert_eq!(Continuity::between(first, first + 4), Continuity::Lost(3));
        assert_eq!(Continuity::between(first + 4, first + 4), Continuity::Repeated);
        assert_eq!(Continuity::between(first + 4, first + 2), Continuity::Repeated);
        assert_eq!(Continuity::between(first + 4, later), Continuity::Restarted);
        assert_eq!(Continuity::between(later, first), Continuity::Restarted, "a clock may be set back");
    }

    proptest! {
        #[test]
        fn no_payload_upsets_the_parsers(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Reading::parse(&payload);
            let _ = ConnectionStatus::parse(&payload);
            let _ = CertificateAcknowledgement::parse(&payload);
        }

        #[test]
        fn a_reading_survives_the_journey(
            ms in 0..4_000_000_000_000_i64,
            seq in 0..(1_u64 << 53),
            celsius in -273.15..10_000.0,
        ) {
            let heard = Reading::parse(&Reading::new(at(ms), seq, celsius).to_json()).unwrap();
            prop_assert_eq!((heard.ts, heard.seq), (at(ms), seq));
            // JSON is read to the last digit but one.
            prop_assert!((heard.celsius - celsius).abs() < 1e-9);
        }
    }
}
