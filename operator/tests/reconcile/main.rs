//! The reconcilers against an API server in memory: what users notice when they write, change and lose things, and when the operator is
//! killed at the worst moment.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod certificates;
mod clock;
mod crashes;
mod publications;
mod refusals;
mod roots;
mod rotations;
mod support;
mod withdrawals;
