//! What `cargo xtask test e2e` tells by environment variables, with what is right on a machine after `cargo xtask up`.

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use link::BrokerAddress;

/// The workspace's root.
pub fn workspace() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// The chart: `CA_IOT_E2E_CHART`.
pub fn chart() -> PathBuf {
    env::var_os("CA_IOT_E2E_CHART").map_or_else(|| workspace().join("charts/ca-iot"), PathBuf::from)
}

/// Where what is left of failed tests goes: `CA_IOT_E2E_ARTIFACTS`.
pub fn artifacts() -> PathBuf {
    env::var_os("CA_IOT_E2E_ARTIFACTS").map_or_else(|| workspace().join("test-artifacts/e2e"), PathBuf::from)
}

/// Where the default site's broker is on this machine: `CA_IOT_E2E_BROKER`.
pub fn broker() -> Result<BrokerAddress> {
    let text = env::var("CA_IOT_E2E_BROKER").unwrap_or_else(|_| "localhost:8883".to_owned());
    text.parse().context("CA_IOT_E2E_BROKER")
}

/// Where the default site's page is on this machine: `CA_IOT_E2E_DASHBOARD`.
pub fn dashboard() -> String {
    env::var("CA_IOT_E2E_DASHBOARD").unwrap_or_else(|_| "localhost:5000".to_owned())
}

/// How long renewals are watched: `CA_IOT_SOAK` in seconds, four minutes without it. Published figures are of 600.
pub fn soak() -> Result<Duration> {
    let seconds = env::var("CA_IOT_SOAK").unwrap_or_else(|_| "240".to_owned());
    Ok(Duration::from_secs(seconds.parse().context("CA_IOT_SOAK is not a number of seconds")?))
}

/// How long a drill goes on that could go on for ever: `CA_IOT_DRILL_TIME` in seconds, or what is usual for it.
pub fn drill_time(usual: Duration) -> Result<Duration> {
    match env::var("CA_IOT_DRILL_TIME") {
        Ok(text) => {
            Ok(Duration::from_secs(text.parse().context("CA_IOT_DRILL_TIME is not a number of seconds")?))
        }
        Err(_) => Ok(usual),
    }
}

/// Notes a figure that a test has measured: shown with `--nocapture`, and kept in `figures.txt` beside the artifacts.
pub fn measured(what: &str, figure: impl std::fmt::Display) -> Result<()> {
    let line = format!("{what}: {figure}\n");
    fs::create_dir_all(artifacts())?;
    let mut file = fs::OpenOptions::new().create(true).append(true).open(artifacts().join("figures.txt"))?;
    file.write_all(line.as_bytes())?;
    std::io::stderr().write_all(line.as_bytes())?;
    Ok(())
}
