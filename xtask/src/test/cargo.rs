//! The stages that are cargo's: formatting, lints, and tests that need no cluster.

use std::path::PathBuf;

use super::{Bench, Outcome, SHOWN_LINES};
use crate::{
    program::{Program, last_lines},
    progress::detail,
};

pub(super) fn format(bench: &Bench<'_>) -> Outcome {
    bench.check(
        "format",
        bench.tools.program("cargo").args(["fmt", "--all", "--check", "--", "--color=never"]),
    )?;
    Ok("nothing to change".to_owned())
}

pub(super) fn clippy(bench: &Bench<'_>) -> Outcome {
    let cargo = bench.tools.program("cargo").args(["clippy", "--workspace", "--all-targets", "--locked"]);
    bench.check("clippy", cargo.args(["--", "--deny", "warnings"]))?;
    Ok("no warnings".to_owned())
}

pub(super) fn unit(bench: &Bench<'_>) -> Outcome {
    let cargo =
        bench.tools.program("cargo").args(["test", "--workspace", "--exclude", "ca-iot-e2e", "--locked"]);
    let mosquitto = crate::mosquitto::programs(&bench.tools)?.join("mosquitto");
    // a snapshot that differs is a failure, not a new snapshot
    let cargo = cargo.env("MOSQUITTO", mosquitto).env("INSTA_UPDATE", "no");
    tests(bench, "unit", cargo.args(["--no-fail-fast", "--", "--include-ignored"]))
}

/// Runs a `cargo test`; shows its summary lines as they come, and counts.
pub(super) fn tests(bench: &Bench<'_>, name: &str, cargo: Program) -> Outcome {
    let mut summary = Summary::default();
    let outcome = bench.watch(name, cargo, |line| summary.read(line));
    detail(&last_lines(&summary.said.join("\n"), SHOWN_LINES));
    detail(&summary.failures.join("\n"));
    outcome?;
    summary.words()
}

/// What a `cargo test` says about all of its test programs together.
#[derive(Default)]
struct Summary {
    /// The program that speaks, as `Running unittests src/lib.rs (…/ca_iot_pki-0123456789abcdef)` announced it.
    program: String,
    passed: u64,
    ignored: u64,
    failures: Vec<String>,
    /// The output of failed tests.
    said: Vec<String>,
    /// Whether the lines that come are such output.
    quotes: bool,
}

impl Summary {
    fn read(&mut self, line: &str) {
        self.quotes &= !line.starts_with("test result: ");
        if line == "failures:" {
            // The first heads what the tests said, the second the list of their names.
            self.quotes = !self.quotes;
        } else if self.quotes {
            self.said.push(line.to_owned());
        }
        let line = line.trim();
        if let Some(path) = line.strip_prefix("Running ").and_then(|rest| rest.rsplit_once('(')) {
            let file = PathBuf::from(path.1.trim_end_matches(')'));
            let stem = file.file_name().unwrap_or_default().to_string_lossy();
            stem.rsplit_once('-').map_or(&*stem, |(name, _)| name).clone_into(&mut self.program);
        } else if let Some(doctests) = line.strip_prefix("Doc-tests ") {
            self.program = format!("{doctests} (examples)");
        } else if line.starts_with("test result: ") {
            self.passed += count(line, "passed");
            self.ignored += count(line, "ignored");
            if count(line, "passed") + count(line, "failed") > 0 {
                detail(&format!("{}: {line}", self.program));
            }
        } else if line.starts_with("test ") && line.ends_with("... FAILED") {
            self.failures.push(format!("{}: {line}", self.program));
        }
    }

    /// # Errors
    /// When not a single test ran: that is not a success.
    fn words(&self) -> Outcome {
        anyhow::ensure!(self.passed > 0, "no test ran");
        let ignored = if self.ignored == 0 { String::new() } else { format!(", {} ignored", self.ignored) };
        Ok(format!("{} tests{ignored}", self.passed))
    }
}

/// The number in front of `word` in `12 passed; 0 failed; …`.
fn count(line: &str, word: &str) -> u64 {
    line.split(&[';', '.'])
        .filter_map(|part| part.trim().strip_suffix(word))
        .find_map(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(output: &str) -> Summary {
        let mut summary = Summary::default();
        output.lines().for_each(|line| summary.read(line));
        summary
    }

    #[test]
    fn passed_tests_of_all_programs_are_counted() {
        let summary = summary(
            "     Running unittests src/lib.rs (target/debug/deps/pki-0123456789abcdef)
             test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s
                Doc-tests pki
             test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s",
        );
        assert_eq!(summary.words().unwrap(), "15 tests, 1 ignored");
        assert_eq!(summary.program, "pki (examples)");
    }

    #[test]
    fn a_failed_test_is_named_with_its_program() {
        let summary = summary(
            "     Running tests/chain.rs (target/debug/deps/chain-0123456789abcdef)
             test an_expired_leaf_is_refused ... FAILED",
        );
        assert_eq!(summary.failures, ["chain: test an_expired_leaf_is_refused ... FAILED"]);
    }

    #[test]
    fn what_a_failed_test_said_is_kept() {
        let summary = summary(
            "test a ... FAILED\n\nfailures:\n\n---- a stdout ----\n  not within 10 s\n\n\nfailures:\n    a\n\n\
             test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s\n\
             error: test failed",
        );
        let said: Vec<_> = summary.said.iter().filter(|line| !line.is_empty()).collect();
        assert_eq!(said, ["---- a stdout ----", "  not within 10 s"]);
    }

    #[test]
    fn a_run_without_a_single_test_is_no_success() {
        assert!(
            summary("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out")
                .words()
                .is_err()
        );
    }
}
