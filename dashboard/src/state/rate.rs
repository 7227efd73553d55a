//! How many messages come: now, and over the last five minutes.

use std::collections::VecDeque;

use jiff::Timestamp;

/// Counts messages in slots of five seconds, sixty of them.
#[derive(Debug, Default)]
pub struct Rate {
    slots: VecDeque<(i64, u32)>,
    total: u64,
}

const SLOT_MS: i64 = 5_000;
const SLOT_SECONDS: f64 = 5.0;
const SLOTS: i64 = 60;

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

    /// Messages a second in each of the last sixty whole slots, the newest last.
    pub fn history(&self, now: Timestamp) -> Vec<f64> {
        let slot = now.as_millisecond().div_euclid(SLOT_MS);
        let mut history = vec![0.0; usize::try_from(SLOTS).unwrap_or_default()];
        for (at, count) in &self.slots {
            let index = usize::try_from(at - slot + SLOTS);
            if let Some(value) = index.ok().and_then(|index| history.get_mut(index)) {
                *value = f64::from(*count) / SLOT_SECONDS;
            }
        }
        history
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
    }

    #[test]
    fn the_history_is_five_minutes_whatever_the_uptime() {
        let mut rate = Rate::default();
        for second in 0..3_600 {
            rate.count(at(second * 1_000));
        }
        assert!(rate.slots.len() <= 60);
        let history = rate.history(at(3_600_000));
        assert_eq!(history.len(), 60);
        assert!(history[1..].iter().all(|value| (value - 1.0).abs() < 1e-9), "{history:?}");
    }
}
