//! The program: see the library for what it does.

use clap::Parser as _;
use thermometer::{Arguments, device};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_ansi(false).init();
    device::run(Arguments::parse()).await
}
