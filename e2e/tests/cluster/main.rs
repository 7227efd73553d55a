//! What users notice, on a real cluster. The library tells how it is done; docs/verification.md, what it has shown.

mod chart;
mod devices;
mod fleet;
mod lifecycle;
mod own_keys;
mod page;
mod refusals;
mod renewals;
mod replicas;
mod roots;
mod security;
mod stock_clients;
mod verifiers;
