//! What a drill measures, beside the bounds that it has to hold: a table that is printed in any case, and an error when
//! a bound was missed.

use std::{
    fmt::{self, Display, Write as _},
    fs,
    io::Write as _,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::environment;

/// The table of one drill. See [`figures`].
#[derive(Debug)]
pub struct Figures {
    subject: String,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    what: String,
    bound: String,
    measured: String,
    /// None: measured for orientation, nothing is promised.
    held: Option<bool>,
}

/// Times of the same thing, tried again and again.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<Duration>);

/// Runs a drill, and prints its table, in the form of docs/measurements.md, however it ends. It fails when `body` does or
/// when a bound was missed.
///
/// # Errors
/// The body's own, or which bounds were missed.
pub async fn figures(subject: &str, body: impl AsyncFnOnce(&mut Figures) -> Result<()>) -> Result<()> {
    let mut figures = Figures { subject: subject.to_owned(), rows: Vec::new() };
    let outcome = body(&mut figures).await;
    figures.publish()?;
    outcome?;
    figures.verdict()
}

impl Figures {
    /// A time that may be `bound` at most.
    pub fn at_most(&mut self, what: impl Display, bound: Duration, measured: Duration) {
        self.bounded(what, format_args!("≤ {}", time(bound)), time(measured), measured <= bound);
    }

    /// A number that may be `bound` at most.
    pub fn no_more_than<N: PartialOrd + Display + Copy>(
        &mut self,
        what: impl Display,
        bound: N,
        measured: N,
    ) {
        let held = measured <= bound;
        self.bounded(what, format_args!("≤ {bound}"), measured, held);
    }

    /// Something that has to be exactly so.
    pub fn exactly<T: PartialEq + Display>(&mut self, what: impl Display, bound: T, measured: T) {
        let held = measured == bound;
        self.bounded(what, bound, measured, held);
    }

    /// Anything else that was promised, and whether it was held.
    pub fn bounded(&mut self, what: impl Display, bound: impl Display, measured: impl Display, held: bool) {
        self.push(what, bound, measured, Some(held));
    }

    /// A figure for orientation, without a promise.
    pub fn note(&mut self, what: impl Display, measured: impl Display) {
        self.push(what, "", measured, None);
    }

    fn push(&mut self, what: impl Display, bound: impl Display, measured: impl Display, held: Option<bool>) {
        let row =
            Row { what: what.to_string(), bound: bound.to_string(), measured: measured.to_string(), held };
        // at once as well: a drill takes minutes
        let _ = writeln!(std::io::stderr(), "{row}");
        self.rows.push(row);
    }

    /// Prints the table and keeps it beside the artifacts.
    fn publish(&self) -> Result<()> {
        fs::create_dir_all(environment::artifacts())?;
        let path = environment::artifacts().join("figures.md");
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path)?;
        let table = self.to_string();
        file.write_all(table.as_bytes())?;
        std::io::stderr().write_all(table.as_bytes())?;
        Ok(())
    }

    fn verdict(&self) -> Result<()> {
        let bounded = self.rows.iter().filter(|row| row.held.is_some()).count();
        if bounded == 0 {
            bail!("{}: nothing was measured against a bound", self.subject);
        }
        let missed: Vec<_> =
            self.rows.iter().filter(|row| row.held == Some(false)).map(Row::to_string).collect();
        if missed.is_empty() {
            return Ok(());
        }
        bail!("{}: {} of {bounded} bounds missed\n{}", self.subject, missed.len(), missed.join("\n"));
    }
}

impl Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}\n\n| What | Bound | Measured | Held |\n| --- | --- | --- | --- |", self.subject)?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, bound, measured, held } = self;
        let held = held.map_or("", |held| if held { "yes" } else { "NO" });
        write!(f, "| {what} | {bound} | {measured} | {held} |")
    }
}

// === impl Times ===

impl Times {
    /// Adds one.
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The smallest time that at least `percent` of all are not above (nearest rank).
    pub fn percentile(&self, percent: u32) -> Result<Duration> {
        let mut sorted = self.0.clone();
        sorted.sort();
        let rank = (sorted.len() * usize::try_from(percent)?).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().context("nothing was measured")
    }

    /// The middle one.
    pub fn median(&self) -> Result<Duration> {
        self.percentile(50)
    }

    /// The longest.
    pub fn longest(&self) -> Result<Duration> {
        self.percentile(100)
    }

    /// Median, 95th percentile and longest in a few words.
    pub fn summary(&self) -> Result<String> {
        let mut words = String::new();
        let (median, p95, longest) = (self.median()?, self.percentile(95)?, self.longest()?);
        write!(words, "median {}, p95 {}, longest {}", time(median), time(p95), time(longest))?;
        write!(words, " of {}", self.len())?;
        Ok(words)
    }
}

impl Extend<Duration> for Times {
    fn extend<I: IntoIterator<Item = Duration>>(&mut self, times: I) {
        self.0.extend(times);
    }
}

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        Self(times.into_iter().collect())
    }
}

/// A time as a person reads it: `0.13 s`, `42.1 s`, `4 min 05 s`.
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 10.0 {
        format!("{seconds:.2} s")
    } else if seconds < 120.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(seconds: impl IntoIterator<Item = u64>) -> Times {
        seconds.into_iter().map(Duration::from_secs).collect()
    }

    fn table() -> Figures {
        Figures { subject: "subject".to_owned(), rows: Vec::new() }
    }

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let twenty = times((1..=20).rev());
        assert_eq!(twenty.median().unwrap(), Duration::from_secs(10));
        assert_eq!(twenty.percentile(95).unwrap(), Duration::from_secs(19));
        assert_eq!(twenty.longest().unwrap(), Duration::from_secs(20));
        assert_eq!(times([7]).percentile(1).unwrap(), Duration::from_secs(7));
        assert!(times([]).median().is_err());
    }

    #[test]
    fn a_missed_bound_fails_the_drill_and_is_named() {
        let mut figures = table();
        figures.at_most("cut", Duration::from_secs(2), Duration::from_secs(1));
        figures.note("for orientation", 7);
        figures.verdict().unwrap();
        figures.exactly("messages lost", 0, 3);
        let error = figures.verdict().unwrap_err().to_string();
        assert!(
            error.contains("1 of 2 bounds") && error.contains("| messages lost | 0 | 3 | NO |"),
            "{error}"
        );
    }

    #[test]
    fn a_drill_that_measured_nothing_has_not_succeeded() {
        let mut figures = table();
        assert!(figures.verdict().is_err());
        figures.note("for orientation", 7);
        assert!(figures.verdict().is_err());
    }

    #[test]
    fn the_table_is_one_for_the_documents() {
        let mut figures = table();
        figures.no_more_than("CRL numbers", 2, 1);
        assert_eq!(
            figures.to_string(),
            "\nsubject\n\n| What | Bound | Measured | Held |\n| --- | --- | --- | --- |\n\
             | CRL numbers | ≤ 2 | 1 | yes |\n"
        );
    }
}
