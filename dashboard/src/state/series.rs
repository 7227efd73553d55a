//! One device's temperatures: every reading of the last five minutes, thinner the further back, nothing after a day.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::wire::HistoryPoint;

/// What a chart can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Readings as they came, at most one a second.
    FiveMinutes,
    /// Means of 15 s with their extremes.
    Hour,
    /// Means of 5 min with their extremes.
    Day,
}

/// The bounded history of one device: at most 13.5 kB, so that 5 000 devices stay under 70 MB.
#[derive(Debug)]
pub struct Series {
    raw: VecDeque<Point>,
    hour: Tier,
    day: Tier,
}

/// How many values a sparkline has.
pub const SPARK_SLOTS: i64 = 60;
/// Width of one value of a sparkline in milliseconds: 60 of them are five minutes.
pub const SPARK_SLOT_MS: i64 = 5_000;

const RAW_POINTS: usize = 300;
const RAW_SPACING_MS: i64 = 1_000;

#[derive(Clone, Copy, Debug)]
struct Point {
    at: i64,
    celsius: f32,
}

/// Closed buckets of one width, oldest first, and the one still filling.
#[derive(Debug)]
struct Tier {
    width: i64,
    capacity: usize,
    closed: VecDeque<Bucket>,
    open: Option<OpenBucket>,
}

/// 16 bytes: the start counts buckets since 1970, which fits for every width in use.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    index: u32,
    mean: f32,
    min: f32,
    max: f32,
}

#[derive(Clone, Copy, Debug)]
struct OpenBucket {
    index: u32,
    sum: f64,
    count: u32,
    min: f32,
    max: f32,
}

// === impl Window ===

impl Window {
    /// The window's length in milliseconds.
    pub fn millis(self) -> i64 {
        match self {
            Self::FiveMinutes => 5 * 60_000,
            Self::Hour => 60 * 60_000,
            Self::Day => 24 * 60 * 60_000,
        }
    }

    /// Reads `5m`, `1h` or `24h`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "5m" => Some(Self::FiveMinutes),
            "1h" => Some(Self::Hour),
            "24h" => Some(Self::Day),
            _ => None,
        }
    }
}

// === impl Series ===

impl Default for Series {
    fn default() -> Self {
        Self {
            raw: VecDeque::new(),
            hour: Tier::new(15_000, Window::Hour),
            day: Tier::new(5 * 60_000, Window::Day),
        }
    }
}

impl Series {
    /// Adds a reading. Time running backwards means the device's clock was set back: what lies after it is forgotten.
    pub fn push(&mut self, at: Timestamp, celsius: f32) {
        let at = at.as_millisecond();
        while self.raw.back().is_some_and(|last| last.at > at) {
            self.raw.pop_back();
        }
        if self.raw.back().is_none_or(|last| at - last.at >= RAW_SPACING_MS) {
            push_bounded(&mut self.raw, RAW_POINTS, Point { at, celsius });
        }
        self.hour.push(at, celsius);
        self.day.push(at, celsius);
    }

    /// What a chart of `window` shows at `now`, oldest first; gaps are simply absent.
    pub fn points(&self, window: Window, now: Timestamp) -> Vec<HistoryPoint> {
        let from = now.as_millisecond() - window.millis();
        match window {
            Window::FiveMinutes => self
                .raw
                .iter()
                .filter(|point| point.at >= from)
                .map(|point| HistoryPoint(point.at, point.celsius, point.celsius, point.celsius))
                .collect(),
            Window::Hour => self.hour.points(from),
            Window::Day => self.day.points(from),
        }
    }

    /// The last reading of each slot of five seconds, the newest slot last; `None` where nothing came.
    pub fn spark(&self, now: Timestamp) -> Vec<Option<f32>> {
        let first = now.as_millisecond().div_euclid(SPARK_SLOT_MS) - SPARK_SLOTS + 1;
        let mut slots = vec![None; usize::try_from(SPARK_SLOTS).unwrap_or_default()];
        for point in &self.raw {
            let slot = usize::try_from(point.at.div_euclid(SPARK_SLOT_MS) - first);
            if let Some(value) = slot.ok().and_then(|slot| slots.get_mut(slot)) {
                *value = Some(point.celsius);
            }
        }
        slots
    }
}

// === impl Tier ===

impl Tier {
    fn new(width: i64, window: Window) -> Self {
        let capacity = usize::try_from(window.millis() / width).unwrap_or(usize::MAX);
        Self { width, capacity, closed: VecDeque::new(), open: None }
    }

    fn push(&mut self, at: i64, celsius: f32) {
        let Ok(index) = u32::try_from(at.div_euclid(self.width)) else { return };
        while self.closed.back().is_some_and(|last| last.index >= index) {
            self.closed.pop_back();
        }
        match &mut self.open {
            Some(open) if open.index == index => open.add(celsius),
            open => {
                let fresh = OpenBucket { index, sum: celsius.into(), count: 1, min: celsius, max: celsius };
                if let Some(done) = open.replace(fresh).filter(|done| done.index < index) {
                    push_bounded(&mut self.closed, self.capacity, done.close());
                }
            }
        }
    }

    fn points(&self, from: i64) -> Vec<HistoryPoint> {
        let open = self.open.map(OpenBucket::close);
        self.closed
            .iter()
            .copied()
            .chain(open)
            .map(|bucket| {
                HistoryPoint(
                    i64::from(bucket.index) * self.width + self.width / 2,
                    bucket.mean,
                    bucket.min,
                    bucket.max,
                )
            })
            .filter(|point| point.0 >= from)
            .collect()
    }
}

// === impl OpenBucket ===

impl OpenBucket {
    fn add(&mut self, celsius: f32) {
        self.sum += f64::from(celsius);
        self.count += 1;
        self.min = self.min.min(celsius);
        self.max = self.max.max(celsius);
    }

    #[allow(clippy::cast_possible_truncation)] // a mean of f32 fits an f32
    fn close(self) -> Bucket {
        let mean = (self.sum / f64::from(self.count)) as f32;
        // Two decimals are finer than any thermometer, and keep the JSON short.
        let mean = (mean * 100.0).round() / 100.0;
        Bucket { index: self.index, mean, min: self.min, max: self.max }
    }
}

/// Appends, dropping the oldest beyond `limit`. Grows by half and never past the limit, where doubling would take up to
/// twice of it.
fn push_bounded<T>(ring: &mut VecDeque<T>, limit: usize, item: T) {
    if ring.len() == limit {
        ring.pop_front();
    }
    if ring.len() == ring.capacity() {
        ring.reserve_exact((ring.len() / 2).max(8).min(limit - ring.len()));
    }
    ring.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn five_minutes_hold_every_reading_and_no_more() {
        let mut series = Series::default();
        for second in 0..1_000 {
            series.push(at(second), 20.0);
        }
        assert_eq!(series.points(Window::FiveMinutes, at(999)).len(), 300);
        assert!(series.raw.len() <= RAW_POINTS);
    }

    #[test]
    fn a_device_sending_ten_times_a_second_does_not_shorten_its_five_minutes() {
        let mut series = Series::default();
        for tenth in 0..10 * 400 {
            series.push(Timestamp::from_millisecond(at(0).as_millisecond() + tenth * 100).unwrap(), 20.0);
        }
        let points = series.points(Window::FiveMinutes, at(400));
        assert!(points.len() >= 299, "only {} points left", points.len());
    }

    #[test]
    fn an_hour_shows_means_with_their_extremes() {
        let mut series = Series::default();
        for second in 0..15 {
            series.push(at(second), if second == 7 { 35.0 } else { 20.0 });
        }
        series.push(at(15), 20.0);
        let first = series.points(Window::Hour, at(16))[0];
        assert_eq!(first, HistoryPoint(at(0).as_millisecond() + 7_500, 21.0, 20.0, 35.0));
    }

    #[test]
    fn a_silent_device_leaves_a_gap_in_its_chart() {
        let mut series = Series::default();
        series.push(at(0), 20.0);
        series.push(at(600), 20.0);
        let points = series.points(Window::Hour, at(600));
        assert_eq!(points.len(), 2);
        assert_eq!(points[1].0 - points[0].0, 600_000);
    }

    #[test]
    fn a_day_of_readings_stays_within_its_memory() {
        let mut series = Series::default();
        for second in (0..3 * 24 * 3600).step_by(5) {
            series.push(at(second), 20.0);
        }
        assert_eq!(series.hour.closed.len(), 240);
        assert_eq!(series.day.closed.len(), 288);
        let bytes = size_of::<Point>() * series.raw.capacity()
            + size_of::<Bucket>() * (series.hour.closed.capacity() + series.day.closed.capacity());
        assert!(bytes <= 13_500, "{bytes} bytes a device");
        assert!(series.points(Window::Day, at(3 * 24 * 3600)).len() <= 289);
    }

    #[test]
    fn a_clock_set_back_does_not_stop_the_chart() {
        let mut series = Series::default();
        series.push(at(7_200), 20.0);
        series.push(at(0), 21.0);
        series.push(at(5), 22.0);
        let values: Vec<f32> =
            series.points(Window::FiveMinutes, at(6)).iter().map(|point| point.1).collect();
        assert_eq!(values, [21.0, 22.0]);
        assert_eq!(series.points(Window::Hour, at(6)).len(), 1);
    }

    #[test]
    fn a_sparkline_has_holes_where_nothing_came() {
        let mut series = Series::default();
        series.push(at(0), 20.0);
        series.push(at(10), 22.0);
        let spark = series.spark(at(10));
        assert_eq!(spark.len(), 60);
        assert_eq!(spark[57..], [Some(20.0), None, Some(22.0)]);
        assert_eq!(series.spark(at(1_000)), vec![None; 60]);
    }
}
