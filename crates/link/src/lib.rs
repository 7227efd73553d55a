//! An MQTT 5 session over mutual TLS that follows rotated certificate files, and the wire format
//! spoken over it. The only crate that knows which MQTT client is underneath (`docs/adr/0001`).
//!
//! ```text
//!   mounted Secret ──► watch ──► Identity ─┐
//!                                          ▼
//!   Link::publish ──► outbox ──────────► session ◄──► broker
//!                   (bounded)              │
//!   Events ◄───────────────────────────────┘
//! ```
//!
//! - [`topic`]: which topics exist, and who writes them
//! - [`wire`]: what is in their payloads, and how a reader tells loss from a restart
//! - [`Identity`]: `tls.crt`, `tls.key` and `ca.crt`, checked as one set
//! - [`Link`]: the session: queueing, re-connecting, changing certificates without losing a message
//! - [`take_over`]: throws another holder of the same name off the broker
//! - [`served`]: the certificate that a broker presents

mod announce;
mod backoff;
mod failure;
mod identity;
mod link;
mod options;
mod outbox;
mod resume;
mod served;
mod session;
mod takeover;
pub mod topic;
mod watch;
pub mod wire;

pub use failure::Failure;
pub use identity::{Identity, IdentityError};
pub use link::{Event, Events, Link, Message, Qos};
pub use options::{BrokerAddress, BrokerAddressError, IdentitySource, LinkOptions, Presence};
pub use outbox::{Backlog, Publication, PublishError};

pub use served::{Served, served};
pub use takeover::take_over;
