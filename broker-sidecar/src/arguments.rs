//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::Config;

/// Gives Mosquitto checked certificates, revocation lists and access rules, and proves that it uses them.
#[derive(Clone, Debug, clap::Parser)]
#[command(version)]
pub struct Arguments {
    /// The mounted Secret with tls.crt, tls.key, ca.crt and ca.crl
    #[arg(long, env = "CA_IOT_PKI", default_value = "/mosquitto/pki")]
    pub pki: PathBuf,
    /// The mounted ACL file
    #[arg(long, env = "CA_IOT_ACL_SOURCE", default_value = "/mosquitto/config/acl")]
    pub acl_source: PathBuf,
    /// The directory that Mosquitto reads; pki/ and acl are made in it
    #[arg(long, env = "CA_IOT_RUN", default_value = "/mosquitto/run")]
    pub run: PathBuf,
    /// Mosquitto's TLS listener, HOST:PORT
    #[arg(long, env = "CA_IOT_BROKER", default_value = "127.0.0.1:8883")]
    pub broker: SocketAddr,
    /// Where to answer /healthz, /startupz, /readyz and /loaded
    #[arg(long, env = "CA_IOT_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
}

impl From<Arguments> for Config {
    fn from(Arguments { pki, acl_source, run, broker, listen: _ }: Arguments) -> Self {
        let reload_every = Duration::from_mins(15);
        Self { pki, acl_source, run, broker, reload_every, proc: "/proc".into() }
    }
}
