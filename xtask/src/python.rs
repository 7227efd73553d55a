//! Python programs that tests use as judges: pkilint (certificates), paho (another MQTT client), Schemathesis (HTTP APIs).

use std::{fs, path::PathBuf};

use anyhow::Result;

use crate::{progress::step, tools::Tools};

/// Pinned: a new rule of the linter should come as a commit, not as a surprise.
const PACKAGES: [&str; 2] = ["pkilint==0.13.3", "paho-mqtt==2.1.0"];

/// Apart from the others, because only the dashboard's tests need it and it has many dependencies.
const SCHEMATHESIS: [&str; 1] = ["schemathesis==4.32.5"];

/// An environment that has the judges of certificates: returns the folder to put on the PATH.
pub(crate) fn programs(tools: &Tools) -> Result<PathBuf> {
    environment(tools, "pkilint and paho", &PACKAGES)
}

/// An environment that has Schemathesis: returns the folder with the program.
pub(crate) fn schemathesis(tools: &Tools) -> Result<PathBuf> {
    environment(tools, "schemathesis", &SCHEMATHESIS)
}

fn environment(tools: &Tools, name: &str, packages: &[&str]) -> Result<PathBuf> {
    let home = tools.cache().join(format!("python-{}", packages.join("-").replace("==", "-")));
    let bin = home.join("bin");
    let finished = home.join("finished");
    if finished.exists() {
        return Ok(bin);
    }
    step(name, || {
        let _ = fs::remove_dir_all(&home);
        let venv = || tools.program("python3").args(["-m", "venv"]).arg(&home);
        if venv().run().is_err() {
            let _ = fs::remove_dir_all(&home);
            // Debian has it apart
            tools.install(&["python3", "python3-venv"])?;
            venv().run()?;
        }
        tools
            .program(bin.join("pip"))
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .args(packages)
            .run()?;
        fs::write(&finished, "")?;
        Ok(Some("installed".to_owned()))
    })?;
    Ok(bin)
}
