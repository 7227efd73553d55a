//! The frames of the last minutes, so that a tab that lost its connection misses nothing.

use std::collections::VecDeque;

use axum::body::Bytes;

/// One server-sent event, serialised once for all tabs.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Rises by one.
    pub number: u64,
    /// `id:`, `event:` and `data:` lines with the empty line at the end.
    pub bytes: Bytes,
}

/// The newest frames, bounded in bytes.
#[derive(Debug)]
pub struct Replay {
    /// Tells this process's frames from those of the one before it.
    epoch: i64,
    last: u64,
    frames: VecDeque<Frame>,
    bytes: usize,
}

/// What a tab gets that has seen frames up to some id.
#[derive(Debug)]
pub enum Resume {
    /// These frames, and then the live ones.
    From(Vec<Frame>),
    /// It has to load everything anew: the id is too old, or of a process that is no more.
    Reset,
}

/// 4 MiB: 20 s of 5 000 devices at a reading a second each, hours of an ordinary site.
const MAX_BYTES: usize = 4 << 20;
/// Ten minutes at four frames a second.
const MAX_FRAMES: usize = 2_400;

impl Replay {
    /// Empty; `epoch` is when the process started.
    pub fn new(epoch: i64) -> Self {
        Self { epoch, last: 0, frames: VecDeque::new(), bytes: 0 }
    }

    /// The id of the newest frame.
    pub fn last_id(&self) -> String {
        self.id(self.last)
    }

    /// Makes a frame of JSON on one line, and keeps it.
    pub fn push(&mut self, event: &str, json: &str) -> Frame {
        self.last += 1;
        let bytes = Bytes::from(format!("id: {}\nevent: {event}\ndata: {json}\n\n", self.id(self.last)));
        let frame = Frame { number: self.last, bytes };
        self.bytes += frame.bytes.len();
        self.frames.push_back(frame.clone());
        while self.bytes > MAX_BYTES || self.frames.len() > MAX_FRAMES {
            let Some(oldest) = self.frames.pop_front() else { break };
            self.bytes -= oldest.bytes.len();
        }
        frame
    }

    /// What follows the frame `id`.
    pub fn after(&self, id: &str) -> Resume {
        let Some(number) = self.number(id) else { return Resume::Reset };
        let oldest_kept = self.last - self.frames.len() as u64;
        if number > self.last || number < oldest_kept {
            return Resume::Reset;
        }
        Resume::From(self.frames.iter().filter(|frame| frame.number > number).cloned().collect())
    }

    fn id(&self, number: u64) -> String {
        format!("{:x}-{number}", self.epoch)
    }

    fn number(&self, id: &str) -> Option<u64> {
        let (epoch, number) = id.split_once('-')?;
        (i64::from_str_radix(epoch, 16).ok()? == self.epoch).then(|| number.parse().ok())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(resume: Resume) -> Vec<u64> {
        match resume {
            Resume::From(frames) => frames.iter().map(|frame| frame.number).collect(),
            Resume::Reset => panic!("reset"),
        }
    }

    #[test]
    fn a_tab_that_comes_back_gets_exactly_what_it_missed() {
        let mut replay = Replay::new(7);
        for _ in 0..5 {
            replay.push("changes", "{}");
        }
        assert_eq!(numbers(replay.after("7-3")), [4, 5]);
        assert_eq!(numbers(replay.after(&replay.last_id())), [0_u64; 0]);
        assert_eq!(numbers(replay.after("7-0")), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_tab_that_slept_too_long_starts_anew() {
        let mut replay = Replay::new(7);
        let large = "x".repeat(MAX_BYTES / 4);
        for _ in 0..20 {
            replay.push("changes", &large);
        }
        assert!(replay.bytes <= MAX_BYTES);
        assert!(matches!(replay.after("7-3"), Resume::Reset));
        assert_eq!(numbers(replay.after("7-18")), [19, 20]);
    }

    #[test]
    fn ids_of_another_process_and_nonsense_start_anew() {
        let mut replay = Replay::new(7);
        replay.push("changes", "{}");
        for id in ["6-1", "7-99", "", "7", "x-1", "7-x", "7--1"] {
            assert!(matches!(replay.after(id), Resume::Reset), "{id}");
        }
    }

    #[test]
    fn a_frame_is_one_server_sent_event() {
        let frame = Replay::new(255).push("changes", r#"{"now":1}"#);
        assert_eq!(frame.bytes, "id: ff-1\nevent: changes\ndata: {\"now\":1}\n\n");
    }
}
