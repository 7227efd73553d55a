//! The stage `browser`: the dashboard as people and programs use it, on the tests' cluster.

use anyhow::{Result, ensure};

use super::{ARTIFACTS, Bench, Outcome, on_cluster};
use crate::{cluster::E2E, python, tools::Tools, up};

const TESTS: &str = "dashboard/browser-tests";

/// What the description of the API promises, and what is left out: the stream, which never ends.
const DESCRIPTION: &str = "dashboard/openapi.json";
const ENDLESS: &str = "/api/v1/stream";

/// The tests in dashboard/browser-tests with a picture of each screen, and the API against its description.
pub(super) fn browser(bench: &Bench<'_>) -> Outcome {
    programs(&bench.tools)?;
    let schemathesis = python::schemathesis(&bench.tools)?.join("schemathesis");
    let (cluster, images) = on_cluster::cluster_with_images(bench)?;
    up::install(&cluster, &images, &[])?;
    let page = up::page(E2E.dashboard_port)?;
    let judge = bench
        .tools
        .program(schemathesis)
        .arg("run")
        .arg(bench.tools.root().join(DESCRIPTION))
        .args(["--url", &page, "--exclude-path", ENDLESS])
        .args(["--checks", "all", "--max-examples", "50", "--no-color"])
        // it keeps a folder of what it has found where it runs
        .current_dir(&bench.artifacts);
    let mut cases = String::new();
    bench.watch("browser-api", judge, |line| {
        if line.ends_with(" passed") && line.contains(" generated, ") {
            line.trim().clone_into(&mut cases);
        }
    })?;
    ensure!(!cases.is_empty(), "schemathesis made no cases");
    // A dashboard that runs here sees a namespace in which there is nothing, which no site has.
    bench.check(
        "browser-program",
        bench.tools.program("cargo").args(["build", "--locked", "--package", "ca-iot-dashboard"]),
    )?;
    let node = bench
        .tools
        .program("node")
        // One after the other: some stop what others look at.
        .args(["--test", "--test-reporter=tap", "--test-concurrency=1"])
        .current_dir(&bench.tools.root().join(TESTS))
        .env("KUBECONFIG", on_cluster::kubeconfig(&bench.tools))
        .env("NAMESPACE", "default")
        .env("BROKER", format!("localhost:{}", E2E.broker_port))
        .env("DASHBOARD_URL", page)
        .env("DASHBOARD_PROGRAM", bench.tools.root().join("target/debug/dashboard"))
        .env("SCREENSHOTS", bench.artifacts.join("screens"));
    let (mut passed, mut skipped) = (0, 0);
    bench.watch("browser", node, |line| {
        let number = |prefix| line.strip_prefix(prefix).and_then(|count: &str| count.trim().parse().ok());
        passed = number("# pass ").unwrap_or(passed);
        skipped = number("# skipped ").unwrap_or(skipped);
    })?;
    ensure!(passed > 0, "no test ran");
    ensure!(skipped == 0, "{skipped} tests were skipped");
    Ok(format!("{passed} tests; pictures are in {ARTIFACTS}/screens/; the API: {cases}"))
}

/// Chromium, and what npm has to bring.
pub(crate) fn programs(tools: &Tools) -> Result<()> {
    tools.packages(&[("chromium", "chromium"), ("npm", "npm")])?;
    let npm = tools.program("npm").args(["ci", "--no-audit", "--no-fund", "--silent"]);
    npm.current_dir(&tools.root().join(TESTS)).run()
}
