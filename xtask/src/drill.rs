//! `cargo xtask drill`: the drills of e2e/tests/drill, each with its table of figures, on the tests' cluster or one that
//! is named.

use std::{fs, path::PathBuf};

use anyhow::{Result, bail, ensure};
use clap::Args;

use crate::{
    Target,
    cluster::{Cluster, E2E},
    program::Program,
    progress::{plain, say, step},
    test::{ARTIFACTS, artifacts, call_judges, on_cluster},
    tools::Tools,
    up,
};

#[derive(Args)]
pub(crate) struct Options {
    /// The drills to run, in this order; without any, they are listed
    names: Vec<String>,
    /// Use the cluster of this context instead of the tests'
    #[arg(long)]
    context: Option<String>,
    /// Use this kubeconfig, and its current context unless --context says otherwise
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Build the drill itself without optimisation: sooner built, but clients that measure are slower
    #[arg(long)]
    debug: bool,
    /// Of a drill with several parts, only those whose name contains this
    #[arg(long)]
    part: Option<String>,
}

/// Runs the drills; an error when a bound of any was missed.
pub(crate) fn run(mut tools: Tools, options: &Options) -> Result<()> {
    let known = known(&tools, options)?;
    if options.names.is_empty() {
        plain(format_args!("{}", known.join("\n")));
        return Ok(());
    }
    let mut chosen = Vec::new();
    for name in &options.names {
        let parts = parts(&known, name, options.part.as_deref());
        ensure!(
            !parts.is_empty(),
            "there is no such drill as {name}, or no such part of it; `cargo xtask drill` lists them"
        );
        chosen.push((name, parts));
    }
    call_judges(&mut tools)?;
    let target = Target {
        context: options.context.clone(),
        kubeconfig: options.kubeconfig.clone(),
        registry: None,
        values: Vec::new(),
    };
    let cluster = cluster(&tools, &target)?;
    let access = access(&tools, &cluster)?;
    let mut missed = Vec::new();
    for (name, parts) in chosen {
        if !one(&tools, options, name, parts, &access)? {
            let folder = tools.root().join(ARTIFACTS).join("drill").join(name);
            artifacts::collect(&cluster, &folder)?;
            say(format_args!("drill {name}: FAILED; what is left of it is in {ARTIFACTS}/drill/{name}/"));
            missed.push(name.as_str());
        }
    }
    if missed.is_empty() { Ok(()) } else { bail!("{}", missed.join(", ")) }
}

/// The cluster that is named, or the tests', with this tree's images.
pub(crate) fn cluster<'a>(tools: &'a Tools, target: &'a Target) -> Result<Cluster<'a>> {
    let cluster = if up::is_ours(target) {
        tools.cluster_programs()?;
        on_cluster::ready(tools)?
    } else {
        up::cluster(tools, target)?
    };
    up::put_images(tools, &cluster, target)?;
    Ok(cluster)
}

/// The parts of the drill `name`, or those of them whose name contains `part`.
fn parts(known: &[String], name: &str, part: Option<&str>) -> Vec<String> {
    let module = name.replace('-', "_");
    let is_wanted = |drill: &&String| {
        drill
            .split_once("::")
            .is_some_and(|(its, name)| its == module && part.is_none_or(|part| name.contains(part)))
    };
    known.iter().filter(is_wanted).cloned().collect()
}

/// Runs one; says whether all its bounds were held.
fn one(tools: &Tools, options: &Options, name: &str, parts: Vec<String>, access: &PathBuf) -> Result<bool> {
    let folder = tools.root().join(ARTIFACTS).join("drill").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let mut cargo = cargo(tools, options)
        .args(["--ignored", "--nocapture", "--test-threads=1", "--exact"])
        .args(parts)
        .env("KUBECONFIG", access)
        .env("CA_IOT_E2E_CHART", tools.root().join("charts/ca-iot"))
        .env("CA_IOT_E2E_ARTIFACTS", &folder)
        .env("RUST_BACKTRACE", "0");
    if options.context.is_none() && options.kubeconfig.is_none() {
        cargo = cargo
            .env("CA_IOT_E2E_DASHBOARD", format!("localhost:{}", E2E.dashboard_port))
            .env("CA_IOT_E2E_BROKER", format!("localhost:{}", E2E.broker_port));
    }
    let mut held = false;
    step(&format!("drill {name}"), || {
        held = cargo.logged(&folder.join("log.txt"), |line| plain(line))?;
        Ok(Some(if held { "every bound held" } else { "FAILED" }.to_owned()))
    })?;
    Ok(held)
}

/// The drills that there are, as `outage::renewal_goes_on_…`.
fn known(tools: &Tools, options: &Options) -> Result<Vec<String>> {
    say("building the drills");
    let listed = cargo(tools, options).args(["--ignored", "--list", "--format=terse"]).output()?;
    Ok(listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

fn cargo(tools: &Tools, options: &Options) -> Program {
    let cargo =
        tools.program("cargo").args(["test", "--package", "ca-iot-e2e", "--test", "drill", "--locked"]);
    let cargo = if options.debug { cargo } else { cargo.arg("--release") };
    cargo.arg("--")
}

/// A kubeconfig with this cluster alone, which is all that a drill is told.
pub(crate) fn access(tools: &Tools, cluster: &Cluster<'_>) -> Result<PathBuf> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};

    let text = cluster.kubectl().args(["config", "view", "--minify", "--flatten", "--raw"]).output()?;
    // by name: drills on two clusters may run beside each other
    let context =
        cluster.kubectl().args(["config", "view", "--minify", "--output=jsonpath={.contexts[0].name}"]);
    let file = tools.cache().join(format!("drill-{}.kubeconfig", context.output()?.replace('/', "-")));
    let _ = fs::remove_file(&file);
    fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&file)?
        .write_all(text.as_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_chosen_by_what_its_name_contains() {
        let known =
            ["outage::a_broker", "rotate::the_broker_goes", "rotate::a_leaked_root"].map(str::to_owned);
        assert_eq!(parts(&known, "rotate", None), ["rotate::the_broker_goes", "rotate::a_leaked_root"]);
        assert_eq!(parts(&known, "rotate", Some("broker")), ["rotate::the_broker_goes"]);
        assert!(parts(&known, "rotate", Some("storm")).is_empty() && parts(&known, "rot", None).is_empty());
    }
}
