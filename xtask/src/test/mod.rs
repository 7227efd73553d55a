//! `cargo xtask test`: the stages in order, one line for each, every log in test-artifacts/.

mod alerts;
pub(crate) mod artifacts;
mod browser;
mod cargo;
mod deny;
pub(crate) mod on_cluster;

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::{
    program::{Program, last_lines},
    progress::{detail, say, seconds},
    tools::Tools,
};

/// Where logs and what is left of failed tests go, from the workspace's root.
pub(crate) const ARTIFACTS: &str = "test-artifacts";

/// How many lines of a failed stage's log are shown at once.
const SHOWN_LINES: usize = 60;

#[derive(Args)]
pub(crate) struct Options {
    /// The stages to run, in this order; all when none is named
    stages: Vec<Stage>,
    /// Go on with the next stage after one has failed
    #[arg(long)]
    keep_going: bool,
    /// Leave the cluster of the tests running, and use it again next time
    #[arg(long)]
    keep: bool,
    /// How many tests run at once on the cluster
    #[arg(long, default_value_t = 4)]
    test_threads: u16,
    /// Only tests on the cluster whose name contains this
    #[arg(long)]
    filter: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// Formatting of the Rust sources
    Format,
    /// Clippy, without a single warning
    Clippy,
    /// Licences, forbidden crates and sources of all dependencies; known advisories where their database can be had
    Deny,
    /// Every test that needs no cluster
    Unit,
    /// The alerts, as promtool tests them
    Alerts,
    /// The chart: lint, and what the API server says to all of it
    Chart,
    /// The whole system on a cluster of its own
    E2e,
    /// The dashboard in a real browser, on the same cluster
    Browser,
}

/// What a stage has to work with.
struct Bench<'a> {
    tools: Tools,
    options: &'a Options,
    artifacts: PathBuf,
    /// Whether the judges are on the PATH already.
    judges: bool,
}

/// How a stage ended that did not find anything wrong: a few words about what was looked at.
type Outcome = Result<String>;

/// Runs the stages; an error when any of them failed.
pub(crate) fn run(tools: Tools, options: &Options) -> Result<()> {
    let stages = if options.stages.is_empty() { Stage::value_variants() } else { &options.stages };
    let artifacts = tools.root().join(ARTIFACTS);
    fs::create_dir_all(&artifacts).with_context(|| format!("cannot create {}", artifacts.display()))?;
    let mut bench = Bench { tools, options, artifacts, judges: false };
    let needs_cluster =
        stages.iter().any(|stage| matches!(stage, Stage::Chart | Stage::E2e | Stage::Browser));
    if needs_cluster && !options.keep {
        // of a run that was interrupted
        on_cluster::delete(&bench)?;
    }
    let mut failed = Vec::new();
    for &stage in stages {
        let from = Instant::now();
        let name = stage.name();
        say(format_args!("{name}: started"));
        match bench.run(stage) {
            Ok(words) => say(format_args!("{name}: passed in {}; {words}", seconds(from.elapsed()))),
            Err(error) => {
                say(format_args!("{name}: FAILED after {}", seconds(from.elapsed())));
                detail(&format!("{error:#}"));
                failed.push(name);
                if !options.keep_going {
                    break;
                }
            }
        }
    }
    if needs_cluster && !options.keep {
        on_cluster::delete(&bench)?;
    }
    if failed.is_empty() { Ok(()) } else { bail!("{}; logs are in {ARTIFACTS}/", failed.join(", ")) }
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Clippy => "clippy",
            Self::Deny => "deny",
            Self::Unit => "unit",
            Self::Alerts => "alerts",
            Self::Chart => "chart",
            Self::E2e => "e2e",
            Self::Browser => "browser",
        }
    }
}

impl Bench<'_> {
    fn run(&mut self, stage: Stage) -> Outcome {
        if matches!(stage, Stage::Unit | Stage::E2e) {
            self.call_judges()?;
        }
        match stage {
            Stage::Format => cargo::format(self),
            Stage::Clippy => cargo::clippy(self),
            Stage::Deny => deny::deny(self),
            Stage::Unit => cargo::unit(self),
            Stage::Alerts => alerts::alerts(self),
            Stage::Chart => on_cluster::chart(self),
            Stage::E2e => on_cluster::e2e(self),
            Stage::Browser => browser::browser(self),
        }
    }

    fn call_judges(&mut self) -> Result<()> {
        if !self.judges {
            call_judges(&mut self.tools)?;
            self.judges = true;
        }
        Ok(())
    }

    /// Runs a program with its output in the log `name`; the end of that is quoted when it fails.
    fn check(&self, name: &str, program: Program) -> Result<()> {
        self.watch(name, program, |_| ())
    }

    /// As [`Self::check`], with every line shown to `each`.
    fn watch(&self, name: &str, program: Program, each: impl FnMut(&str)) -> Result<()> {
        let log = self.artifacts.join(format!("{name}.log"));
        if program.logged(&log, each)? {
            return Ok(());
        }
        let text = fs::read_to_string(&log).unwrap_or_default();
        bail!("{}\nAll of it: {ARTIFACTS}/{name}.log", last_lines(&text, SHOWN_LINES));
    }
}

/// Puts other people's programs on the PATH that tests check ours with: OpenSSL, pkilint, two more MQTT clients and
/// Mosquitto itself.
pub(crate) fn call_judges(tools: &mut Tools) -> Result<()> {
    tools.packages(&[("openssl", "openssl")])?;
    let folders = [crate::python::programs(tools)?, crate::mosquitto::programs(tools)?];
    folders.iter().try_for_each(|folder| tools.prefer(folder))
}
