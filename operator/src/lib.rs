//! The operator of ca-iot: what users write becomes keys, certificates, revocation lists and workloads, and stays so.
//!
//! ```text
//!            RootCA ──────────► Secret rootca-<name> (key, CRL)      ConfigMap <name>-trust (roots, CRLs)
//!               │ signs
//!     ┌─────────┼──────────┐
//! IotDevice  MqttBroker  Dashboard ──► Secret <kind>-<name> (tls.crt, tls.key, ca.crt; a broker's also ca.crl)
//!     │         │          │
//! thermometer  Mosquitto   web page     Deployments that mount these Secrets
//! ```
//!
//! Every controller is the same sentence: *observe* what there is, *plan* what to do and why, *build* it, *apply* it, *report*. Planning
//! and building are pure; [`cluster`] is the only module that writes, but for [`events`].
//!
//! - [`root_ca`], [`iot_device`], [`mqtt_broker`], [`dashboard`]: one controller each
//! - [`certificate`]: the one lifecycle that the last three share
//! - [`fleet`]: the MQTT side: what devices acknowledge, what brokers have loaded, how a session is cut
//! - [`departures`]: devices that are gone
//! - [`workloads`]: everything that appears in the cluster beside Secrets, one file each
//! - [`children`] and [`roots`]: what is remembered between two looks; none of it matters after a crash
//! - [`controller`] and [`triggers`]: when an object is looked at
//! - [`lease`]: which replica writes
//! - [`publication`]: CRLs and roots over HTTP
//! - [`runtime`]: where all of it meets

pub mod certificate;
pub mod children;
pub mod cli;
pub mod cluster;
pub mod context;
pub mod controller;
pub mod dashboard;
pub mod departures;
pub mod error;
pub mod events;
pub mod fleet;
pub mod http;
pub mod iot_device;
pub mod key;
pub mod lease;
pub mod memory;
pub mod metrics;
pub mod mqtt_broker;
pub mod pods;
pub mod process;
pub mod publication;
pub mod root_ca;
pub mod roots;
pub mod runtime;
pub mod shut_out;
pub mod triggers;
pub mod workloads;
