//! `cargo xtask`: everything that is done *with* the project: a running system, its images, its tests.

mod bench;
mod cluster;
mod crds;
mod drill;
mod images;
mod mosquitto;
mod program;
mod progress;
mod python;
mod ready;
mod test;
mod tools;
mod up;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::tools::Tools;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring everything up: tools, cluster, images, chart, two sample devices; return when all of it is Ready
    Up(Target),
    /// Delete the cluster that `up` made
    Down,
    /// Build the images and load them into the cluster
    Images(Target),
    /// Run the checks and tests, all or some
    Test(test::Options),
    /// Run drills: promises that take longer than a test, each measured against its bound
    Drill(drill::Options),
    /// Measure the operator beside a client that makes the same writes and does nothing else
    Bench(bench::Options),
    /// Write the custom resource definitions that the operator speaks into the chart
    Crds,
}

/// Which cluster; without any of these the kind cluster of kind-config.yaml, made when it is missing.
#[derive(Args)]
struct Target {
    /// Use the cluster of this context (of kind or not) instead of making one
    #[arg(long)]
    context: Option<String>,
    /// Use this kubeconfig, and its current context unless --context says otherwise
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Push the images to this registry, for a cluster that is not of kind: `registry.example.org/team`
    #[arg(long)]
    registry: Option<String>,
    /// Values for the chart, beside those of the images
    #[arg(long, short = 'f')]
    values: Vec<PathBuf>,
}

fn main() -> ExitCode {
    progress::start();
    let arguments = Arguments::parse();
    let done = Tools::find().and_then(|tools| match arguments.command {
        Command::Up(target) => up::up(&tools, &target),
        Command::Down => up::down(&tools),
        Command::Images(target) => up::images_only(&tools, &target),
        Command::Test(options) => test::run(tools, &options),
        Command::Drill(options) => drill::run(tools, &options),
        Command::Bench(options) => bench::run(&tools, &options),
        Command::Crds => crds::write(&tools),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::failed(&error);
            ExitCode::FAILURE
        }
    }
}
