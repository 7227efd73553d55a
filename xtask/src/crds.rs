//! The chart's copy of the custom resource definitions.

use std::fs;

use anyhow::{Context as _, Result};

use crate::{progress::say, tools::Tools};

/// Where the chart keeps them, from the workspace's root.
pub(crate) const CRDS: &str = "charts/ca-iot/crds/ca-iot.dev.yaml";

/// Writes what `operator crds` prints into the chart. A test of the operator compares the two.
pub(crate) fn write(tools: &Tools) -> Result<()> {
    let definitions = tools
        .program("cargo")
        .args(["run", "--quiet", "--package", "ca-iot-operator", "--bin", "operator", "--", "crds"])
        .output()?;
    let path = tools.root().join(CRDS);
    fs::create_dir_all(path.parent().context("a file has a folder")?)?;
    fs::write(&path, definitions + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    say(format_args!("wrote {CRDS}"));
    Ok(())
}
