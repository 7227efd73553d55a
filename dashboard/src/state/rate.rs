//! How many messages come.

use std::collections::VecDeque;

use jiff::Timestamp;

/// Counts messages in slots of five seconds.
#[derive(Debug, Default)]
pub struct Rate {
    slots: VecDeque<(i64, u32)>,
    total: u64,
}

const SLOT_MS: i64 = 5_000;
const SLOT_SECONDS: f64 = 5.0;
/// Two whole ones and the one that fills.
const SLOTS: i64 = 3;

impl Rate {
    /// Counts one message.
    pub fn count(&mut self, now: Timestamp) {
        let slot = now.as_millisecond().div_euclid(SLOT_MS);
        self.total += 1;
        match self.slots.back_mut() {
            Some((last, count)) if *last >= slot => *count += 1,
            _ => self.slots.push_back((slot, 1)),
        }
        while self.slots.front().is_some_and(|(first, _)| *first <= slot - SLOTS) {
            self.slots.pop_front();
        }
    }

    /// Messages since the start.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Messages a second over the last two whole slots (5-10 s old at most, so it neither jumps nor lags).
    pub fn per_second(&self, now: Timestamp) -> f64 {
        let slot = now.as_millisecond().div_euclid(SLOT_MS);
        let recent: u32 =
            self.slots.iter().filter(|(at, _)| (slot - 2..slot).contains(at)).map(|(_, count)| count).sum();
        f64::from(recent) / (2.0 * SLOT_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
    }

    #[test]
    fn the_rate_follows_the_messages_and_falls_to_zero_when_they_stop() {
        let mut rate = Rate::default();
        for second in 0..60 {
            for _ in 0..4 {
                rate.count(at(second * 1_000));
            }
        }
        assert!((rate.per_second(at(60_000)) - 4.0).abs() < 1e-9);
        assert!(rate.per_second(at(75_000)).abs() < 1e-9);
        assert_eq!(rate.total(), 240);
        assert_eq!(rate.slots.len(), 3, "no more is kept than is needed");
    }
}
