//! Promises that take longer than a test, each measured against its bound: `cargo xtask drill NAME`. One module for each
//! drill; the figures that were measured are in docs/measurements.md.

mod browser;
mod crowd;
mod dashboard_load;
mod dashboard_sleep;
mod disturbances;
mod fuzz;
mod interference;
mod outage;
mod readings;
mod renewal_storm;
mod replicas;
mod revoke;
mod rotate;
mod sigkill;
mod stock;
