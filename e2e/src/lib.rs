//! What the tests on a real cluster stand on: nothing in here is a stand-in for a part of the system.
//!
//! Each test has a [`Site`]: a namespace of its own in which Pod Security `restricted` is enforced, with the chart
//! installed in it as a user would. What the test does not clean up goes with the namespace; when it fails, events,
//! resources and logs are kept first.
//!
//! - [`site`]: the namespace, the chart in it, and what is written and awaited there
//! - [`program`]: other people's programs: kubectl, helm, OpenSSL, Mosquitto's clients, Python
//! - [`identity`]: certificate files, from Secrets or signed here to be wrong on purpose
//! - [`subscriber`] and [`handshake`]: what a client of a broker sees
//! - [`fleet`], [`stubborn`], [`listener`]: devices by the hundred, good ones and rude ones, and who hears them all
//! - [`observer`]: what must hold at every moment, judged by every version of everything
//! - [`page`]: what a browser sees
//! - [`operator_pod`] and [`api_server`]: what the operator costs, and what it asks for
//! - [`root_race`]: two operators that start together
//! - [`bench`]: the operator beside a client that only writes
//! - [`figures`]: what a drill measures, beside its bounds
//! - [`patience`]: waiting for what must come true, never for time to pass
//!
//! `cargo xtask test e2e` makes the cluster and sets what [`environment`] reads; by hand any cluster will do that has
//! the images: `KUBECONFIG=… cargo test -p ca-iot-e2e -- --ignored`.

pub mod api_server;
pub mod bench;
pub mod environment;
mod evidence;
pub mod figures;
pub mod fleet;
pub mod handshake;
pub mod identity;
pub mod listener;
pub mod observer;
pub mod operator_pod;
pub mod page;
pub mod patience;
pub mod program;
pub mod root_race;
pub mod site;
pub mod stubborn;
pub mod subscriber;

pub use identity::Identity;
pub use program::program;
pub use site::{Site, default_site, site};
