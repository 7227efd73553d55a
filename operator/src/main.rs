//! The program: see the library for what it does.

use clap::Parser as _;
use operator::cli::{Arguments, Command};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    operator::memory::keep_private()?;
    match Arguments::parse().command {
        Command::Crds { apply: false } => operator::cli::print_crds(),
        Command::Crds { apply: true } => operator::cli::apply_crds().await,
        Command::Run(options) => operator::runtime::run(*options).await,
    }
}
