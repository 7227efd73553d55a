//! What a browser gets from a dashboard.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use http::{Request, Response, StatusCode, header::ACCEPT_LANGUAGE};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::Value;

/// A dashboard.
#[derive(Debug)]
pub struct Page {
    /// `HOST:PORT`
    pub address: String,
}

/// A device's newest reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latest {
    /// When it was measured, in milliseconds since 1970.
    pub measured_at: i64,
    /// In °C.
    pub celsius: f64,
}

/// What a server answers to a request for `path`.
pub async fn fetch(address: &str, path: &str, language: &str) -> Result<Response<Vec<u8>>> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(format!("http://{address}{path}"))
        .header(ACCEPT_LANGUAGE, language)
        .body(Empty::<&[u8]>::new())?;
    let (head, body) = client.request(request).await?.into_parts();
    Ok(Response::from_parts(head, body.collect().await?.to_bytes().to_vec()))
}

impl Page {
    /// Asks for a path, as a browser that reads `language`.
    pub async fn get(&self, path: &str, language: &str) -> Result<Response<String>> {
        let (head, body) = fetch(&self.address, path, language).await?.into_parts();
        Ok(Response::from_parts(head, String::from_utf8(body)?))
    }

    /// Everything that the page knows.
    pub async fn state(&self) -> Result<Value> {
        let answer = self.get("/api/v1/state", "en").await?;
        ensure!(answer.status() == StatusCode::OK, "{answer:?}");
        Ok(serde_json::from_str(answer.body())?)
    }

    /// The newest reading of every device that has sent one.
    pub async fn latest(&self) -> Result<BTreeMap<String, Latest>> {
        let state = self.state().await?;
        let devices = state["devices"].as_array().context("no devices")?;
        Ok(devices
            .iter()
            .filter_map(|device| {
                let [measured_at, _received_at, celsius] = device["latest"].as_array()?.as_slice() else {
                    return None;
                };
                let latest = Latest { measured_at: measured_at.as_i64()?, celsius: celsius.as_f64()? };
                Some((device["name"].as_str()?.to_owned(), latest))
            })
            .collect())
    }
}
