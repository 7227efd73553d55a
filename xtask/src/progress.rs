//! What the person at the terminal reads: one line for each thing that happened, with the seconds since the start.
#![expect(clippy::print_stderr, reason = "this is where the program speaks")]

use std::{
    fmt::Display,
    sync::LazyLock,
    time::{Duration, Instant},
};

use anyhow::Result;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Starts the clock that every line shows.
pub(crate) fn start() {
    LazyLock::force(&START);
}

/// Prints one line.
pub(crate) fn say(text: impl Display) {
    eprintln!("[{:>4}s] {text}", START.elapsed().as_secs());
}

/// Prints lines that belong to the one before, indented under it.
pub(crate) fn detail(text: &str) {
    for line in text.lines() {
        eprintln!("        {line}");
    }
}

/// Prints text as it is: the closing words of a command.
pub(crate) fn plain(text: impl Display) {
    eprintln!("{text}");
}

/// Does `work`, then prints how it ended and how long it took, as `what: outcome in 17 s`.
/// Work that found nothing to do returns `None`, and nothing is printed.
pub(crate) fn step(what: &str, work: impl FnOnce() -> Result<Option<String>>) -> Result<()> {
    let from = Instant::now();
    if let Some(outcome) = work()? {
        say(format_args!("{what}: {outcome} in {}", seconds(from.elapsed())));
    }
    Ok(())
}

/// `0.4 s`, `17 s`: as exact as a person needs it.
pub(crate) fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{:.0} s", time.as_secs_f64())
    }
}

/// Prints why the command ends here.
pub(crate) fn failed(error: &anyhow::Error) {
    say(format_args!("FAILED: {error:#}"));
}
