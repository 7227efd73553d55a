//! The sidecar of the broker: it decides which files Mosquitto gets to see, and proves what Mosquitto made of them.
//!
//! ```text
//!   Secret mount ─┐ look        plan        place             SIGHUP        TLS handshake
//!                 ├──────▶ set? ─────▶ ──────────▶ run/pki ──────────▶ mosquitto ──────────▶ /loaded
//!   ConfigMap ────┘        acl?                    run/acl                               /readyz
//! ```
//!
//! Mosquitto 2.1 ends when it meets a bad file, at its start and at SIGHUP alike. So it never reads the mounts: it
//! reads `run`, a directory in memory where only sets that passed the checks are put.
//!
//! - `look`: what is mounted, read as one set.
//! - `set`, `acl`: the checks.
//! - `process`: the running broker, found in `/proc`.
//! - `plan`: from what is known and what is seen to the next step; pure.
//! - `place`: one set after the other into `run`, each in one step.
//! - `proof`: a handshake that shows which certificate is served.
//! - `sidecar`: the loop that does the above.
//! - `pushed`: revocation lists that the operator hands over, because a mount is slow to change.
//! - `http`: what others may ask.

mod acl;
mod arguments;
mod http;
mod look;
mod place;
mod plan;
mod process;
mod proof;
mod pushed;
mod set;
mod sidecar;
mod status;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

pub use crate::arguments::Arguments;
pub use crate::status::Loaded;

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Config {
    /// The mounted Secret: `tls.crt`, `tls.key`, `ca.crt`, `ca.crl`.
    pub pki: PathBuf,
    /// The mounted ACL file.
    pub acl_source: PathBuf,
    /// The directory that Mosquitto reads: `pki/` and `acl` appear in it.
    pub run: PathBuf,
    /// Mosquitto's TLS listener.
    pub broker: SocketAddr,
    /// Mosquitto is told to reload at least this often. A reload makes it forget the TLS 1.3 tickets of clients that
    /// have expired since; without one they may resume for ever (measured).
    pub reload_every: Duration,
    /// The process table in which Mosquitto is found: `/proc`.
    pub proc: PathBuf,
}

/// Runs until `shutdown` resolves; it does not return before, unless the HTTP server fails.
///
/// # Errors
/// When TLS cannot be set up, or connections cannot be accepted from `listener` any more.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let (publish, published) = watch::channel(status::Status::default());
    let pushed = Arc::new(pushed::Pushed::default());
    let sidecar = sidecar::Sidecar::new(config, publish, Arc::clone(&pushed))?;
    tokio::select! {
        served = http::serve(listener, published, pushed) => Ok(served?),
        () = sidecar.run() => Ok(()),
        () = shutdown => {
            tracing::info!("told to stop");
            Ok(())
        }
    }
}
