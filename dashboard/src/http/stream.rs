//! `GET /api/v1/stream`: server-sent events, the same bytes for every tab.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};

use super::Site;
use crate::live::Subscription;
use crate::state::replay::{Frame, Resume};

/// Where a tab starts: the `event` of the snapshot that it has drawn.
#[derive(Debug, Deserialize)]
pub(super) struct StreamQuery {
    after: Option<String>,
}

/// Proxies and browsers close what is silent; a comment keeps it open.
const COMMENT_EVERY: Duration = Duration::from_secs(15);
/// The tab must load the state anew: what it missed is not kept, or it could not keep up.
const RESET: &str = "event: reset\ndata: {}\n\n";

/// One tab's connection.
struct Tab {
    site: Arc<Site>,
    pending: VecDeque<Bytes>,
    live: broadcast::Receiver<Frame>,
    shutdown: watch::Receiver<bool>,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

/// The handler.
pub(super) async fn stream(
    State(site): State<Arc<Site>>,
    Query(StreamQuery { after }): Query<StreamQuery>,
    headers: HeaderMap,
) -> Response {
    let Ok(permit) = Arc::clone(&site.streams).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "10")], "Too many open tabs.\n")
            .into_response();
    };
    // A browser that reconnects by itself knows better than the address it first asked for.
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned).or(after);
    let Subscription { missed, live } = site.live.subscribe(seen.as_deref());
    let mut tab = Tab {
        shutdown: site.shutdown.clone(),
        site,
        pending: VecDeque::from([Bytes::from_static(b"retry: 1000\n\n")]),
        live,
        ended: false,
        _permit: permit,
    };
    match missed {
        Resume::From(frames) => tab.pending.extend(frames.into_iter().map(|frame| frame.bytes)),
        Resume::Reset => tab.reset(),
    }
    let chunks = futures::stream::unfold(tab, |mut tab| async move {
        let chunk = tab.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), tab))
    });
    ([(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")], Body::from_stream(chunks))
        .into_response()
}

impl Tab {
    /// The next piece of the stream; `None` ends it.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(chunk) = self.pending.pop_front() {
            return Some(chunk);
        }
        if self.ended {
            return None;
        }
        let frame = tokio::select! {
            frame = self.live.recv() => frame,
            () = tokio::time::sleep(COMMENT_EVERY) => return Some(Bytes::from_static(b":\n\n")),
            () = ended(&mut self.shutdown) => return None,
        };
        match frame {
            Ok(frame) => Some(frame.bytes),
            Err(RecvError::Lagged(_)) => {
                self.reset();
                self.pending.pop_front()
            }
            Err(RecvError::Closed) => None,
        }
    }

    fn reset(&mut self) {
        self.site.resets.fetch_add(1, Ordering::Relaxed);
        self.pending.push_back(Bytes::from_static(RESET.as_bytes()));
        self.ended = true;
    }
}

async fn ended(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the server is gone already.
    let _ = shutdown.wait_for(|down| *down).await;
}
