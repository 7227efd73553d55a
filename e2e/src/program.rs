//! Other people's programs, started as a user would.

use std::{
    ffi::OsStr,
    fmt,
    io::ErrorKind,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::unix::pipe,
    process::{Child, Command},
    time::{Instant, timeout, timeout_at},
};

/// How long a program may take that is not told otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One invocation, being put together.
#[derive(Debug)]
pub struct Program {
    name: String,
    command: Command,
    input: Vec<u8>,
    within: Duration,
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    line: String,
    status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

/// One that runs beside the test, and is ended with it. What it prints and what it complains about are one.
pub struct Running {
    line: String,
    lines: Lines<BufReader<pipe::Receiver>>,
    said: Vec<String>,
    _child: Child,
}

/// A program of this name, looked for on the PATH.
pub fn program(name: &str) -> Program {
    let mut command = Command::new(name);
    command.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Program { name: name.to_owned(), command, input: Vec::new(), within: TIMEOUT }
}

impl Program {
    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Where it runs.
    #[must_use]
    pub fn in_folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// What it reads.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// How long it may take, instead of half a minute.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Runs it to its end.
    pub async fn run(mut self) -> Result<Ended> {
        let line = self.line();
        let mut child = self.command.spawn().map_err(|error| cannot_start(&self.name, error))?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        let work = async {
            // one that does not want to read ends by itself, and says why
            let _ = stdin.write_all(&self.input).await;
            drop(stdin);
            child.wait_with_output().await
        };
        let output = timeout(self.within, work)
            .await
            .map_err(|_| anyhow!("`{line}` has not ended after {} s", self.within.as_secs()))??;
        Ok(Ended {
            line,
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs it, expects it to succeed, and returns what it printed.
    pub async fn succeeds(self) -> Result<String> {
        let ended = self.run().await?;
        if !ended.status.success() {
            bail!("`{}` failed ({})\n{}{}", ended.line, ended.status, ended.stdout, ended.stderr);
        }
        Ok(ended.stdout)
    }

    /// Runs it, expects it to fail, and returns all that it said.
    pub async fn fails(self) -> Result<String> {
        let ended = self.run().await?;
        let said = format!("{}{}", ended.stdout, ended.stderr);
        if ended.status.success() {
            bail!("`{}` succeeded, and should not have\n{said}", ended.line);
        }
        Ok(said)
    }

    /// Starts it beside the test.
    pub fn start(mut self) -> Result<Running> {
        let line = self.line();
        let (said, says) = std::io::pipe()?;
        self.command.stdin(Stdio::null()).stdout(says.try_clone()?).stderr(says);
        let child = self.command.spawn().map_err(|error| cannot_start(&self.name, error))?;
        let said = pipe::Receiver::from_owned_fd(said.into())?;
        Ok(Running { line, lines: BufReader::new(said).lines(), said: Vec::new(), _child: child })
    }

    fn line(&self) -> String {
        let command = self.command.as_std();
        let words = [command.get_program()].into_iter().chain(command.get_args());
        words.collect::<Vec<_>>().join(OsStr::new(" ")).to_string_lossy().into_owned()
    }
}

impl Ended {
    /// Whether it says that all went well.
    pub fn succeeded(&self) -> bool {
        self.status.success()
    }
}

impl Running {
    /// Whether a line with `text` in it has come so far.
    pub fn said(&self, text: &str) -> bool {
        self.said.iter().any(|line| line.contains(text))
    }

    /// How often a `mosquitto_sub -d` has told so far that a broker accepted it.
    pub fn connects(&self) -> usize {
        self.said.iter().filter(|line| line.contains("received CONNACK")).count()
    }

    /// Waits for a line with `text` in it.
    pub async fn line_with(&mut self, text: &str, within: Duration) -> Result<String> {
        let deadline = Instant::now() + within;
        loop {
            match timeout_at(deadline, self.lines.next_line()).await {
                Ok(Ok(Some(line))) => {
                    self.said.push(line.clone());
                    if line.contains(text) {
                        return Ok(line);
                    }
                }
                Ok(Ok(None)) => bail!("ended without {text:?}: {self:?}"),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => bail!("has not said {text:?} within {} s: {self:?}", within.as_secs_f32()),
            }
        }
    }
}

impl fmt::Debug for Running {
    /// What it was told, and what it has said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`\n{}", self.line, self.said.join("\n"))
    }
}

fn cannot_start(name: &str, error: std::io::Error) -> anyhow::Error {
    if error.kind() == ErrorKind::NotFound {
        return anyhow!(
            "there is no {name}: `cargo xtask test e2e` brings all programs that the tests need \
             (Debian: mosquitto-clients, openssl; pip: paho-mqtt, pkilint; kubectl and helm: deploy/kind-node/build)"
        );
    }
    anyhow::Error::new(error).context(format!("cannot start {name}"))
}
