//! `/healthz`, `/readyz` and `/metrics`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::registry::Registry;

/// What this replica still waits for. It is ready when that is nothing.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    pending: Arc<Mutex<BTreeMap<String, String>>>,
}

#[derive(Clone)]
struct Served {
    readiness: Readiness,
    registry: Arc<Registry>,
}

// === impl Readiness ===

impl Readiness {
    /// `what` is not there yet; `why` tells people what is going on and what to do.
    pub fn wait_for(&self, what: impl Into<String>, why: impl Into<String>) {
        self.lock().insert(what.into(), why.into());
    }

    /// `what` is there.
    pub fn reached(&self, what: &str) {
        self.lock().remove(what);
    }

    /// What is still waited for, a line each; nothing when ready.
    pub fn pending(&self) -> String {
        let lines: Vec<_> = self.lock().iter().map(|(what, why)| format!("{what}: {why}")).collect();
        lines.join("\n")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The routes.
pub fn routes(readiness: Readiness, registry: Registry) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Served { readiness, registry: Arc::new(registry) })
}

async fn ready(State(served): State<Served>) -> impl IntoResponse {
    let pending = served.readiness.pending();
    if pending.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, pending + "\n")
    }
}

async fn metrics(State(served): State<Served>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &served.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn readiness_tells_what_is_pending() {
        let readiness = Readiness::default();
        readiness.wait_for("rootcas.ca-iot.dev", "the definition is missing");
        let ask = |readiness: &Readiness| {
            let routes = routes(readiness.clone(), Registry::default());
            async move { routes.oneshot(Request::get("/readyz").body(Body::empty()).unwrap()).await.unwrap() }
        };
        let answer = ask(&readiness).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "rootcas.ca-iot.dev: the definition is missing\n".as_bytes());
        readiness.reached("rootcas.ca-iot.dev");
        assert_eq!(ask(&readiness).await.status(), StatusCode::OK);
    }
}
