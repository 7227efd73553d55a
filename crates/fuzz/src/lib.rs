//! Bounded fuzzing on stable Rust, for whatever reads input from outside: samples that are valid are damaged in every way, and
//! a property has to hold of what comes out. proptest finds the damage, and the least of it that does harm.
//!
//! It knows nothing of coverage, unlike cargo-fuzz, which needs a nightly compiler; it makes up for that with samples of every
//! kind and with damage that keeps their structure: length octets, repeated and swapped pieces, pieces of other samples.
//!
//! A target runs for a second, or for as many as `CA_IOT_FUZZ_SECONDS` says: `cargo xtask drill fuzz`.

use std::io::Write as _;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// The most steps of damage done to one sample.
const MOST_STEPS: usize = 6;
/// How many inputs are tried between two looks at the clock.
const AT_ONCE: u32 = 64;
/// Octets that parsers stumble over: length forms of DER, text markers, limits of integers.
const TELLING: [u8; 16] =
    [0x00, 0x01, 0x02, 0x05, 0x0a, 0x2d, 0x30, 0x7f, 0x80, 0x81, 0x82, 0x84, 0x88, 0xa0, 0xfe, 0xff];

/// One step of damage.
#[derive(Clone, Debug)]
enum Step {
    /// One bit is another.
    Flip(Index, u8),
    /// One octet is another.
    Set(Index, u8),
    /// A piece is gone.
    Cut(Index, Index),
    /// A piece is there twice.
    Repeat(Index, Index),
    /// Something is put in.
    Insert(Index, Vec<u8>),
    /// A piece of another sample takes the place of what is there.
    Splice(Index, Index, Index),
    /// It ends early.
    Truncate(Index),
}

/// Damages `samples` again and again, and checks that `property` holds of each; returns how many were tried.
///
/// # Panics
/// With the least input found of which it does not hold, or which makes it panic.
pub fn check(samples: &[Vec<u8>], property: impl Fn(&[u8]) -> Result<(), String>) -> u64 {
    assert!(!samples.is_empty(), "nothing to damage");
    for sample in samples {
        if let Err(problem) = property(sample) {
            panic!("it does not even hold of a sample: {problem}");
        }
    }
    let input = (any::<Index>(), vec(step(), 1..=MOST_STEPS));
    let input = input.prop_map(|(sample, steps)| {
        let sample = sample.get(samples).clone();
        steps.iter().fold(sample, |octets, step| step.damage(octets, samples))
    });
    let config = Config { cases: AT_ONCE, failure_persistence: None, ..Config::default() };
    let (until, mut tried) = (Instant::now() + budget(), 0);
    while Instant::now() < until {
        let found = TestRunner::new(config.clone())
            .run(&input, |octets| property(&octets).map_err(TestCaseError::fail));
        if let Err(failure) = found {
            panic!("{failure}");
        }
        tried += u64::from(AT_ONCE);
    }
    // for whoever runs it longer, and with `--nocapture`
    let _ = writeln!(std::io::stderr(), "inputs tried: {tried}");
    tried
}

/// How long one target runs.
fn budget() -> Duration {
    let seconds = std::env::var("CA_IOT_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}

fn step() -> impl Strategy<Value = Step> {
    let octet = || prop_oneof![prop::sample::select(TELLING.to_vec()), any::<u8>()];
    prop_oneof![
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Step::Flip(at, bit)),
        (any::<Index>(), octet()).prop_map(|(at, octet)| Step::Set(at, octet)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Step::Cut(from, to)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Step::Repeat(from, to)),
        (any::<Index>(), vec(octet(), 1..8)).prop_map(|(at, octets)| Step::Insert(at, octets)),
        (any::<Index>(), any::<Index>(), any::<Index>())
            .prop_map(|(at, sample, from)| Step::Splice(at, sample, from)),
        any::<Index>().prop_map(Step::Truncate),
    ]
}

impl Step {
    fn damage(&self, mut octets: Vec<u8>, samples: &[Vec<u8>]) -> Vec<u8> {
        if octets.is_empty() {
            return octets;
        }
        let length = octets.len();
        let piece = |from: &Index, to: &Index| {
            let (a, b) = (from.index(length), to.index(length));
            a.min(b)..a.max(b)
        };
        match self {
            Self::Flip(at, bit) => octets[at.index(length)] ^= 1 << bit,
            Self::Set(at, octet) => octets[at.index(length)] = *octet,
            Self::Cut(from, to) => drop(octets.drain(piece(from, to))),
            Self::Repeat(from, to) => {
                let piece = piece(from, to);
                let copy = octets[piece.clone()].to_vec();
                octets.splice(piece.start..piece.start, copy);
            }
            Self::Insert(at, new) => {
                let at = at.index(length);
                octets.splice(at..at, new.iter().copied());
            }
            Self::Splice(at, sample, from) => {
                let other = sample.get(samples);
                let other = &other[from.index(other.len().max(1)).min(other.len())..];
                let at = at.index(length);
                let end = (at + other.len()).min(length);
                octets.splice(at..end, other.iter().copied());
            }
            Self::Truncate(at) => octets.truncate(at.index(length)),
        }
        octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_harm_is_found() {
        let samples = [b"length 4: abcd".to_vec()];
        let harm = std::panic::catch_unwind(|| {
            check(&samples, |octets| {
                // a parser that believes what it is told
                let length = octets.get(7).map_or(0, |digit| usize::from(digit.saturating_sub(b'0')));
                let rest = octets.get(10..).unwrap_or_default();
                if !rest.is_empty() && length > 0 {
                    let _ = rest[length - 1];
                }
                Ok(())
            })
        });
        assert!(harm.is_err());
    }

    #[test]
    fn a_sound_reader_is_tried_often() {
        let tried = check(&[b"sound".to_vec()], |octets| {
            String::from_utf8_lossy(octets).chars().rev().for_each(drop);
            Ok(())
        });
        assert!(tried > 100, "{tried}");
    }
}
