//! Python programs that tests use as judges: pkilint (certificates) and paho (another MQTT client).

use std::{fs, path::PathBuf};

use anyhow::Result;

use crate::{progress::step, tools::Tools};

/// Pinned: a new rule of the linter should come as a commit, not as a surprise.
const PACKAGES: [&str; 2] = ["pkilint==0.13.3", "paho-mqtt==2.1.0"];

/// An environment that has them: returns the folder to put on the PATH.
pub(crate) fn programs(tools: &Tools) -> Result<PathBuf> {
    let home = tools.cache().join(format!("python-{}", PACKAGES.join("-").replace("==", "-")));
    let bin = home.join("bin");
    let finished = home.join("finished");
    if finished.exists() {
        return Ok(bin);
    }
    step("pkilint and paho", || {
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
            .args(PACKAGES)
            .run()?;
        fs::write(&finished, "")?;
        Ok(Some("installed".to_owned()))
    })?;
    Ok(bin)
}
