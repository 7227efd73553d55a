//! Running other people's programs.

use std::io::ErrorKind;
use std::process::{Command, Output};

use anyhow::{Context, Result, anyhow, ensure};

/// What a program said, on either stream, and whether it was content.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) success: bool,
    pub(crate) text: String,
}

/// Runs `command` to its end.
///
/// # Errors
/// When there is no such program: a judge that is missing must not pass for one that is content.
pub(crate) fn run(command: &mut Command) -> Result<Said> {
    let Output { status, stdout, stderr } = command.output().map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow!(
            "{command:?}: there is no such program. `cargo xtask test unit` brings all that the tests need \
             (Debian: openssl, python3; pip: pkilint, in a folder on the PATH or named by PKILINT_BIN)"
        ),
        _ => anyhow!("{command:?}: {error}"),
    })?;
    let text = [stdout, stderr].map(String::from_utf8);
    let [stdout, stderr] = text.map(|stream| stream.with_context(|| format!("what {command:?} says")));
    Ok(Said { success: status.success(), text: stdout? + &stderr? })
}

/// Runs `command`, which must be content; returns what it said.
pub(crate) fn succeed(command: &mut Command) -> Result<String> {
    let Said { success, text } = run(command)?;
    ensure!(success, "{command:?} failed:\n{text}");
    Ok(text)
}
