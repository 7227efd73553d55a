//! What the running broker really uses, asked of the sidecar beside it.

use std::collections::BTreeMap;
use std::time::Duration;

use api::{Loaded, LoadedCrl};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;

const PORT: u16 = 8080;
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const LONGEST_ANSWER: usize = 64 * 1024;

/// The sidecar's answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    crl_numbers: BTreeMap<String, i64>,
    roots: Vec<String>,
    serial_number: Option<String>,
    loaded_at: Option<Timestamp>,
    /// What is wrong and what to do about it.
    pub(super) problem: Option<String>,
}

/// Asks the sidecar at `address`.
pub(super) async fn ask(address: Option<&str>) -> Result<Answer, String> {
    let address = address.ok_or("its pod has no address yet")?;
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let uri = format!("http://{host}:{PORT}/loaded");
    tokio::time::timeout(ANSWER_WITHIN, get(&uri)).await.map_err(|_| format!("{uri} does not answer"))?
}

async fn get(uri: &str) -> Result<Answer, String> {
    let failed = |problem: &dyn std::fmt::Display| format!("{uri}: {problem}");
    let client: Client<HttpConnector, Empty<&[u8]>> = Client::builder(TokioExecutor::new()).build_http();
    let target = uri.parse().map_err(|error: axum::http::uri::InvalidUri| failed(&error))?;
    let response = client.get(target).await.map_err(|error| failed(&error))?;
    let body =
        Limited::new(response.into_body(), LONGEST_ANSWER).collect().await.map_err(|error| failed(&error))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| failed(&error))
}

// === impl Answer ===

impl Answer {
    /// For the status; none before anything was proved.
    pub(super) fn into_status(self) -> Option<Loaded> {
        let crls = self.crl_numbers.into_iter().map(|(root, number)| LoadedCrl { root, number }).collect();
        Some(Loaded {
            serial_number: self.serial_number?,
            roots: self.roots,
            crls,
            loaded_at: Time(self.loaded_at?),
        })
    }
}
