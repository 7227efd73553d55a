//! The page, its assets, the JSON beneath it, and the stream that keeps it live. It only reads.
//!
//! | path | what |
//! | --- | --- |
//! | `/`, `/devices`, `/devices/{name}`, `/certificates`, `/log`, `/audit`, `/rotation` | the page |
//! | `/assets/{hash}/…` | scripts, style, texts; cached for ever under their hash |
//! | `/api/v1/state` | everything, once |
//! | `/api/v1/stream` | what changes, from `?after=` or `Last-Event-ID` on |
//! | `/api/v1/devices/{name}/history?window=5m\|1h\|24h` | one chart |
//! | `/api/v1/events/{kind}/{name}` | what happened to a resource |
//! | `/api/v1/certificates.csv` | the table of certificates |
//! | `/api/v1/openapi.json` | all of this for programs, see [`openapi`] |
//! | `/healthz`, `/readyz`, `/metrics` | for the kubelet and Prometheus |

mod api;
mod assets;
mod csv;
mod guard;
mod openapi;
mod page;
mod probes;
mod process;
mod stream;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use axum::routing::get;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower_http::compression::CompressionLayer;

use crate::live::Live;

/// What the handlers share.
#[derive(Debug)]
pub struct Site {
    live: Arc<Live>,
    /// Host names that are served beside those that are always safe, see [`guard`].
    hosts: Vec<String>,
    streams: Arc<Semaphore>,
    resets: AtomicU64,
    shutdown: watch::Receiver<bool>,
}

/// Tabs at a time; each costs a few kilobytes and a socket.
const MAX_STREAMS: usize = 512;

/// A reader that takes nothing for this long is cut off (`TCP_USER_TIMEOUT`, tcp(7)); a tab that slept comes back by
/// itself and gets what it missed.
const STALLED_AFTER: Duration = Duration::from_mins(1);

impl Site {
    /// Serves `live` under the safe host names and `hosts`. Streams end when `shutdown` turns true.
    pub fn new(live: Arc<Live>, hosts: Vec<String>, shutdown: watch::Receiver<bool>) -> Self {
        Self {
            live,
            hosts,
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            resets: AtomicU64::new(0),
            shutdown,
        }
    }
}

/// All routes with their guards.
pub fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/devices", get(page::page))
        .route("/devices/{name}", get(page::page))
        .route("/certificates", get(page::page))
        .route("/log", get(page::page))
        .route("/audit", get(page::page))
        .route("/rotation", get(page::page))
        .route("/assets/{hash}/{*path}", get(assets::asset))
        .route("/api/v1/state", get(api::state))
        .route("/api/v1/devices/{name}/history", get(api::history))
        .route("/api/v1/events/{kind}/{name}", get(api::events))
        .route("/api/v1/certificates.csv", get(api::certificates_csv))
        .route("/api/v1/openapi.json", get(api::openapi))
        .route("/api/v1/stream", get(stream::stream))
        .route("/healthz", get(probes::healthz))
        .route("/readyz", get(probes::readyz))
        .route("/metrics", get(probes::metrics))
        .layer(CompressionLayer::new())
        .layer(middleware::from_fn_with_state(Arc::clone(&site), guard::guard))
        .with_state(site)
}

/// Serves until the site's `shutdown` turns true, then lets requests finish.
///
/// # Errors
/// When the socket fails.
pub async fn serve(listener: TcpListener, site: Site) -> std::io::Result<()> {
    let mut shutdown = site.shutdown.clone();
    let millis = u32::try_from(STALLED_AFTER.as_millis()).unwrap_or(u32::MAX);
    let listener = listener.tap_io(move |connection| {
        if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&*connection, millis) {
            tracing::warn!(%error, "a reader that stalls will not be cut off");
        }
    });
    axum::serve(listener, router(Arc::new(site)))
        .with_graceful_shutdown(async move {
            // An error means that nobody can shut us down any more: the same as being told to.
            let _ = shutdown.wait_for(|down| *down).await;
        })
        .await
}
