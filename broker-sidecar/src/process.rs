//! The running broker, found in the process table.
//!
//! The pod shares one process namespace, so the table holds the broker's processes, this one and the pod's `pause`.
//! Sending a signal to another process without any capability takes the same uid.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::{Pid, Signal, geteuid, kill_process};

/// The broker's name in `/proc/<pid>/comm`.
const NAME: &str = "mosquitto";

/// One run of the broker. A pid may be given out again, together with the start time it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Clock ticks between boot and the start of the process.
    pub(crate) started: u64,
}

/// Finds the broker that runs under this process's own uid.
pub(crate) fn find(proc: &Path) -> Option<Process> {
    let uid = geteuid().as_raw();
    fs::read_dir(proc)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| fs::metadata(proc.join(pid.to_string())).is_ok_and(|it| it.uid() == uid))
        .find_map(|pid| read(proc, pid))
}

impl Process {
    /// Whether this run of the broker has not ended.
    pub(crate) fn is_alive(self, proc: &Path) -> bool {
        read(proc, self.pid) == Some(self)
    }

    /// Tells the broker to read its files again.
    ///
    /// # Errors
    /// When it has ended, or runs under another uid.
    pub(crate) fn reload(self, proc: &Path) -> io::Result<()> {
        let pid = Pid::from_raw(self.pid).filter(|_| self.is_alive(proc));
        Ok(kill_process(pid.ok_or(io::ErrorKind::NotFound)?, Signal::HUP)?)
    }
}

/// The process with this number if it is a broker that has not ended.
fn read(proc: &Path, pid: i32) -> Option<Process> {
    let directory = proc.join(pid.to_string());
    (fs::read_to_string(directory.join("comm")).ok()?.trim_end() == NAME).then_some(())?;
    let stat = fs::read_to_string(directory.join("stat")).ok()?;
    // proc_pid_stat(5): the name, field 2, is in parentheses and may hold anything; 3 is the state, 22 the start time
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X");
    let started = fields.nth(18)?.parse().ok()?;
    (!ended).then_some(Process { pid, started })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(table: &Path, pid: i32, comm: &str, state: char) {
        let directory = table.join(pid.to_string());
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("comm"), format!("{comm}\n")).unwrap();
        let zeros = "0 ".repeat(18);
        fs::write(directory.join("stat"), format!("{pid} (a) b) {state} {zeros}{pid}77 0")).unwrap();
    }

    #[test]
    fn the_broker_is_found_among_the_processes_of_the_pod() {
        let table = tempfile::tempdir().unwrap();
        process(table.path(), 1, "pause", 'S');
        process(table.path(), 7, "broker-sidecar", 'R');
        assert_eq!(find(table.path()), None);
        process(table.path(), 12, "mosquitto", 'S');
        let found = find(table.path());
        assert_eq!(found, Some(Process { pid: 12, started: 1277 }));
        assert!(found.unwrap().is_alive(table.path()));
    }

    #[test]
    fn a_broker_that_has_ended_but_was_not_reaped_is_not_running() {
        let table = tempfile::tempdir().unwrap();
        process(table.path(), 12, "mosquitto", 'Z');
        assert_eq!(find(table.path()), None);
        let ended = Process { pid: 12, started: 1277 };
        assert_eq!(ended.reload(table.path()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
