//! `/healthz`, `/startupz`, `/readyz` for the kubelet, `/loaded` and `/crls` for the operator.
//!
//! Whoever reaches this port may hand over revocation lists: what counts is the signature of a trusted root and a number that is
//! greater than that of the list in place, so nobody but the root can change anything, and nobody can turn it back.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::pushed::Pushed;
use crate::status::{Loaded, Status};

/// The most octets of lists that are read: two full Secrets.
const LONGEST_BODY: usize = 2 * 1024 * 1024;
/// How long the answer waits for the broker to use what was handed over.
const ANSWER_WITHIN: Duration = Duration::from_millis(1500);

type Published = watch::Receiver<Status>;

/// What the routes work with.
#[derive(Clone)]
struct Desk {
    published: Published,
    pushed: Arc<Pushed>,
}

pub(crate) async fn serve(
    listener: TcpListener,
    published: Published,
    pushed: Arc<Pushed>,
) -> io::Result<()> {
    axum::serve(listener, routes(Desk { published, pushed })).await
}

fn routes(desk: Desk) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/startupz", get(startup))
        .route("/readyz", get(readiness))
        .route("/loaded", get(loaded))
        .route("/crls", put(take_crls).layer(DefaultBodyLimit::max(LONGEST_BODY)))
        .with_state(desk)
}

async fn startup(State(Desk { published, .. }): State<Desk>) -> (StatusCode, String) {
    let Status { startable, loaded, .. } = published.borrow().clone();
    answer(startable, "checked files are in place", loaded.problem)
}

async fn readiness(State(Desk { published, .. }): State<Desk>) -> (StatusCode, String) {
    let Status { ready, loaded, .. } = published.borrow().clone();
    answer(ready, "the broker serves the files in place", loaded.problem)
}

async fn loaded(State(Desk { published, .. }): State<Desk>) -> Json<Loaded> {
    Json(published.borrow().loaded.clone())
}

/// Answers what the broker uses, when it uses the lists that were handed over, or after a moment.
async fn take_crls(
    State(Desk { mut published, pushed }): State<Desk>,
    body: String,
) -> Result<Json<Loaded>, (StatusCode, String)> {
    let crls = pki::Crl::all_from_pem(&body)
        .map_err(|problem| (StatusCode::UNPROCESSABLE_ENTITY, format!("{problem}\n")))?;
    let wanted: Vec<_> = crls.iter().map(pki::Crl::number).collect();
    pushed.take(crls);
    let uses = |status: &Status| {
        let numbers: Vec<_> = status.loaded.crl_numbers.values().copied().collect();
        numbers.len() == wanted.len() && wanted.iter().all(|number| numbers.iter().any(|it| it >= number))
    };
    // Too late is no failure: the answer tells what is in use by then.
    let _ = timeout(ANSWER_WITHIN, published.wait_for(uses)).await;
    Ok(Json(published.borrow().loaded.clone()))
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
