//! How a link is opened.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{Identity, Qos};

/// Where the broker listens: `host:port`. The host is also the name that its certificate must bear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAddress {
    /// A DNS name or an IP address.
    pub host: String,
    /// A TCP port, usually 8883.
    pub port: u16,
}

/// Text that is not `host:port`.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a broker address; expected HOST:PORT, such as localhost:8883")]
pub struct BrokerAddressError(String);

/// Where the certificate comes from, first and later.
#[derive(Clone, Debug)]
pub enum IdentitySource {
    /// Files in a directory, usually a mounted Secret; looked at once a second.
    Directory(PathBuf),
    /// Handed over by this process, which may replace it at any time.
    Given(watch::Receiver<Arc<Identity>>),
}

/// Whether others are told that this client is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// A device: `status` online and offline (as last will too), and `cert` on each connect and
    /// whenever its trusted roots change.
    Announced,
    /// An observer: nothing is said.
    Silent,
}

/// How a link is opened: [`LinkOptions::device`] or [`LinkOptions::observer`], then changed to taste.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// Where the broker listens.
    pub broker: BrokerAddress,
    /// Certificate, key and roots.
    pub identity: IdentitySource,
    /// Whether others are told.
    pub presence: Presence,
    /// Topic filters to hear.
    pub subscriptions: Vec<String>,
    /// How surely what is subscribed to has to come. At QoS 1 the broker keeps what was not acknowledged, and with a
    /// session that outlives the connection it writes it to disk first: a few hundred messages a second.
    pub subscription_qos: Qos,
    /// How long the broker keeps subscriptions and undelivered messages while this client is away.
    /// Whole seconds; zero forgets at once.
    pub session_expiry: Duration,
    /// How many publications wait at most while there is no connection; the oldest make room.
    pub queue_limit: usize,
}

impl LinkOptions {
    /// A device, which announces itself and queues for an hour of readings every 5 s.
    pub fn device(broker: BrokerAddress, pki: impl Into<PathBuf>) -> Self {
        Self {
            broker,
            identity: IdentitySource::Directory(pki.into()),
            presence: Presence::Announced,
            subscriptions: Vec::new(),
            subscription_qos: Qos::AtLeastOnce,
            session_expiry: Duration::from_hours(24),
            queue_limit: 720,
        }
    }

    /// One who listens.
    pub fn observer(broker: BrokerAddress, pki: impl Into<PathBuf>) -> Self {
        Self {
            presence: Presence::Silent,
            session_expiry: Duration::from_mins(5),
            ..Self::device(broker, pki)
        }
    }

    /// Adds a topic filter to hear.
    #[must_use]
    pub fn subscribe(mut self, filter: impl Into<String>) -> Self {
        self.subscriptions.push(filter.into());
        self
    }
}

impl FromStr for BrokerAddress {
    type Err = BrokerAddressError;

    fn from_str(text: &str) -> Result<Self, BrokerAddressError> {
        let parse = || {
            let (host, port) = text.rsplit_once(':')?;
            let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            let port = port.parse().ok().filter(|port| *port != 0)?;
            (!host.is_empty()).then(|| Self { host: host.to_owned(), port })
        };
        parse().ok_or_else(|| BrokerAddressError(text.to_owned()))
    }
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for text in ["localhost:8883", "10.0.0.1:1", "[::1]:8883"] {
            assert_eq!(text.parse::<BrokerAddress>().unwrap().to_string(), text);
        }
        for text in ["", "localhost", ":8883", "localhost:", "localhost:0", "localhost:99999"] {
            assert!(text.parse::<BrokerAddress>().is_err(), "{text}");
        }
    }
}
