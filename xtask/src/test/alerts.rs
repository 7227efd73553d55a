//! The alerts of the chart: that promtool understands them, that each fires when it should and only then, and that the chart
//! hands on exactly these.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use super::{Bench, Outcome};
use crate::tools::Tools;

const CHART: &str = "charts/ca-iot";
const RULES: &str = "ca-iot.rules.yaml";
const TESTS: &str = "ca-iot.test.yaml";

pub(super) fn alerts(bench: &Bench<'_>) -> Outcome {
    let promtool = promtool(&bench.tools)?;
    let folder = bench.tools.root().join(CHART).join("alerts");
    let program = || bench.tools.program(&promtool).current_dir(&folder);
    bench.check("alerts-lint", program().args(["check", "rules", "--lint=all", "--lint-fatal", RULES]))?;
    bench.check("alerts", program().args(["test", "rules", TESTS]))?;

    let read = |file: &str| std::fs::read_to_string(folder.join(file)).context(file.to_owned());
    let (rules, tests) = (read(RULES)?, read(TESTS)?);
    let names: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    for name in &names {
        let fires = format!("alertname: {name}\n        exp_alerts:\n");
        ensure!(tests.contains(&fires), "no test lets {name} fire");
        let runbook = std::fs::read_to_string(bench.tools.root().join("docs/runbook.md"))?;
        ensure!(
            runbook.contains(&format!("### {name}\n")),
            "docs/runbook.md does not say what to do on {name}"
        );
    }

    bench.tools.cluster_programs()?;
    let helm = bench.tools.program("helm").args(["template", "ca-iot", CHART]);
    let helm =
        helm.args(["--show-only=templates/monitoring.yaml", "--set=monitoring.prometheusRule.enabled=true"]);
    let rendered = helm.output()?;
    let (_, spec) = rendered.split_once("\nspec:\n").context("no spec is rendered")?;
    let spec: Vec<_> = spec.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
    ensure!(spec.join("\n").trim() == rules.trim(), "the chart's PrometheusRule is not {RULES}");
    Ok(format!("{} alerts, each seen to fire and to keep still", names.len()))
}

/// The user's own, or that of Debian's package.
fn promtool(tools: &Tools) -> Result<PathBuf> {
    if tools.has("promtool") {
        return Ok(PathBuf::from("promtool"));
    }
    Ok(tools.unpacked("prometheus")?.join("usr/bin/promtool"))
}
