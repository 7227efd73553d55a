//! Brings cluster and broker into the state, and says so when one of them is away.
//!
//! - [`broker`]: readings, connections and the log, over MQTT with the dashboard's own certificate
//! - [`cluster`]: the four kinds, over the Kubernetes API, read only
//! - [`handshake`]: the certificate that the broker really presents
//! - [`convert`]: a resource boiled down to what the page shows

pub mod broker;
pub mod cluster;
pub mod convert;
mod handshake;
