//! What is known of one device from its messages.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use link::wire::{CertificateAcknowledgement, ConnectionState, ConnectionStatus, Continuity, Reading};

use super::series::Series;
use super::wire::{self, SeenAt};

/// The MQTT side of a device; whether it is registered in the cluster is another matter.
#[derive(Debug, Default)]
pub struct Device {
    latest: Option<Latest>,
    /// Readings and sparkline.
    pub series: Series,
    interval: Interval,
    connection: Option<Connection>,
    acknowledgement: Option<CertificateAcknowledgement>,
    addresses: VecDeque<SeenAt>,
    lost: u64,
    /// Readings may have come that nobody here heard.
    deaf: bool,
    restarts: u32,
    malformed: u64,
}

/// The newest reading and when it came here.
#[derive(Clone, Copy, Debug)]
struct Latest {
    at: Timestamp,
    sent: Timestamp,
    received: Timestamp,
    celsius: f32,
    seq: u64,
}

/// What was said of its session, and since when it is so, as far as that is known.
#[derive(Clone, Copy, Debug)]
struct Connection {
    said: ConnectionStatus,
    since: Option<Timestamp>,
}

/// How long a device waits between readings: what its resource says, or what is seen.
#[derive(Debug, Default)]
struct Interval {
    asked: Option<Duration>,
    seen_ms: Option<f64>,
    /// A pause that is much longer than what is known, and counts when the next one is so too.
    pause_ms: Option<f64>,
    /// What the tabs were told last, so that a small drift is no news.
    told_ms: i64,
}

/// What a message changed, and so what the tabs need to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Nothing: a repetition.
    Nothing,
    /// The latest reading alone.
    Reading,
    /// More than that.
    Device,
}

/// Enough to see that two take turns.
const MAX_ADDRESSES: usize = 4;
/// A value is stale after this many intervals without a new one.
const STALE_INTERVALS: f64 = 3.0;
/// Below this, jitter and the coalescing of 250 ms would make quick devices flicker.
const STALE_MIN_MS: f64 = 3_000.0;
/// Before anything is known of a device's interval.
const STALE_UNKNOWN_MS: f64 = 180_000.0;
/// A pause this many times as long as the interval is a device that was away, not another interval.
const PAUSE: f64 = 3.0;
/// A timestamp that is older than this came out of a queue, or of a clock that is wrong.
const LATE_MS: i64 = 60_000;
/// Nothing is queued for longer than this.
const PAST_MS: i64 = 24 * 60 * 60_000;

// === impl Device ===

impl Device {
    /// Takes a reading that came at `now`.
    #[allow(clippy::cast_possible_truncation)] // no thermometer needs more than seven digits
    pub fn reading(&mut self, reading: &Reading, now: Timestamp) -> Changed {
        let mut changed = Changed::Reading;
        let deaf = std::mem::take(&mut self.deaf);
        if let Some(latest) = self.latest {
            match Continuity::between(latest.seq, reading.seq) {
                Continuity::Repeated => return Changed::Nothing,
                Continuity::Next => self.interval.observe(latest.sent, reading.ts, 1),
                Continuity::Lost(missing) => {
                    self.lost += if deaf { 0 } else { missing };
                    self.interval.observe(latest.sent, reading.ts, missing + 1);
                    changed = Changed::Device;
                }
                Continuity::Restarted => {
                    self.restarts += 1;
                    changed = Changed::Device;
                }
            }
        }
        let at = measured_at(reading.ts, now, self.latest);
        let celsius = reading.celsius as f32;
        self.latest = Some(Latest { at, sent: reading.ts, received: now, celsius, seq: reading.seq });
        self.series.push(at, celsius);
        if self.interval.is_news() { Changed::Device } else { changed }
    }

    /// What is missing before the next reading is not the device's loss.
    pub fn deaf(&mut self) {
        self.deaf = true;
    }

    /// Takes what the device, or the broker in its name, says of its session at `now`, or has said some time before when it was
    /// `retained`: then only an opened session tells since when, for a last will bears the time at which the session began.
    pub fn connection(&mut self, said: ConnectionStatus, retained: bool, now: Timestamp) -> Changed {
        if self.connection.is_some_and(|known| known.said == said) {
            return Changed::Nothing;
        }
        let opened = (said.state == ConnectionState::Online && said.ts <= now).then_some(said.ts);
        self.connection = Some(Connection { said, since: if retained { opened } else { Some(now) } });
        Changed::Device
    }

    /// Takes the certificate that the device says it uses.
    pub fn acknowledged(&mut self, acknowledgement: CertificateAcknowledgement) -> Changed {
        let same = self.acknowledgement.as_ref() == Some(&acknowledgement);
        self.acknowledgement = Some(acknowledgement);
        if same { Changed::Nothing } else { Changed::Device }
    }

    /// It connected from `address`.
    pub fn connected_from(&mut self, address: &str, now: Timestamp) -> Changed {
        let at = now.as_millisecond();
        match self.addresses.back_mut() {
            Some(last) if last.address == address => last.at = at,
            _ => {
                if self.addresses.len() == MAX_ADDRESSES {
                    self.addresses.pop_front();
                }
                self.addresses.push_back(SeenAt { address: address.to_owned(), at });
            }
        }
        Changed::Device
    }

    /// Counts a payload that was not understood.
    pub fn malformed(&mut self) -> Changed {
        self.malformed += 1;
        Changed::Device
    }

    /// Takes the interval that the device's resource asks for.
    pub fn asked_interval(&mut self, interval: Option<Duration>) {
        if self.interval.asked != interval {
            self.interval = Interval { asked: interval, ..Interval::default() };
        }
    }

    /// Whether it has ever said a temperature.
    pub fn has_reading(&self) -> bool {
        self.latest.is_some()
    }

    /// When the last reading came.
    pub fn last_received(&self) -> Option<Timestamp> {
        self.latest.map(|latest| latest.received)
    }

    /// Serial number of the certificate that it says it uses.
    pub fn serial_in_use(&self) -> Option<&str> {
        self.acknowledgement.as_ref().map(|acknowledgement| acknowledgement.serial_number.as_str())
    }

    /// Connected and fresh, connected and silent, gone, or never heard.
    pub fn presence(&self, now: Timestamp) -> Presence {
        let offline = self.connection.is_some_and(|known| known.said.state == ConnectionState::Offline);
        match self.latest {
            _ if offline => Presence::Offline,
            None => Presence::Waiting,
            Some(latest) => {
                let age = now.as_millisecond() - latest.received.as_millisecond();
                if age > self.interval.stale_after_ms() { Presence::Stale } else { Presence::Online }
            }
        }
    }

    /// The latest reading as the tabs get it.
    pub fn latest(&self) -> Option<wire::Latest> {
        self.latest.map(|latest| {
            wire::Latest(latest.at.as_millisecond(), latest.received.as_millisecond(), latest.celsius)
        })
    }

    /// The whole device as the tabs get it; `spark` only where it is asked for, since it is the bulk of it.
    pub fn view<'a>(&'a self, name: &'a str, registered: bool, spark: Option<Timestamp>) -> wire::Device<'a> {
        wire::Device {
            name,
            registered,
            latest: self.latest(),
            stale_after: self.interval.stale_after_ms(),
            interval: self.interval.ms(),
            connection: self.connection.map(|Connection { said, since }| wire::Connection {
                state: said.state,
                since: since.map(Timestamp::as_millisecond),
            }),
            in_use: self.acknowledgement.as_ref().map(|acknowledgement| wire::InUse {
                serial_number: &acknowledgement.serial_number,
                not_after: acknowledgement.not_after.as_millisecond(),
                roots: &acknowledgement.roots,
            }),
            addresses: self.addresses.iter().collect(),
            lost: self.lost,
            restarts: self.restarts,
            malformed: self.malformed,
            clock_ahead: self
                .latest
                .map(|latest| latest.sent.as_millisecond() - latest.received.as_millisecond()),
            spark: spark.map(|now| self.series.spark(now)),
        }
    }
}

/// See [`Device::presence`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Presence {
    /// Connected, the latest value is current.
    Online,
    /// Connected as far as is known, but silent for three intervals.
    Stale,
    /// It said goodbye, or the broker lost it.
    Offline,
    /// Never heard of.
    Waiting,
}

/// When the reading was taken: what the device says, unless its clock cannot be right: it is ahead, or behind by the same as
/// with the reading before. What comes out of a queue comes faster than it was taken.
fn measured_at(sent: Timestamp, received: Timestamp, before: Option<Latest>) -> Timestamp {
    let behind = received.as_millisecond() - sent.as_millisecond();
    let in_step = before.is_some_and(|before| {
        let taken = sent.as_millisecond() - before.sent.as_millisecond();
        let came = received.as_millisecond() - before.received.as_millisecond();
        came * 2 >= taken
    });
    match behind {
        ..0 | PAST_MS.. => received,
        LATE_MS.. if in_step => received,
        _ => sent,
    }
}

// === impl Interval ===

impl Interval {
    /// Learns from two readings `steps` apart; their own timestamps, because a queue empties in a burst.
    #[allow(clippy::cast_precision_loss)] // milliseconds and steps are far below 2^53
    fn observe(&mut self, before: Timestamp, after: Timestamp, steps: u64) {
        let sample = (after.as_millisecond() - before.as_millisecond()) as f64 / steps as f64;
        if !(1.0..=PAST_MS as f64).contains(&sample) {
            return;
        }
        let pause = self.known_ms().is_some_and(|known| sample > known * PAUSE);
        self.seen_ms = match (self.pause_ms.take(), self.seen_ms) {
            (None, seen) if pause => {
                self.pause_ms = Some(sample);
                seen
            }
            (None, Some(seen)) => Some(seen * 0.7 + sample * 0.3),
            (Some(_), Some(seen)) if !pause => Some(seen * 0.7 + sample * 0.3),
            _ => Some(sample),
        };
    }

    /// Milliseconds between readings: as seen, or else as asked for.
    fn known_ms(&self) -> Option<f64> {
        self.seen_ms.or(self.asked.map(|asked| asked.as_secs_f64() * 1_000.0))
    }

    /// Milliseconds between readings, if anything is known.
    #[allow(clippy::cast_possible_truncation)] // bounded by a day
    fn ms(&self) -> Option<i64> {
        self.known_ms().map(|ms| ms.round() as i64)
    }

    #[allow(clippy::cast_possible_truncation)] // bounded by three days
    fn stale_after_ms(&self) -> i64 {
        match self.known_ms() {
            Some(ms) => (ms * STALE_INTERVALS).max(STALE_MIN_MS) as i64,
            None => STALE_UNKNOWN_MS as i64,
        }
    }

    /// Whether the tabs' idea of it is off by more than a tenth; from then on they are taken to know.
    fn is_news(&mut self) -> bool {
        let ms = self.stale_after_ms();
        let news = (ms - self.told_ms).abs() * 10 > self.told_ms;
        if news {
            self.told_ms = ms;
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
    }

    /// A device that sent `count` readings, one every `interval` ms, the last one at `(count - 1) * interval`.
    fn device(count: u64, interval: i64) -> Device {
        let mut device = Device::default();
        for number in 0..count {
            let now = at(i64::try_from(number).unwrap() * interval);
            device.reading(&Reading::new(now, number, 20.0), now);
        }
        device
    }

    #[test]
    fn a_value_is_stale_after_three_intervals_and_not_before() {
        let device = device(10, 5_000);
        assert_eq!(device.presence(at(45_000 + 15_000)), Presence::Online);
        assert_eq!(device.presence(at(45_000 + 15_001)), Presence::Stale);
    }

    #[test]
    fn a_device_five_times_a_second_does_not_flicker() {
        let device = device(100, 200);
        assert_eq!(device.presence(at(99 * 200 + 2_000)), Presence::Online);
        assert_eq!(device.presence(at(99 * 200 + 3_001)), Presence::Stale);
    }

    #[test]
    fn the_interval_asked_for_counts_until_one_is_seen() {
        let mut device = device(1, 0);
        assert_eq!(device.presence(at(179_000)), Presence::Online);
        device.asked_interval(Some(Duration::from_secs(5)));
        assert_eq!(device.presence(at(15_001)), Presence::Stale);
    }

    #[test]
    fn missing_readings_are_counted_and_do_not_stretch_the_interval() {
        let mut device = device(10, 5_000);
        let changed = device.reading(&Reading::new(at(65_000), 13, 20.0), at(65_000));
        assert_eq!(changed, Changed::Device);
        let view = device.view("a", true, None);
        assert_eq!((view.lost, view.interval), (3, Some(5_000)));
    }

    #[test]
    fn a_repeated_reading_changes_nothing() {
        let mut device = device(10, 5_000);
        let again = Reading::new(at(45_000), 9, 20.0);
        assert_eq!(device.reading(&again, at(46_000)), Changed::Nothing);
        assert_eq!(device.last_received(), Some(at(45_000)));
    }

    #[test]
    fn what_came_while_the_dashboard_was_away_is_not_called_lost() {
        let mut device = device(3, 5_000);
        device.deaf();
        device.reading(&Reading::new(at(60_000), 12, 20.0), at(60_000));
        device.reading(&Reading::new(at(65_000), 14, 20.0), at(65_000));
        assert_eq!(device.view("a", true, None).lost, 1, "only the one that it should have heard");
    }

    #[test]
    fn a_restarted_device_has_lost_nothing() {
        let mut device = device(10, 5_000);
        device.reading(&Reading::new(at(50_000), 50_000_000, 20.0), at(50_000));
        let view = device.view("a", true, None);
        assert_eq!((view.lost, view.restarts), (0, 1));
    }

    #[test]
    fn a_queue_emptied_in_a_burst_keeps_its_times_and_its_interval() {
        let mut device = device(10, 5_000);
        for number in 10..20 {
            let sent = at(i64::try_from(number).unwrap() * 5_000);
            device.reading(&Reading::new(sent, number, 20.0), at(100_000));
        }
        let view = device.view("a", true, None);
        assert_eq!(view.interval, Some(5_000));
        assert_eq!(
            view.latest,
            Some(wire::Latest(at(95_000).as_millisecond(), at(100_000).as_millisecond(), 20.0))
        );
    }

    #[test]
    fn a_device_that_thinks_it_is_1970_is_charted_when_it_was_heard() {
        let mut device = Device::default();
        device.reading(&Reading::new(Timestamp::UNIX_EPOCH, 1, 20.0), at(0));
        assert_eq!(device.view("a", true, None).latest.unwrap().0, at(0).as_millisecond());
    }

    #[test]
    fn offline_says_so_whatever_the_last_reading() {
        let mut device = device(10, 5_000);
        let offline = ConnectionStatus::offline(at(45_100));
        assert_eq!(device.connection(offline, false, at(45_110)), Changed::Device);
        assert_eq!(device.presence(at(45_200)), Presence::Offline);
        assert_eq!(device.connection(offline, true, at(45_300)), Changed::Nothing);
        device.connection(ConnectionStatus::online(at(46_000)), false, at(46_010));
        assert_eq!(device.presence(at(46_000)), Presence::Online);
    }

    #[test]
    fn since_when_it_is_offline_is_known_to_who_heard_it() {
        let since = |said, retained| {
            let mut device = Device::default();
            device.connection(said, retained, at(90_000));
            device.view("a", true, None).connection.unwrap().since
        };
        // a last will bears the time at which the session began
        let (will, opened) = (ConnectionStatus::offline(at(0)), ConnectionStatus::online(at(0)));
        assert_eq!(since(will, false), Some(at(90_000).as_millisecond()));
        assert_eq!(since(will, true), None);
        assert_eq!(since(opened, true), Some(at(0).as_millisecond()));
        assert_eq!(since(ConnectionStatus::online(at(99_000)), true), None, "its clock is ahead");
    }

    #[test]
    fn one_long_pause_is_not_another_interval_and_two_are() {
        const NIGHT: i64 = 8 * 60 * 60_000;
        let mut device = device(10, 5_000);
        let mut now = 45_000 + NIGHT;
        device.reading(&Reading::new(at(now), 10, 20.0), at(now));
        assert_eq!(device.presence(at(now + 15_001)), Presence::Stale);
        for number in 11..13 {
            now += 60_000;
            device.reading(&Reading::new(at(now), number, 20.0), at(now));
        }
        assert_eq!(device.view("a", true, None).interval, Some(60_000));
    }

    #[test]
    fn another_interval_that_is_asked_for_counts_at_once() {
        let mut device = device(10, 5_000);
        device.asked_interval(Some(Duration::from_mins(1)));
        assert_eq!(device.view("a", true, None).interval, Some(60_000));
    }

    #[test]
    fn a_device_with_a_slow_clock_is_charted_when_it_was_heard() {
        let mut device = Device::default();
        for number in 0..3 {
            let now = i64::try_from(number).unwrap() * 5_000;
            device.reading(&Reading::new(at(now - 360_000), number, 20.0), at(now));
        }
        assert_eq!(device.view("a", true, None).latest.unwrap().0, at(10_000).as_millisecond());
        // nor is anything charted in the future
        device.reading(&Reading::new(at(45_000), 3, 20.0), at(15_000));
        assert_eq!(device.view("a", true, None).latest.unwrap().0, at(15_000).as_millisecond());
    }

    #[test]
    fn where_it_connects_from_is_a_short_list_of_changes() {
        let mut device = Device::default();
        for (number, address) in ["a", "a", "b", "a", "b", "c"].into_iter().enumerate() {
            device.connected_from(address, at(i64::try_from(number).unwrap()));
        }
        let view = device.view("a", true, None);
        let seen: Vec<_> = view.addresses.iter().map(|seen| seen.address.as_str()).collect();
        assert_eq!(seen, ["b", "a", "b", "c"]);
    }

    #[test]
    fn a_device_never_heard_is_waiting() {
        assert_eq!(Device::default().presence(at(0)), Presence::Waiting);
    }
}
