//! Every log line of every test, down to the most talkative level.

use std::io::{self, Write};
use std::sync::{Mutex, Once, PoisonError};

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static STARTED: Once = Once::new();

struct Lines;

/// From now on nothing that is logged is lost.
pub(crate) fn capture() {
    STARTED.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(|| Lines)
            .init();
    });
}

/// How much was logged so far, in octets.
pub(crate) fn length() -> usize {
    LINES.lock().unwrap_or_else(PoisonError::into_inner).len()
}

/// What was logged since, by all tests.
pub(crate) fn since(length: usize) -> String {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(lines.get(length..).unwrap_or_default()).into_owned()
}

/// Makes a text unreadable that was logged on purpose; nothing moves.
pub(crate) fn forget(secret: &str) {
    let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    *lines = String::from_utf8_lossy(&lines).replace(secret, &"#".repeat(secret.len())).into_bytes();
}

impl Write for Lines {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        LINES.lock().unwrap_or_else(PoisonError::into_inner).write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
