//! The page that shows a fleet and all its certificates, live. It reads and never writes.
//!
//! ```text
//!   Kubernetes API ──► feed::cluster ─┐                       ┌─► GET /api/v1/state   (once per tab)
//!                                     ├─► Live { State } ─────┤
//!   MQTT broker ─────► feed::broker ──┘   every 250 ms one    └─► GET /api/v1/stream  (one frame, all tabs)
//!                                         frame of changes
//! ```
//!
//! - [`state`]: pure and bounded; whoever calls tells the time
//! - [`live`]: the state shared, and serialised once for all tabs
//! - [`feed`]: from cluster and broker into the state
//! - [`http`]: from the state to the page

pub mod feed;
pub mod http;
pub mod live;
pub mod state;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use jiff::Timestamp;
use link::BrokerAddress;
use tokio::net::TcpListener;
use tokio::sync::watch;

use http::Site;
use live::Live;
use state::State;

/// A web page that shows the fleet and every certificate of a namespace, live.
#[derive(Clone, Debug, Parser)]
#[command(name = "dashboard", version)]
pub struct Options {
    /// The MQTT broker, HOST:PORT.
    #[arg(long, env = "CA_IOT_BROKER")]
    pub broker: BrokerAddress,
    /// Directory with tls.crt, tls.key and ca.crt.
    #[arg(long, env = "CA_IOT_PKI", default_value = "/pki")]
    pub pki: PathBuf,
    /// Where the page is served.
    #[arg(long, env = "CA_IOT_LISTEN", default_value = "0.0.0.0:5000")]
    pub listen: SocketAddr,
    /// The namespace whose resources are shown.
    #[arg(long, env = "CA_IOT_NAMESPACE")]
    pub namespace: String,
    /// Host names under which the page may be opened, such as an Ingress's. Addresses, localhost and names of
    /// Services are always allowed; others are refused, against DNS rebinding.
    #[arg(long = "host", env = "CA_IOT_HOSTS", value_delimiter = ',')]
    pub hosts: Vec<String>,
}

/// Runs until `shutdown` is done.
///
/// # Errors
/// When the address cannot be bound, or neither a cluster nor a kubeconfig is there.
pub async fn run(
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let Options { broker, pki, listen, namespace, hosts } = options;
    let config = kube::Config::infer()
        .await
        .context("no ServiceAccount and no kubeconfig to read the cluster with")?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let now = Timestamp::now();
    let live = Arc::new(Live::new(State::new(&namespace, now), now));
    let (stop, stopped) = watch::channel(false);
    let site = Site::new(Arc::clone(&live), hosts, stopped);
    tracing::info!(%listen, namespace, %broker, "the page is served");

    tokio::spawn(async move {
        shutdown.await;
        // Nobody listening any more is what this is about.
        let _ = stop.send(true);
    });
    tokio::select! {
        result = http::serve(listener, site) => result.context("the HTTP server failed"),
        () = live.run() => Ok(()),
        () = feed::cluster::follow(Arc::clone(&live), config, namespace) => anyhow::bail!("the cluster is not followed any more"),
        () = feed::broker::follow(Arc::clone(&live), broker, pki) => anyhow::bail!("the broker is not followed any more"),
    }
}
