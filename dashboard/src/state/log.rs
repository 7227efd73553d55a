//! The MQTT log: the newest messages and broker events, bounded in number and bytes.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::wire::LogLine;

/// The newest log lines, with what has not been sent to the tabs yet.
#[derive(Debug, Default)]
pub struct Log {
    /// Oldest first.
    messages: VecDeque<Arc<LogLine>>,
    /// Memory of `messages`.
    bytes: usize,
    /// What the broker said, kept apart so that no flood of messages pushes it out. Oldest first.
    events: VecDeque<Arc<LogLine>>,
    last_id: u64,
    pending: Vec<Arc<LogLine>>,
    /// Messages that the tabs are not shown since the last frame.
    skipped: u64,
}

/// A message as it came, before it becomes a line.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Topic it was published to.
    pub topic: &'a str,
    /// Payload, whatever the publisher put there.
    pub payload: &'a [u8],
    /// Quality of service it was delivered with: 0, 1 or 2.
    pub qos: u8,
    /// Whether the broker kept it from before.
    pub retained: bool,
}

const MAX_EVENTS: usize = 200;
const MAX_MESSAGES: usize = 2_000;
const MAX_BYTES: usize = 1 << 20;
const MAX_PAYLOAD: usize = 512;
/// Per frame of 250 ms: nobody reads 200 lines a second, and a fleet sends thousands.
const MAX_PENDING: usize = 50;
/// Broker events are rarer and worth more: they have room of their own.
const MAX_PENDING_EVENTS: usize = 100;

impl Log {
    /// Appends a message, dropping the oldest lines beyond the bounds.
    pub fn push(&mut self, message: Message<'_>, now: Timestamp) {
        self.last_id += 1;
        let (payload, truncated) = readable(message.payload);
        let line = Arc::new(LogLine {
            id: self.last_id,
            at: now.as_millisecond(),
            topic: message.topic.into(),
            payload,
            truncated,
            qos: message.qos,
            retained: message.retained,
        });
        let room = if line.is_broker_event() {
            self.keep_event(Arc::clone(&line));
            MAX_PENDING_EVENTS
        } else {
            self.keep_message(Arc::clone(&line));
            MAX_PENDING
        };
        if self.pending.len() < room {
            self.pending.push(line);
        } else {
            self.skipped += 1;
        }
    }

    fn keep_event(&mut self, line: Arc<LogLine>) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(line);
    }

    fn keep_message(&mut self, line: Arc<LogLine>) {
        self.bytes += size(&line);
        self.messages.push_back(line);
        while self.messages.len() > MAX_MESSAGES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.messages.pop_front() else { break };
            self.bytes -= size(&oldest);
        }
    }

    /// The newest `count` messages and every broker event that is kept, in the order they came.
    pub fn newest(&self, count: usize) -> Vec<&LogLine> {
        let skipped = self.messages.len().saturating_sub(count);
        let mut lines: Vec<&LogLine> =
            self.messages.iter().skip(skipped).chain(&self.events).map(AsRef::as_ref).collect();
        lines.sort_unstable_by_key(|line| line.id);
        lines
    }

    /// Lines and number of skipped messages since the last call.
    pub fn take_pending(&mut self) -> (Vec<Arc<LogLine>>, u64) {
        (std::mem::take(&mut self.pending), std::mem::take(&mut self.skipped))
    }
}

/// Who connected from where, if that is what the broker tells in `message`: Mosquitto 2.1 says `1795495165: New client
/// connected from 10.244.0.1:4711 as device001 (p5, c0, k30, u'device001').`
pub fn connection(message: Message<'_>) -> Option<(&str, &str)> {
    if message.topic != "$SYS/broker/log/N" {
        return None;
    }
    let (_, said) = std::str::from_utf8(message.payload).ok()?.split_once(": New client connected from ")?;
    let (from, rest) = said.split_once(" as ")?;
    let (address, _port) = from.rsplit_once(':')?;
    let (name, _) = rest.split_once(' ')?;
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
    bare.parse::<IpAddr>().is_ok().then_some((name, bare))
}

/// Memory of a line: its text and a fixed part for the rest.
fn size(line: &LogLine) -> usize {
    line.topic.len() + line.payload.len() + 64
}

/// Text for the page, cut at a character's edge; what is not UTF-8 shows as replacement characters.
fn readable(payload: &[u8]) -> (String, bool) {
    let text = String::from_utf8_lossy(&payload[..payload.len().min(MAX_PAYLOAD + 4)]);
    let end = text.floor_char_boundary(MAX_PAYLOAD);
    (text[..end].to_owned(), payload.len() > MAX_PAYLOAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<'a>(topic: &'a str, payload: &'a [u8]) -> Message<'a> {
        Message { topic, payload, qos: 1, retained: false }
    }

    #[test]
    fn who_connected_from_where_is_read_from_the_brokers_log() {
        let said = |topic, payload: &'static str| {
            connection(Message { topic, payload: payload.as_bytes(), qos: 0, retained: false })
        };
        let line =
            "1795495165: New client connected from 10.244.0.1:4711 as device001 (p5, c0, k30, u'device001').";
        assert_eq!(said("$SYS/broker/log/N", line), Some(("device001", "10.244.0.1")));
        assert_eq!(said("devices/device001/telemetry", line), None, "anybody could say that");
        let line = "1795495165: New client connected from [fd00::7]:4711 as a.dashboard (p5, c0, k30).";
        assert_eq!(said("$SYS/broker/log/N", line), Some(("a.dashboard", "fd00::7")));
        for line in
            ["", "1: New connection from 10.244.0.1:4711 on port 8883.", "1: New client connected from "]
        {
            assert_eq!(said("$SYS/broker/log/N", line), None, "{line}");
        }
    }

    #[test]
    fn the_log_keeps_the_newest_lines_within_its_bounds() {
        let mut log = Log::default();
        for number in 0..5_000 {
            log.push(message("devices/a/telemetry", number.to_string().as_bytes()), Timestamp::UNIX_EPOCH);
        }
        assert_eq!(log.messages.len(), MAX_MESSAGES);
        assert_eq!(log.newest(1)[0].payload, "4999");
        for _ in 0..5_000 {
            log.push(message("devices/a/telemetry", &[b'x'; 10_000]), Timestamp::UNIX_EPOCH);
        }
        assert!(log.bytes <= MAX_BYTES);
        assert_eq!(log.bytes, log.messages.iter().map(|line| size(line)).sum::<usize>());
    }

    #[test]
    fn a_flood_is_counted_and_does_not_hide_what_the_broker_says() {
        let mut log = Log::default();
        for _ in 0..500 {
            log.push(message("devices/a/telemetry", b"{}"), Timestamp::UNIX_EPOCH);
        }
        log.push(message("$SYS/broker/log/N", b"client refused"), Timestamp::UNIX_EPOCH);
        let (lines, skipped) = log.take_pending();
        assert_eq!((lines.len(), skipped), (51, 450));
        assert_eq!(lines.last().unwrap().payload, "client refused");
        assert_eq!(log.take_pending().0.len(), 0);
    }

    #[test]
    fn what_the_broker_said_survives_a_flood_of_messages() {
        let mut log = Log::default();
        log.push(message("$SYS/broker/log/N", b"client refused"), Timestamp::UNIX_EPOCH);
        for _ in 0..5_000 {
            log.push(message("devices/a/telemetry", b"{}"), Timestamp::UNIX_EPOCH);
        }
        let lines = log.newest(300);
        assert_eq!((lines.len(), lines[0].payload.as_str()), (301, "client refused"));
        for _ in 0..5_000 {
            log.push(message("$SYS/broker/log/N", b"again"), Timestamp::UNIX_EPOCH);
        }
        assert_eq!(log.events.len(), MAX_EVENTS);
    }

    #[test]
    fn a_long_payload_is_cut_at_a_whole_character() {
        let mut log = Log::default();
        log.push(message("devices/a/telemetry", "溫".repeat(400).as_bytes()), Timestamp::UNIX_EPOCH);
        let line = log.newest(1)[0];
        assert!(line.truncated);
        assert_eq!(line.payload.chars().count(), 170);
        assert!(line.payload.chars().all(|character| character == '溫'));
    }

    #[test]
    fn bytes_that_are_no_text_are_still_shown() {
        let mut log = Log::default();
        log.push(message("devices/a/telemetry", &[0xff, b'o', b'k']), Timestamp::UNIX_EPOCH);
        assert_eq!(log.newest(1)[0].payload, "\u{fffd}ok");
    }
}
