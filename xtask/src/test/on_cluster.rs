//! The stages that need a Kubernetes cluster: one of kind, made for them and deleted after them.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Result, bail};

use super::{ARTIFACTS, Bench, Outcome, artifacts, cargo};
use crate::{
    cluster::{Cluster, E2E},
    images::{self, Image},
    progress::step,
    tools::Tools,
};

const CHART: &str = "charts/ca-iot";
const SAMPLES: &str = "deploy/samples";

/// The namespace in which the API server is asked about the chart; nothing is made there.
const DRY_RUN_NAMESPACE: &str = "chart-dry-run";

/// What the chart is rendered with, one after the other.
const VARIANTS: [&[&str]; 5] = [
    &[],
    &["--set", "watchAllNamespaces=true"],
    &["--set", "site.enabled=false,replicas=2,logFormat=json"],
    PRODUCTION,
    &["--values", "charts/ca-iot/values-production.yaml", "--set", "watchAllNamespaces=true"],
];

const PRODUCTION: &[&str] = &["--values", "charts/ca-iot/values-production.yaml"];

/// The chart as Helm and the API server see it.
pub(super) fn chart(bench: &Bench<'_>) -> Outcome {
    let cluster = cluster(bench)?;
    bench.check("chart-lint", bench.tools.program("helm").args(["lint", "--strict", CHART]))?;
    let lint = bench.tools.program("helm").args(["lint", "--strict", CHART]).args(PRODUCTION);
    bench.check("chart-lint-production", lint)?;
    cluster.kubectl().args(["apply", "--server-side", "--filename"]).arg(format!("{CHART}/crds")).run()?;
    // kubectl gives up, rather than wait, while a definition has no conditions at all
    let definitions = format!("{CHART}/crds");
    let established = ["wait", "--for=condition=Established", "--timeout=30s", "--filename", &definitions];
    cluster.eventually(Duration::from_secs(30), &established)?;
    let namespace = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": DRY_RUN_NAMESPACE, "labels": {"pod-security.kubernetes.io/warn": "restricted"}},
    });
    cluster.kubectl().args(["apply", "--filename=-"]).input(namespace.to_string()).run()?;
    for (number, values) in VARIANTS.iter().enumerate() {
        let rendered =
            bench.tools.program("helm").args(["template", "ca-iot", CHART, "--namespace", DRY_RUN_NAMESPACE]);
        let file = bench.artifacts.join(format!("chart-{number}.yaml"));
        fs::write(&file, rendered.args(*values).output()?)?;
        let apply = cluster.kubectl().args([
            "apply",
            "--dry-run=server",
            "--namespace",
            DRY_RUN_NAMESPACE,
            "--filename",
        ]);
        let mut warnings = Vec::new();
        bench.watch(&format!("chart-{number}"), apply.arg(&file), |line| {
            if line.starts_with("Warning:") {
                warnings.push(line.to_owned());
            }
        })?;
        if !warnings.is_empty() {
            bail!("the API server warns about {ARTIFACTS}/chart-{number}.yaml:\n{}", warnings.join("\n"));
        }
    }
    cluster.kubectl().args(["apply", "--dry-run=server", "--filename", SAMPLES]).run()?;
    Ok(format!(
        "{} renderings and all samples accepted by the API server, without a warning of Pod Security `restricted`",
        VARIANTS.len()
    ))
}

/// The tests of the crate e2e.
pub(super) fn e2e(bench: &Bench<'_>) -> Outcome {
    let (cluster, _) = cluster_with_images(bench)?;
    let folder = bench.artifacts.join("e2e");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let threads = format!("--test-threads={}", bench.options.test_threads);
    let cargo = bench
        .tools
        .program("cargo")
        // not the drills: those are `cargo xtask drill`
        .args(["test", "--package", "ca-iot-e2e", "--lib", "--test", "cluster"])
        .args(["--locked", "--no-fail-fast", "--"])
        .args(["--include-ignored", &threads])
        .args(&bench.options.filter)
        .env("KUBECONFIG", kubeconfig(&bench.tools))
        .env("CA_IOT_E2E_CHART", bench.tools.root().join(CHART))
        .env("CA_IOT_E2E_ARTIFACTS", &folder)
        .env("CA_IOT_E2E_DASHBOARD", format!("localhost:{}", E2E.dashboard_port))
        .env("CA_IOT_E2E_BROKER", format!("localhost:{}", E2E.broker_port))
        .env("INSTA_UPDATE", "no")
        // errors carry their context; sixty lines of frames would push them out of what is shown of a failure
        .env("RUST_BACKTRACE", "0");
    cargo::tests(bench, "e2e", cargo).map_err(|error| match artifacts::collect(&cluster, &folder) {
        Ok(()) => error.context(format!("logs, events and resources of the cluster are in {ARTIFACTS}/e2e/")),
        Err(also) => error.context(format!("and the cluster's state could not be kept: {also:#}")),
    })
}

/// Deletes the tests' cluster, if there is one.
pub(super) fn delete(bench: &Bench<'_>) -> Result<()> {
    if !bench.tools.has("kind") || !bench.tools.program("docker").arg("info").succeeds() {
        return Ok(());
    }
    step(&format!("cluster {}", E2E.name), || {
        let deleted = Cluster::ours(&bench.tools, &E2E, Some(kubeconfig(&bench.tools))).delete()?;
        Ok(deleted.then(|| "deleted".to_owned()))
    })
}

pub(super) fn cluster_with_images<'a>(bench: &'a Bench<'_>) -> Result<(Cluster<'a>, Vec<Image>)> {
    bench.tools.docker()?;
    let images = images::build(&bench.tools, None)?;
    let cluster = cluster(bench)?;
    images::load(&bench.tools, &cluster, &images)?;
    Ok((cluster, images))
}

fn cluster<'a>(bench: &'a Bench<'_>) -> Result<Cluster<'a>> {
    bench.tools.cluster_programs()?;
    ready(&bench.tools)
}

/// The tests' cluster, made where it is missing.
pub(crate) fn ready(tools: &Tools) -> Result<Cluster<'_>> {
    let cluster = Cluster::ours(tools, &E2E, Some(kubeconfig(tools)));
    step(&format!("cluster {}", E2E.name), || cluster.create(&tools.root().join(E2E.config)))?;
    Ok(cluster)
}

/// Access to the tests' cluster is kept apart from the user's own.
pub(super) fn kubeconfig(tools: &Tools) -> PathBuf {
    tools.cache().join("e2e.kubeconfig")
}
