//! Input from outside, damaged in every way, for longer than the tests do it.

use std::time::Duration;

use anyhow::Result;
use e2e::{environment, environment::drill_time, figures::figures, program};

/// Targets: seven of `crates/pki/tests/fuzz.rs`, four of `crates/link/tests/fuzz.rs`.
const TARGETS: usize = 11;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a drill: cargo xtask drill fuzz"]
async fn whatever_comes_from_outside_is_read_or_refused() -> Result<()> {
    figures("Fuzzing", async |figures| {
        let each = drill_time(Duration::from_mins(1))?.as_secs();
        let fuzz = program("cargo")
            .in_folder(environment::workspace())
            .args([
                "test",
                "--locked",
                "--package",
                "ca-iot-pki",
                "--package",
                "ca-iot-link",
                "--test",
                "fuzz",
            ])
            .args(["--", "--nocapture", "--test-threads=2"])
            .env("CA_IOT_FUZZ_SECONDS", each.to_string())
            .within(Duration::from_secs(each * 11 + 900));
        let ended = fuzz.run().await?;
        let counts = ended.stderr.lines().filter_map(|line| line.strip_prefix("inputs tried: "));
        let tried = counts.map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        figures.note(
            format_args!("damaged inputs tried, {each} s for each of {} targets", tried.len()),
            tried.iter().sum::<u64>(),
        );
        figures.exactly("targets that were run", TARGETS, tried.len());
        figures.bounded(
            "panics, wrong readings, damage believed",
            "none",
            if ended.succeeded() { "none" } else { "see the log" },
            ended.succeeded(),
        );
        Ok(())
    })
    .await
}
