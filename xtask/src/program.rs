//! Other people's programs: started with the project's PATH, quiet when they succeed, quoted when they do not.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// How many of a failed program's last lines an error quotes.
const QUOTED_LINES: usize = 20;

/// One invocation, being put together.
pub(crate) struct Program {
    command: Command,
    input: Option<String>,
}

impl Program {
    /// `name` is looked for on `path`.
    pub(crate) fn new(name: impl AsRef<OsStr>, path: &OsStr) -> Self {
        let mut command = Command::new(name);
        command.env("PATH", path).stdin(Stdio::null());
        Self { command, input: None }
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub(crate) fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn current_dir(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    pub(crate) fn input(mut self, text: String) -> Self {
        self.input = Some(text);
        self
    }

    /// Runs it; what it prints is shown only in the error.
    pub(crate) fn run(self) -> Result<()> {
        self.output().map(drop)
    }

    /// Runs it and returns its standard output, without the last line's end.
    pub(crate) fn output(self) -> Result<String> {
        let line = self.line();
        let output = self.finish()?;
        ensure_success(&line, output.status, || {
            String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into()
        })?;
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Runs it and tells whether it succeeded, whatever it prints; a program that is not there did not.
    pub(crate) fn succeeds(self) -> bool {
        self.finish().is_ok_and(|output| output.status.success())
    }

    /// Like [`Self::succeeds`], but gives up (and ends it) after `limit`.
    pub(crate) fn succeeds_within(mut self, limit: Duration) -> bool {
        let Ok(mut child) = self.command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
            return false;
        };
        let until = Instant::now() + limit;
        while Instant::now() < until {
            match child.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(50)),
                Ok(Some(status)) => return status.success(),
                Err(_) => break,
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        false
    }

    /// Runs it with its output on the terminal: for what takes minutes and tells its own progress.
    pub(crate) fn show(mut self) -> Result<()> {
        let line = self.line();
        // what it prints is progress; standard output is kept for what somebody may want to pipe
        let status = self.command.stdout(io::stderr()).status().with_context(|| cannot_start(&line))?;
        ensure_success(&line, status, String::new)
    }

    /// Runs it with all its output in the file `log`, and hands each line over as it comes.
    /// Returns whether it succeeded.
    pub(crate) fn logged(mut self, log: &Path, mut each: impl FnMut(&str)) -> Result<bool> {
        let line = self.line();
        let mut file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let (reader, writer) = io::pipe()?;
        self.command.stdout(writer.try_clone()?).stderr(writer);
        writeln!(file, "$ {line}")?;
        let mut child = self.command.spawn().with_context(|| cannot_start(&line))?;
        drop(self.command); // it holds the pipe's other end, and reading would never end
        for text in BufReader::new(reader).split(b'\n') {
            let text = text?;
            file.write_all(&text)?;
            file.write_all(b"\n")?;
            each(String::from_utf8_lossy(&text).trim_end());
        }
        Ok(child.wait()?.success())
    }

    fn finish(mut self) -> Result<Output> {
        let line = self.line();
        let Some(input) = self.input else {
            return self.command.output().with_context(|| cannot_start(&line));
        };
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().with_context(|| cannot_start(&line))?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        // from a thread of its own: a child that prints before it has read everything must not wait for us
        let writing = thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output()?;
        // a child that ends early says itself why
        let _ = writing.join();
        Ok(output)
    }

    fn line(&self) -> String {
        let mut words = vec![self.command.get_program()];
        words.extend(self.command.get_args());
        words.join(OsStr::new(" ")).to_string_lossy().into_owned()
    }
}

fn ensure_success(line: &str, status: ExitStatus, output: impl FnOnce() -> String) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let output = output();
    bail!("`{line}` failed ({status})\n{}", last_lines(&output, QUOTED_LINES));
}

fn cannot_start(line: &str) -> String {
    format!("cannot start `{line}`")
}

/// The last `count` lines of `text`.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Whether a program of this name is on `path`.
pub(crate) fn is_on_path(name: &str, path: &OsStr) -> bool {
    std::env::split_paths(path).any(|folder| folder.join(name).is_file())
}

/// `folders` in front of `path`.
pub(crate) fn in_front<'a>(folders: impl IntoIterator<Item = &'a Path>, path: &OsStr) -> Result<OsString> {
    let folders = folders.into_iter().map(Path::to_path_buf);
    std::env::join_paths(folders.chain(std::env::split_paths(path)))
        .context("a folder's name that PATH cannot hold")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program::new("sh", &std::env::var_os("PATH").unwrap()).args(["-c", script])
    }

    #[test]
    fn a_failed_program_is_named_and_quoted() {
        let error = shell("echo asked; echo refused >&2; exit 3").run().unwrap_err().to_string();
        assert!(error.contains("exit 3"), "{error}");
        assert!(error.contains("asked\nrefused"), "{error}");
    }

    #[test]
    fn a_program_that_takes_too_long_is_ended() {
        let from = Instant::now();
        assert!(!shell("exec sleep 60").succeeds_within(Duration::from_millis(200)));
        assert!(from.elapsed() < Duration::from_secs(10));
        assert!(shell("exit 0").succeeds_within(Duration::from_secs(10)));
    }

    #[test]
    fn input_larger_than_a_pipe_arrives_whole() {
        let text = "x".repeat(1 << 20);
        assert_eq!(shell("cat").input(text.clone()).output().unwrap(), text);
    }

    #[test]
    fn a_log_holds_both_outputs_in_order() {
        let log = std::env::temp_dir().join(format!("xtask-log-{}", std::process::id()));
        let mut seen = Vec::new();
        let ok = shell("echo one; echo two >&2; echo three; exit 1")
            .logged(&log, |line| seen.push(line.to_owned()));
        assert!(!ok.unwrap());
        assert_eq!(seen, ["one", "two", "three"]);
        assert!(std::fs::read_to_string(&log).unwrap().ends_with("one\ntwo\nthree\n"));
        std::fs::remove_file(log).unwrap();
    }
}
