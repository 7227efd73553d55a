//! What the kubelet asks: alive, and connected.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use link::Link;
use tokio::net::TcpListener;

/// Answers until the task is ended.
pub(crate) async fn serve(listener: TcpListener, link: Link) -> std::io::Result<()> {
    let ready = move || {
        let connected = link.is_connected();
        async move {
            if connected {
                (StatusCode::OK, "connected\n")
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, "not connected to the broker; the log says why\n")
            }
        }
    };
    let routes = Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready));
    axum::serve(listener, routes).await
}
