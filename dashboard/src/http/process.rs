//! What this process uses, from Linux' own books (proc(5)); the names are those of every Prometheus client.

use std::fs;

/// Processor time and memory since the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Usage {
    /// User and system time of all threads, in seconds.
    pub cpu_seconds: f64,
    /// Resident set size, in bytes.
    pub resident_bytes: u64,
}

/// `USER_HZ`, in which /proc counts on every architecture that these images are built for.
const TICKS_PER_SECOND: f64 = 100.0;

impl Usage {
    /// As of now; `None` where there is no /proc.
    pub(super) fn read() -> Option<Self> {
        Self::parse(
            &fs::read_to_string("/proc/self/stat").ok()?,
            &fs::read_to_string("/proc/self/status").ok()?,
        )
    }

    fn parse(stat: &str, status: &str) -> Option<Self> {
        // The second field is the program's name in parentheses, and may hold anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut times = fields.split_whitespace().skip(11).map(str::parse::<u32>);
        let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kibibytes: u64 = resident.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(Self {
            cpu_seconds: (f64::from(user) + f64::from(system)) / TICKS_PER_SECOND,
            resident_bytes: kibibytes * 1024,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_are_read_whatever_the_program_is_called() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 99 0 0 0 1234 66 0 0 20 0 5 0 100 9999 88";
        let status = "Name:\ta) b\nVmHWM:\t  9999 kB\nVmRSS:\t    2048 kB\n";
        let usage = Usage::parse(stat, status).unwrap();
        assert_eq!(usage, Usage { cpu_seconds: 13.0, resident_bytes: 2 << 20 });
    }

    #[test]
    fn a_process_uses_something() {
        let usage = Usage::read().unwrap();
        assert!(usage.resident_bytes > 1 << 20, "{usage:?}");
    }
}
