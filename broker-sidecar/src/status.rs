//! What others are told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The answer to `GET /loaded`: what the broker was proved to use. Empty until the first proof.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Loaded {
    /// CRL number by the SHA-256 fingerprint of the root that signed the list.
    pub crl_numbers: BTreeMap<String, u64>,
    /// SHA-256 fingerprints of the roots whose clients are let in, lower-case hex.
    pub roots: Vec<String>,
    /// Serial number of the certificate served, lower-case hex.
    pub serial_number: Option<String>,
    /// When the reload was proved, RFC 3339.
    pub loaded_at: Option<String>,
    /// What is wrong and what to do about it. The broker may well work: it keeps the last good files.
    pub problem: Option<String>,
}

/// All that the HTTP server knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Checked files are in place: the broker may start.
    pub(crate) startable: bool,
    /// The broker was proved to serve the set in place, and the set is in date.
    pub(crate) ready: bool,
    pub(crate) loaded: Loaded,
}
