//! The loop: look, plan, act, tell.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::Config;
use crate::acl::Acl;
use crate::look::{Files, Stamp};
use crate::place;
use crate::plan::{Action, Because, Known, Reload, Seen, plan};
use crate::process::{self, Process};
use crate::proof::Prover;
use crate::pushed::Pushed;
use crate::set::Set;
use crate::status::{Loaded, Status};

/// The pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What was refused is judged again after this long: time alone may make it good, or a clock that was wrong.
const JUDGE_EVERY: Duration = Duration::from_secs(30);

/// All state of the sidecar. What must outlive it is in the run directory.
pub(crate) struct Sidecar {
    config: Config,
    prover: Prover,
    publish: watch::Sender<Status>,
    pushed: Arc<Pushed>,
    /// Of what was handed over, as much as the last verdict knew.
    judged: u64,
    mounted_set: Mounted<Set>,
    mounted_acl: Mounted<Acl>,
    /// The set in place.
    set: Option<Set>,
    known: Known,
    /// The last proof.
    proved: Option<Proved>,
    /// The run of the broker that has answered a handshake: it handles SIGHUP instead of dying from it.
    answered: Option<Process>,
    /// What went wrong in the last step that was not a look.
    trouble: Option<String>,
}

/// Files under somebody else's control, as they were last judged.
struct Mounted<T> {
    /// What people know them as.
    name: &'static str,
    stamp: Option<Stamp>,
    judged_at: Timestamp,
    verdict: Result<T, String>,
}

struct Proved {
    process: Process,
    loaded: Loaded,
}

// === impl Sidecar ===

impl Sidecar {
    pub(crate) fn new(
        config: Config,
        publish: watch::Sender<Status>,
        pushed: Arc<Pushed>,
    ) -> anyhow::Result<Self> {
        let mut sidecar = Self {
            prover: Prover::new(config.broker)?,
            config,
            publish,
            pushed,
            judged: 0,
            mounted_set: Mounted::new("Secret"),
            mounted_acl: Mounted::new("ACL"),
            set: None,
            known: Known::default(),
            proved: None,
            answered: None,
            trouble: None,
        };
        sidecar.adopt(Timestamp::now());
        Ok(sidecar)
    }

    /// Never returns.
    pub(crate) async fn run(mut self) {
        loop {
            let now = Timestamp::now();
            let seen = self.look(now);
            self.tell(seen.process, now);
            let action = plan(&self.known, &seen, now, self.config.reload_every);
            let done = match action {
                Action::Wait => {
                    // Either is a reason to look.
                    let _ = timeout(LOOK_EVERY, self.pushed.news()).await;
                    continue;
                }
                Action::PlaceSet => self.place_set(),
                Action::PlaceAcl => self.place_acl(),
                Action::Reload(process, because) => self.reload(process, because).await,
            };
            self.trouble = done.err().map(|error| format!("{error:#}"));
            if self.trouble.is_some() {
                sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Takes over what an earlier run of the sidecar has put in place.
    fn adopt(&mut self, now: Timestamp) {
        if let Ok(files) = Files::read(&self.config.run.join("pki"))
            && let Ok(set) = Set::check(files, now)
        {
            info!("set {set} is in place already");
            // Its lists may be later than those that are mounted.
            self.pushed.trust(&set.files().roots);
            self.pushed.take(pki::Crl::all_from_pem(&set.files().crls).unwrap_or_default());
            self.has_in_place(set);
        }
        if let Ok(acl) = fs::read_to_string(self.config.run.join("acl")) {
            self.known.acl = Acl::check(acl).ok().map(|acl| acl.version());
        }
    }

    fn look(&mut self, now: Timestamp) -> Seen {
        let Config { pki, acl_source, proc, .. } = &self.config;
        let pushed = &self.pushed;
        if self.judged != pushed.version() {
            self.judged = pushed.version();
            self.mounted_set.stamp = None;
        }
        self.mounted_set.judge(Stamp::of_set(pki), now, || {
            let mut files = Files::read(pki).map_err(|error| error.to_string())?;
            pushed.trust(&files.roots);
            files.crls = pushed.latest(&files.crls, &files.roots, now);
            Set::check(files, now).map_err(|error| error.to_string())
        });
        self.mounted_acl.judge(Stamp::of_file(acl_source), now, || {
            let text = fs::read_to_string(acl_source);
            let text = text.map_err(|error| format!("{}: {error}", acl_source.display()))?;
            Acl::check(text).map_err(|error| error.to_string())
        });
        Seen {
            set: self.mounted_set.verdict.as_ref().ok().map(Set::version),
            acl: self.mounted_acl.verdict.as_ref().ok().map(Acl::version),
            process: process::find(proc),
        }
    }

    fn place_set(&mut self) -> anyhow::Result<()> {
        let Ok(set) = self.mounted_set.verdict.clone() else { return Ok(()) };
        place::set(&self.config.run, set.files()).context("the set cannot be put in place")?;
        info!("set {set} is in place");
        self.has_in_place(set);
        Ok(())
    }

    fn has_in_place(&mut self, set: Set) {
        self.known.set = Some(set.version());
        self.known.ends = set.ends();
        self.set = Some(set);
    }

    fn place_acl(&mut self) -> anyhow::Result<()> {
        let Ok(acl) = &self.mounted_acl.verdict else { return Ok(()) };
        place::acl(&self.config.run, acl.text()).context("the ACL cannot be put in place")?;
        info!("ACL {} is in place", acl.version());
        self.known.acl = Some(acl.version());
        Ok(())
    }

    async fn reload(&mut self, process: Process, because: Because) -> anyhow::Result<()> {
        let begun = Instant::now();
        let at = Timestamp::now();
        let proved = self.signal_and_prove(process).await;
        let earlier = self.known.reload.take().filter(|earlier| earlier.process == process);
        let failures = match proved {
            Ok(()) => 0,
            Err(_) => earlier.map_or(0, |earlier| earlier.failures) + 1,
        };
        let Known { set, acl, .. } = self.known;
        self.known.reload = Some(Reload { process, set, acl, at, failures });
        proved.with_context(|| format!("reloading mosquitto (pid {}), as {because}", process.pid))?;
        if let Some(set) = &self.set {
            let took = begun.elapsed();
            info!("mosquitto (pid {}) uses set {set}: proved in {took:.0?}, as {because}", process.pid);
            self.proved = Some(Proved { process, loaded: set.loaded(Timestamp::now()) });
        }
        Ok(())
    }

    async fn signal_and_prove(&mut self, process: Process) -> anyhow::Result<()> {
        let Some(set) = &self.set else { return Ok(()) };
        let proc = &self.config.proc;
        let is_alive = || process.is_alive(proc);
        if self.answered != Some(process) {
            self.prover.answer(is_alive).await?;
            self.answered = Some(process);
        }
        process.reload(proc).context("SIGHUP cannot be sent")?;
        self.prover.serves(set.certificate(), is_alive).await?;
        Ok(())
    }

    /// Publishes what is known, if it has changed, and logs what is wrong, if that has.
    fn tell(&self, process: Option<Process>, now: Timestamp) {
        let startable = self.known.set.is_some() && self.known.acl.is_some();
        let proved = self.proved.as_ref().filter(|proved| Some(proved.process) == process);
        let is_open = self.set.as_ref().is_some_and(|set| set.lets_clients_in(now));
        let is_current = self.known.reload.as_ref().is_some_and(|reload| reload.failures == 0);
        let stopped = "mosquitto is not running: see the log of its container";
        let problems = [
            self.mounted_set.problem(self.known.set.is_some()),
            self.mounted_acl.problem(self.known.acl.is_some()),
            self.set.as_ref().and_then(|set| set.ended(now)),
            self.trouble.clone(),
            (startable && process.is_none()).then(|| stopped.to_owned()),
        ];
        let problems: Vec<_> = problems.into_iter().flatten().collect();
        let status = Status {
            startable,
            ready: proved.is_some() && is_open && is_current,
            loaded: Loaded {
                problem: (!problems.is_empty()).then(|| problems.join("; ")),
                ..proved.map(|proved| proved.loaded.clone()).unwrap_or_default()
            },
        };
        self.publish.send_if_modified(|published| {
            match (&published.loaded.problem, &status.loaded.problem) {
                (before, Some(problem)) if before.as_ref() != Some(problem) => warn!("{problem}"),
                (Some(_), None) => info!("nothing is wrong any more"),
                _ => {}
            }
            let changed = *published != status;
            *published = status;
            changed
        });
    }
}

// === impl Mounted ===

impl<T> Mounted<T> {
    fn new(name: &'static str) -> Self {
        let verdict = Err("has not been looked at yet".to_owned());
        Self { name, stamp: None, judged_at: Timestamp::MIN, verdict }
    }

    /// Reads and checks the files again if they have changed or the last verdict is old.
    fn judge(&mut self, stamp: Stamp, now: Timestamp, check: impl FnOnce() -> Result<T, String>) {
        let is_old = now.duration_since(self.judged_at).unsigned_abs() >= JUDGE_EVERY;
        if self.stamp.as_ref() == Some(&stamp) && !is_old {
            return;
        }
        *self = Self { name: self.name, stamp: Some(stamp), judged_at: now, verdict: check() };
    }

    /// What is wrong with them, and what that means for a broker that has good ones in place or not.
    fn problem(&self, is_in_place: bool) -> Option<String> {
        let Self { name, verdict, .. } = self;
        let problem = verdict.as_ref().err()?;
        Some(if is_in_place {
            format!("mosquitto keeps the last good {name}, the mounted one is refused: {problem}")
        } else {
            format!("mosquitto cannot start until the mounted {name} is good: {problem}")
        })
    }
}
