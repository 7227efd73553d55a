//! What the dependencies may be: deny.toml, checked by cargo-deny.

use std::time::Duration;

use anyhow::Result;

use super::{Bench, Outcome};
use crate::{progress::step, tools::Tools};

/// Pinned: a stricter check should come as a commit, not as a surprise.
const VERSION: &str = "0.20.2";

/// How long fetching the database of advisories may take.
const DATABASE_TIMEOUT: Duration = Duration::from_mins(1);

pub(super) fn deny(bench: &Bench<'_>) -> Outcome {
    let deny = install(&bench.tools)?;
    let program = || bench.tools.program(&deny).arg("--all-features");
    bench.check("deny", program().args(["check", "bans", "licenses", "sources"]))?;
    if !program().args(["fetch", "db"]).succeeds_within(DATABASE_TIMEOUT) {
        return Ok("bans, licences, sources; no advisories: their database cannot be fetched here".to_owned());
    }
    bench.check("deny-advisories", program().args(["check", "advisories"]))?;
    Ok("bans, licences, sources, advisories".to_owned())
}

/// The program, built once into the cache.
fn install(tools: &Tools) -> Result<std::path::PathBuf> {
    let home = tools.cache().join(format!("cargo-deny-{VERSION}"));
    let program = home.join("bin/cargo-deny");
    step("cargo-deny", || {
        if program.is_file() {
            return Ok(None);
        }
        let version = format!("cargo-deny@{VERSION}");
        tools
            .program("cargo")
            .args(["install", "--locked", "--quiet", &version, "--root"])
            .arg(&home)
            .show()?;
        Ok(Some("installed".to_owned()))
    })?;
    Ok(program)
}
