//! Promises that take longer than a test, each measured against its bound: `cargo xtask drill NAME`. One module for each
//! drill; the figures that were measured are in docs/measurements.md.

mod browser;
mod crowd;
mod dashboard_load;
mod dashboard_sleep;
mod interference;
mod outage;
mod renewal_storm;
mod revoke;
mod rotate;
mod stock;
