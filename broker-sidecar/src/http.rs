//! `/healthz`, `/startupz`, `/readyz` for the kubelet, `/loaded` for the operator.

use std::io;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::status::{Loaded, Status};

type Published = watch::Receiver<Status>;

pub(crate) async fn serve(listener: TcpListener, published: Published) -> io::Result<()> {
    axum::serve(listener, routes(published)).await
}

fn routes(published: Published) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/startupz", get(startup))
        .route("/readyz", get(readiness))
        .route("/loaded", get(loaded))
        .with_state(published)
}

async fn startup(State(published): State<Published>) -> (StatusCode, String) {
    let Status { startable, loaded, .. } = published.borrow().clone();
    answer(startable, "checked files are in place", loaded.problem)
}

async fn readiness(State(published): State<Published>) -> (StatusCode, String) {
    let Status { ready, loaded, .. } = published.borrow().clone();
    answer(ready, "the broker serves the files in place", loaded.problem)
}

async fn loaded(State(published): State<Published>) -> Json<Loaded> {
    Json(published.borrow().loaded.clone())
}

fn answer(good: bool, what: &str, problem: Option<String>) -> (StatusCode, String) {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = match problem {
        Some(problem) => problem,
        None if good => what.to_owned(),
        None => format!("not yet: {what}"),
    };
    (status, text + "\n")
}
