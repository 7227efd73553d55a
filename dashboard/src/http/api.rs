//! The JSON beneath the page, for scripts as well.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;

use super::{Site, assets, csv, openapi};
use crate::state::holder::{HolderId, Kind};
use crate::state::series::Window;
use crate::state::wire::History;

/// Which part of the history.
#[derive(Debug, Deserialize)]
pub(super) struct HistoryQuery {
    window: Option<String>,
}

/// `GET /api/v1/state`
pub(super) async fn state(State(site): State<Arc<Site>>) -> Response {
    match site.live.snapshot(assets::hash(), Timestamp::now()) {
        Ok(json) => as_json(json),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// `GET /api/v1/devices/{name}/history`
pub(super) async fn history(
    State(site): State<Arc<Site>>,
    Path(name): Path<String>,
    Query(HistoryQuery { window }): Query<HistoryQuery>,
) -> Response {
    let Some(window) = Window::parse(window.as_deref().unwrap_or("5m")) else {
        return (StatusCode::BAD_REQUEST, "window is one of 5m, 1h, 24h\n").into_response();
    };
    let now = Timestamp::now();
    let Some(points) = site.live.with(|state| state.history(&name, window, now)) else {
        return (StatusCode::NOT_FOUND, "No device of this name is registered or was heard.\n")
            .into_response();
    };
    match serde_json::to_vec(&History { now: now.as_millisecond(), points }) {
        Ok(json) => as_json(json.into()),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// `GET /api/v1/events/{kind}/{name}`
pub(super) async fn events(
    State(site): State<Arc<Site>>,
    Path((kind, name)): Path<(String, String)>,
) -> Response {
    let json = Kind::parse(&kind).and_then(|kind| {
        let id = HolderId::new(kind, name);
        site.live.with(|state| state.events(&id).map(|list| serde_json::to_vec(&list)))
    });
    match json {
        Some(Ok(json)) => as_json(json.into()),
        Some(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        None => (StatusCode::NOT_FOUND, "No resource of this kind and name is known.\n").into_response(),
    }
}

/// `GET /api/v1/certificates.csv`
pub(super) async fn certificates_csv(State(site): State<Arc<Site>>) -> Response {
    let text = site.live.with(|state| csv::certificates(state));
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8"),
        (CONTENT_DISPOSITION, "attachment; filename=\"certificates.csv\""),
        (CACHE_CONTROL, "no-store"),
    ];
    (headers, text).into_response()
}

/// `GET /api/v1/openapi.json`
pub(super) async fn openapi() -> Response {
    as_json(Bytes::from_static(openapi::DOCUMENT.as_bytes()))
}

fn as_json(json: Bytes) -> Response {
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], json).into_response()
}
