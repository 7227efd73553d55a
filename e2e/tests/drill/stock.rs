//! `mosquitto_pub` as anybody runs it: it has the files that it was given once, and knows nothing of acknowledgements.

use std::{
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use e2e::Identity;
use jiff::Timestamp;
use link::{
    BrokerAddress,
    topic::Channel,
    wire::{Reading, Sequence},
};
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
    task::JoinHandle,
};

/// How long before a moment a reading must have been handed over to count as sent before it.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

pub(crate) struct Stock {
    pub(crate) name: String,
    sent: Arc<Mutex<Vec<(u64, Instant)>>>,
    feeding: JoinHandle<()>,
    _program: Child,
}

impl Stock {
    pub(crate) fn start(
        name: &str,
        broker: &BrokerAddress,
        identity: &Identity,
        every: Duration,
    ) -> Result<Self> {
        let mut program = Command::new("mosquitto_pub")
            .args(["-h", &broker.host, "-p", &broker.port.to_string(), "-q", "1", "-l"])
            .args(["--cafile", &identity.ca(), "--cert", &identity.crt(), "--key", &identity.key()])
            .args(["-t", &Channel::Telemetry.topic(name)])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("mosquitto_pub")?;
        let mut stdin = program.stdin.take().context("no standard input")?;
        let sent: Arc<Mutex<Vec<(u64, Instant)>>> = Arc::default();
        let feeding = tokio::spawn({
            let sent = Arc::clone(&sent);
            async move {
                let mut clock = tokio::time::interval(every);
                for seq in Sequence::starting_at(Timestamp::now()) {
                    clock.tick().await;
                    let mut line = Reading::new(Timestamp::now(), seq, 21.0).to_json();
                    line.push(b'\n');
                    if stdin.write_all(&line).await.is_err() || stdin.flush().await.is_err() {
                        return;
                    }
                    sent.lock().unwrap_or_else(PoisonError::into_inner).push((seq, Instant::now()));
                }
            }
        });
        Ok(Self { name: name.to_owned(), sent, feeding, _program: program })
    }

    /// The first reading, and the last one that was sent before `moment`.
    pub(crate) fn sent_before(&self, moment: Option<Instant>) -> (u64, u64) {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let moment = moment.unwrap_or_else(Instant::now);
        let last = sent.iter().rfind(|(_, at)| *at + ON_ITS_WAY < moment);
        let first = sent.first().map_or(1, |(seq, _)| *seq);
        (first, last.map_or(0, |(seq, _)| *seq))
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        self.feeding.abort();
    }
}
