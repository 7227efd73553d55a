//! Promises that take longer than a test, each measured against its bound: `cargo xtask drill NAME`. One module for each
//! drill; the figures that were measured are in docs/measurements.md.

mod crowd;
mod interference;
mod outage;
mod renewal_storm;
mod revoke;
mod rotate;
mod stock;
