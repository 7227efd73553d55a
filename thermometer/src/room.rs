//! A room, as a thermometer sees it. Pure: the same room has the same temperature at the same moment, in any process.
//!
//! What is added to the mean: the day (warmest at three in the afternoon, UTC), the weather of the next weeks, people and doors, and the
//! noise of a sensor. Each room has its own.

use std::f64::consts::TAU;

use jiff::Timestamp;

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;
/// How far slow drift and passing disturbances reach, as parts of the swing.
const DRIFT: f64 = 0.25;
const DISTURBANCE: f64 = 0.15;
/// The sensor's noise, at most so much in °C.
const NOISE: f64 = 0.05;

/// A room with a name of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Room {
    seed: u64,
    mean: f64,
    swing: f64,
}

impl Room {
    /// The room of the device `name`: `mean` and `swing` in °C.
    pub fn new(name: &str, mean: f64, swing: f64) -> Self {
        // FNV-1a: the same on every machine and in every release.
        let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
            (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
        });
        Self { seed, mean, swing }
    }

    /// What a thermometer with two decimals shows at `moment`, in °C.
    pub fn celsius(&self, moment: Timestamp) -> f64 {
        let seconds = moment.as_duration().as_secs_f64();
        let noise = NOISE * self.random(moment.as_millisecond());
        ((self.air(seconds) + noise) * 100.0).round() / 100.0
    }

    /// The farthest that a reading can be from the mean, in °C.
    pub fn reach(&self) -> f64 {
        self.swing * (1.0 + DRIFT + DISTURBANCE) + NOISE + 0.005
    }

    /// The air without the sensor.
    fn air(&self, seconds: f64) -> f64 {
        let day = (TAU * (seconds / DAY - 15.0 / 24.0)).cos();
        let drift = self.smooth(1, seconds / (2.3 * DAY));
        let disturbance = self.smooth(2, seconds / (0.2 * HOUR));
        self.mean + self.swing * (day + DRIFT * drift + DISTURBANCE * disturbance)
    }

    /// Smooth noise from -1 to 1 that has another value at each whole `position`.
    fn smooth(&self, octave: i64, position: f64) -> f64 {
        let (from, between) = (position.floor(), position - position.floor());
        #[allow(clippy::cast_possible_truncation, reason = "whole, and far below the limit for any date")]
        let at = |step: i64| self.random((from as i64 + step).wrapping_mul(8) + octave);
        let ease = between * between * (3.0 - 2.0 * between);
        at(0) + (at(1) - at(0)) * ease
    }

    /// From -1 to 1; looks random, is always the same for the same number (`SplitMix64`'s finaliser).
    fn random(&self, number: i64) -> f64 {
        let mut bits = self.seed ^ number.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        f64::from(u32::try_from(bits >> 32).unwrap_or_default()) / f64::from(u32::MAX) * 2.0 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millisecond: i64) -> Timestamp {
        Timestamp::from_millisecond(millisecond).unwrap()
    }

    #[test]
    fn it_is_warmer_in_the_afternoon_than_at_night() {
        let room = Room::new("device001", 21.0, 4.0);
        let hour = |hour: i64| room.celsius(at((20_000 * 24 + hour) * 3_600_000));
        assert!(hour(15) > hour(3) + 3.0, "{} {}", hour(15), hour(3));
    }

    #[test]
    fn two_rooms_differ_and_one_room_stays_itself() {
        let moment = at(1_800_000_000_000);
        let celsius = |name| Room::new(name, 21.0, 4.0).celsius(moment);
        assert!((celsius("device001") - celsius("device001")).abs() < f64::EPSILON);
        assert!((celsius("device001") - celsius("device002")).abs() > 0.01);
    }

    proptest! {
        #[test]
        fn a_reading_stays_within_reach(name in "[a-z]{1,9}", mean in -40.0..60.0, swing in 0.0..20.0, ms in 0_i64..4_000_000_000_000) {
            let room = Room::new(&name, mean, swing);
            prop_assert!((room.celsius(at(ms)) - mean).abs() <= room.reach());
        }

        #[test]
        fn nothing_jumps_within_a_second(name in "[a-z]{1,9}", swing in 0.0..20.0, ms in 0_i64..4_000_000_000_000) {
            let room = Room::new(&name, 21.0, swing);
            let step = (room.celsius(at(ms)) - room.celsius(at(ms + 1000))).abs();
            prop_assert!(step <= 2.0 * NOISE + 0.01 + swing * 0.001, "{step}");
        }
    }
}
