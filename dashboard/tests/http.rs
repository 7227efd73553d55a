//! What a browser gets, and what it is kept from.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a helper of tests is a test, which clippy does not see

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode};
use dashboard::http::{Site, router};
use dashboard::live::Live;
use dashboard::state::State;
use futures::StreamExt;
use jiff::Timestamp;
use link::wire::Reading;
use serde_json::Value;
use tokio::sync::watch;
use tower::ServiceExt;

/// A site with one device that said one temperature; it shuts down when the sender does.
struct Served {
    live: Arc<Live>,
    router: Router,
    stop: watch::Sender<bool>,
}

fn served() -> Served {
    let now = Timestamp::now();
    let live = Arc::new(Live::new(State::new("default", now), now));
    let (stop, stopped) = watch::channel(false);
    let site = Site::new(Arc::clone(&live), vec!["fleet.example.org".into()], stopped);
    let served = Served { live, router: router(Arc::new(site)), stop };
    served.reading(1);
    served.live.publish(now);
    served
}

impl Served {
    fn reading(&self, number: u32) {
        let now = Timestamp::now();
        let reading = Reading::new(now, number.into(), 20.0 + f64::from(number));
        self.live.with(|state| state.reading("device001", &reading, now));
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let mut request = Request::get(path).header("host", "localhost:5000");
        for (name, value) in headers {
            request
                .headers_mut()
                .unwrap()
                .insert(axum::http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
}

/// Reads a stream until it has said `needle`, or ends.
async fn read_until(response: Response<Body>, needle: &str) -> String {
    let mut chunks = response.into_body().into_data_stream();
    let mut read = String::new();
    let reading = async {
        while let Some(chunk) = chunks.next().await {
            read.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
            if read.contains(needle) {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), reading).await.expect("the stream stays silent");
    read
}

#[tokio::test]
async fn nothing_can_be_run_framed_or_loaded_from_elsewhere() {
    let served = served();
    for path in ["/", "/devices/device001", "/api/v1/state", "/healthz", "/nowhere"] {
        let response = served.get(path, &[]).await;
        let header =
            |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let policy = header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(header("x-content-type-options").as_deref(), Some("nosniff"), "{path}");
    }
}

#[tokio::test]
async fn another_host_name_is_refused_before_anything_is_told() {
    let served = served();
    for host in ["evil.example", "localhost.evil.example:5000", ""] {
        let response = served.get("/api/v1/state", &[("host", host)]).await;
        assert_eq!(response.status(), StatusCode::MISDIRECTED_REQUEST, "{host}");
        assert!(!text(response).await.contains("device001"));
    }
    for host in ["127.0.0.1:5000", "dashboard-dashboard.default.svc.cluster.local:5000", "fleet.example.org"]
    {
        assert_eq!(served.get("/api/v1/state", &[("host", host)]).await.status(), StatusCode::OK, "{host}");
    }
}

#[tokio::test]
async fn the_page_speaks_the_browsers_language() {
    let served = served();
    let page = text(served.get("/", &[("accept-language", "zh-TW,zh;q=0.9")]).await).await;
    assert!(page.contains("<html lang=\"zh-TW\""), "{page}");
    let page = text(served.get("/", &[("accept-language", "de"), ("cookie", "theme=dark")]).await).await;
    assert!(page.contains("<html lang=\"en\" data-theme=\"dark\""), "{page}");
    let page = text(served.get("/", &[("cookie", "theme=\"><script>; language=\"><script>")]).await).await;
    assert!(page.contains("<html lang=\"en\" data-theme=\"auto\""), "{page}");
    assert!(!page.contains("{{"), "a placeholder is left: {page}");
}

#[tokio::test]
async fn assets_are_cached_for_ever_under_their_hash_and_nowhere_else() {
    let served = served();
    let page = text(served.get("/", &[]).await).await;
    let style = page.split('"').find(|part| part.ends_with("/style.css")).unwrap();
    let response = served.get(style, &[]).await;
    assert_eq!(response.headers()["cache-control"], "public, max-age=31536000, immutable");
    assert_eq!(response.headers()["content-type"], "text/css; charset=utf-8");
    let of_old = style.replace("/assets/", "/assets/0");
    assert_eq!(served.get(&of_old, &[]).await.status(), StatusCode::NOT_FOUND);
    let outside = style.replace("style.css", "..%2f..%2fCargo.toml");
    assert_eq!(served.get(&outside, &[]).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_first_load_is_small() {
    let served = served();
    let page = text(served.get("/", &[]).await).await;
    let mut bytes = page.len();
    for address in page.split('"').filter(|part| part.starts_with("/assets/") || part.starts_with("/api/")) {
        let response = served.get(address, &[("accept-encoding", "gzip")]).await;
        assert_eq!(response.headers()["content-encoding"], "gzip", "{address}");
        bytes += to_bytes(response.into_body(), usize::MAX).await.unwrap().len();
    }
    assert!(bytes > 20_000, "the page names none of its parts");
    assert!(bytes < 50_000, "{bytes} bytes");
}

#[tokio::test]
async fn a_tab_follows_its_snapshot_and_gets_what_comes_after() {
    let served = served();
    let snapshot: Value = serde_json::from_str(&text(served.get("/api/v1/state", &[]).await).await).unwrap();
    assert_eq!(snapshot["devices"][0]["latest"][2], 21.0);
    served.reading(2);
    served.live.publish(Timestamp::now());
    let event = snapshot["event"].as_str().unwrap();
    let response = served.get(&format!("/api/v1/stream?after={event}"), &[]).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert!(response.headers().get("content-encoding").is_none(), "a compressed stream would wait for more");
    let missed = read_until(response, "22.0").await;
    assert!(!missed.contains("21.0"), "what is in the snapshot comes again: {missed}");
}

#[tokio::test]
async fn a_tab_that_comes_back_gets_only_what_it_missed() {
    let served = served();
    let ids: Vec<String> = (2..5)
        .map(|number| {
            served.reading(number);
            served.live.publish(Timestamp::now());
            let snapshot: Value =
                serde_json::from_slice(&served.live.snapshot("", Timestamp::now()).unwrap()).unwrap();
            snapshot["event"].as_str().unwrap().to_owned()
        })
        .collect();
    let response = served.get("/api/v1/stream?after=older", &[("last-event-id", &ids[1])]).await;
    let missed = read_until(response, "24.0").await;
    assert!(!missed.contains("23.0"), "{missed}");
    assert!(missed.contains(&format!("id: {}\n", ids[2])), "{missed}");
}

#[tokio::test]
async fn a_tab_from_before_a_restart_is_told_to_start_anew() {
    let served = served();
    let response = served.get("/api/v1/stream", &[("last-event-id", "1234abcd-7")]).await;
    let said = read_until(response, "the end never comes").await;
    assert!(said.ends_with("event: reset\ndata: {}\n\n"), "{said}");
}

#[tokio::test]
async fn streams_end_when_the_server_stops() {
    let served = served();
    let response = served.get("/api/v1/stream", &[]).await;
    served.stop.send(true).unwrap();
    assert_eq!(read_until(response, "the end never comes").await, "retry: 1000\n\n");
}

#[tokio::test]
async fn a_chart_has_its_points_and_a_stranger_has_none() {
    let served = served();
    let chart: Value = serde_json::from_str(
        &text(served.get("/api/v1/devices/device001/history?window=1h", &[]).await).await,
    )
    .unwrap();
    assert_eq!(chart["points"][0][1], 21.0);
    for (path, status) in [
        ("/api/v1/devices/nobody/history", StatusCode::NOT_FOUND),
        ("/api/v1/devices/device001/history?window=9y", StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(served.get(path, &[]).await.status(), status, "{path}");
    }
}

#[tokio::test]
async fn ready_means_that_the_page_can_tell_the_truth_good_or_bad() {
    use dashboard::state::SourceName::{Api, Broker};
    let served = served();
    let now = Timestamp::now();
    assert_eq!(served.get("/readyz", &[]).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    served.live.with(|state| state.source_up(Api, now));
    assert_eq!(served.get("/readyz", &[]).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    served.live.with(|state| state.source_down(Broker, "connection refused", now));
    let response = served.get("/readyz", &[]).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(text(response).await.contains("broker: down"));
}

#[tokio::test]
async fn metrics_count_devices_by_presence() {
    let served = served();
    let metrics = text(served.get("/metrics", &[]).await).await;
    assert!(metrics.contains("ca_iot_dashboard_devices{presence=\"online\"} 1\n"), "{metrics}");
    assert!(metrics.contains("ca_iot_dashboard_source_up{source=\"broker\"} 0\n"), "{metrics}");
    assert!(metrics.contains("\nprocess_cpu_seconds_total "), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"));
}
