//! What the kubelet and Prometheus ask.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use super::Site;
use super::process::Usage;
use crate::state::source::Health;

/// `GET /healthz`: answering is being alive.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: ready as soon as each source has answered or failed once. A page that says "the broker is down
/// since 14:02" is what people need then, so a source that is down takes nothing out of service.
pub(super) async fn readyz(State(site): State<Arc<Site>>) -> Response {
    site.live.with(|state| {
        let sources = state.sources();
        let mut text = String::new();
        let mut ready = true;
        for (name, source) in [("api", &sources.api), ("broker", &sources.broker)] {
            let health = match source.health {
                Health::Connecting => "connecting",
                Health::Up => "up",
                Health::Down => "down",
            };
            ready &= source.health != Health::Connecting;
            let since = Timestamp::from_millisecond(source.since).unwrap_or_default();
            let problem = source.problem.as_deref().unwrap_or_default();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name}: {health} since {since} {problem}");
        }
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, text).into_response()
    })
}

/// `GET /metrics`, in the `OpenMetrics` format.
pub(super) async fn metrics(State(site): State<Arc<Site>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &registry(&site, Timestamp::now())) {
        Ok(()) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The figures of this moment; nothing is counted twice, so there is nothing to keep between two scrapes.
fn registry(site: &Site, now: Timestamp) -> Registry {
    let mut all = Registry::default();
    if let Some(Usage { cpu_seconds, resident_bytes }) = Usage::read() {
        all.register("process_cpu_seconds", "User and system time", ConstCounter::new(cpu_seconds));
        let bytes = i64::try_from(resident_bytes).unwrap_or(i64::MAX);
        all.register("process_resident_memory_bytes", "Resident memory", ConstGauge::new(bytes));
    }
    let registry = all.sub_registry_with_prefix("ca_iot_dashboard");
    let devices = Family::<[(&str, &str); 1], Gauge>::default();
    let up = Family::<[(&str, &str); 1], Gauge>::default();
    let (messages, refused) = site.live.with(|state| {
        for (presence, count) in state.presences(now) {
            devices.get_or_create(&[("presence", presence)]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let sources = state.sources();
        for (name, source) in [("api", &sources.api), ("broker", &sources.broker)] {
            up.get_or_create(&[("source", name)]).set(i64::from(source.health == Health::Up));
        }
        (state.messages(), state.refused_devices())
    });
    let resets = site.resets.load(Ordering::Relaxed);
    let tabs = i64::try_from(site.live.tabs()).unwrap_or(i64::MAX);
    registry.register("devices", "Devices by what their messages say", devices);
    registry.register("source_up", "Whether the source answers", up);
    registry.register("messages", "MQTT messages received", ConstCounter::new(messages));
    registry.register("refused_messages", "Messages of devices beyond the bound", ConstCounter::new(refused));
    registry.register("stream_resets", "Tabs told to load everything anew", ConstCounter::new(resets));
    registry.register("tabs", "Open streams: one for each browser", ConstGauge::new(tabs));
    all
}
