//! `cargo xtask bench`: the operator beside a client that only writes; the bench itself is in the crate e2e.

use std::fs;

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    Target, drill, images,
    progress::{plain, step},
    test::ARTIFACTS,
    tools::Tools,
};

#[derive(Args)]
pub(crate) struct Options {
    /// How many devices, one size after the other
    #[arg(long, default_value = "1000,5000")]
    devices: String,
    /// How often the first size is measured; the middle one counts
    #[arg(long, default_value_t = 3)]
    rounds: u16,
    /// How long the operator is watched doing nothing, in seconds
    #[arg(long, default_value_t = 300)]
    idle: u16,
    /// Use the cluster of this context instead of the tests'
    #[arg(long)]
    context: Option<String>,
}

/// Builds, measures, and fails when a bound is missed.
pub(crate) fn run(tools: &Tools, options: &Options) -> Result<()> {
    let target =
        Target { context: options.context.clone(), kubeconfig: None, registry: None, values: Vec::new() };
    let cluster = drill::cluster(tools, &target)?;
    let program = images::static_program(tools, "ca-iot-e2e", "bench")?;
    let folder = tools.root().join(ARTIFACTS).join("bench");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let bench = tools
        .program(program)
        .env("KUBECONFIG", drill::access(tools, &cluster)?)
        .env("CA_IOT_E2E_CHART", tools.root().join("charts/ca-iot"))
        .env("CA_IOT_E2E_ARTIFACTS", &folder)
        .env("CA_IOT_BENCH_DEVICES", &options.devices)
        .env("CA_IOT_BENCH_ROUNDS", options.rounds.to_string())
        .env("CA_IOT_BENCH_IDLE", options.idle.to_string());
    let mut held = false;
    step("bench", || {
        held = bench.logged(&folder.join("log.txt"), |line| plain(line))?;
        Ok(Some(if held { "every bound held" } else { "FAILED" }.to_owned()))
    })?;
    if held { Ok(()) } else { bail!("the bench failed; its log is in {ARTIFACTS}/bench/") }
}
