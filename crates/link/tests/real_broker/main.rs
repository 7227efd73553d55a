//! Links to a real Mosquitto, with real certificates. It takes Mosquitto 2.1, in `PATH` or named by `MOSQUITTO`:
//!
//! ```text
//! MOSQUITTO=$(crates/link/tests/broker/mosquitto-from-image) cargo test -p ca-iot-link -- --include-ignored
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at what it did not expect")]
#![allow(clippy::print_stdout, reason = "what was measured, and what the broker said when a test fails")]

mod authority;
mod certificates;
mod client;
mod delivery;
mod mosquitto;
mod presence;
mod refusals;
mod served;
mod volume;
