//! What the running broker really uses, asked of the sidecar beside it; and the CRLs that it is to use at once.

use std::collections::BTreeMap;
use std::time::Duration;

use api::{Loaded, LoadedCrl};
use axum::body::Bytes;
use axum::http::Request;
use axum::http::request::Builder;
use http_body_util::{BodyExt as _, Full, Limited};
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
    send(address, Request::get, "loaded", String::new()).await
}

/// Hands `crls` (PEM) to the sidecar at `address`, which takes those that a trusted root signed and that are later than its own.
/// It answers when the broker uses them, or why it does not.
pub(super) async fn push_crls(address: Option<&str>, crls: &str) -> Result<Answer, String> {
    send(address, Request::put, "crls", crls.to_owned()).await
}

async fn send(
    address: Option<&str>,
    method: fn(String) -> Builder,
    path: &str,
    body: String,
) -> Result<Answer, String> {
    let address = address.ok_or("its pod has no address yet")?;
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let uri = format!("http://{host}:{PORT}/{path}");
    let request =
        method(uri.clone()).body(Full::from(body)).map_err(|problem| format!("{uri}: {problem}"))?;
    let answer = tokio::time::timeout(ANSWER_WITHIN, answer(request));
    answer.await.map_err(|_| format!("{uri} does not answer"))?.map_err(|problem| format!("{uri}: {problem}"))
}

async fn answer(request: Request<Full<Bytes>>) -> Result<Answer, String> {
    let failed = |problem: &dyn std::fmt::Display| problem.to_string();
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request).await.map_err(|error| failed(&error))?;
    let status = response.status();
    let body =
        Limited::new(response.into_body(), LONGEST_ANSWER).collect().await.map_err(|error| failed(&error))?;
    let body = body.to_bytes();
    if !status.is_success() {
        return Err(format!("{status}: {}", String::from_utf8_lossy(&body).trim_end()));
    }
    serde_json::from_slice(&body).map_err(|error| failed(&error))
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
