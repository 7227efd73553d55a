//! When a certificate is renewed, and how long a new one is to live.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;

use crate::certificate::Certificate;
use crate::validity::{self, DateError, Validity};

/// Why no certificate can be issued that would not be due for renewal at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidityError {
    /// The root cannot sign now.
    #[error("the root certificate {0}")]
    Root(DateError),
    /// renewBefore is not shorter than the whole life.
    #[error(
        "a certificate of {duration} would already be due, because it is to be renewed {renew_before} before it expires: \
         make duration longer or renewBefore shorter"
    )]
    RenewBeforeTooLong {
        /// The life that was asked for, readable.
        duration: String,
        /// renewBefore, readable.
        renew_before: String,
    },
    /// The root ends before the certificate would have to be renewed.
    #[error(
        "a certificate would already be due, because its root expires at {root_not_after} and it is to be renewed \
         {renew_before} earlier: replace the root, or make renewBefore shorter"
    )]
    RootEndsTooSoon {
        /// When the root expires.
        root_not_after: Timestamp,
        /// renewBefore, or the third of the life that stands for it; readable.
        renew_before: String,
    },
}

/// When a certificate of ours with these dates is to be renewed: `renew_before`, or a third of its life, before it expires, and earlier by up to
/// a tenth of that. How much earlier depends on `seed` (the UID of the object) alone, so that a fleet that was made at
/// once is not renewed at once. Whole seconds; never before notBefore.
///
/// The life counts from the moment of signing, [`BACKDATE`] after notBefore: a third of a two-minute certificate
/// is 40 seconds.
pub fn renewal_time(
    not_before: Timestamp,
    not_after: Timestamp,
    renew_before: Option<Duration>,
    seed: &str,
) -> Timestamp {
    let window = window(not_before, not_after, renew_before);
    let jitter = (window / 10).mul_f64(fraction(seed));
    let due = validity::earlier(validity::earlier(not_after, window), jitter);
    validity::whole_seconds(due).max(not_before)
}

impl Validity {
    /// The dates of a certificate that `root` signs at `now`: `duration` from now, but no longer than the root. Refused if it would be
    /// due for renewal at once, for such a certificate would be renewed again and again.
    pub fn plan(
        duration: Duration,
        renew_before: Option<Duration>,
        seed: &str,
        root: &Certificate,
        now: Timestamp,
    ) -> Result<Self, ValidityError> {
        root.check_dates(now).map_err(ValidityError::Root)?;
        let wanted = Self::starting(now, duration);
        let validity = Self { not_after: wanted.not_after.min(root.not_after()), ..wanted };

        let is_due = |validity: &Self| {
            renewal_time(validity.not_before, validity.not_after, renew_before, seed) <= now
        };
        if !is_due(&validity) {
            return Ok(validity);
        }
        let window = window(validity.not_before, validity.not_after, renew_before);
        let renew_before = validity::readable(window);
        Err(if is_due(&wanted) {
            ValidityError::RenewBeforeTooLong { duration: validity::readable(duration), renew_before }
        } else {
            ValidityError::RootEndsTooSoon { root_not_after: root.not_after(), renew_before }
        })
    }
}

/// How long before its end a certificate is renewed, jitter aside.
fn window(not_before: Timestamp, not_after: Timestamp, renew_before: Option<Duration>) -> Duration {
    let signed_at = validity::signed_at(not_before);
    renew_before.unwrap_or_else(|| validity::between(signed_at, not_after) / 3)
}

/// A number from 0 up to, but not, 1, that looks random and is always the same for the same seed.
fn fraction(seed: &str) -> f64 {
    let digest = digest(&SHA256, seed.as_bytes());
    let mut leading = [0; 4];
    leading.copy_from_slice(&digest.as_ref()[..4]);
    f64::from(u32::from_be_bytes(leading)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample::{self, DAY, now};
    use crate::{RootProfile, SigningRoot};

    const HOUR: Duration = Duration::from_hours(1);

    /// Dates as [`Validity::plan`] makes them.
    fn dates(duration: Duration) -> (Timestamp, Timestamp) {
        let validity = Validity::starting(now(), duration);
        (validity.not_before, validity.not_after)
    }

    fn root_of(duration: Duration) -> SigningRoot {
        let profile = RootProfile { duration, ..sample::root_profile() };
        SigningRoot::generate(&profile, sample::serial(1), now()).unwrap()
    }

    proptest! {
        #[test]
        fn a_certificate_is_renewed_while_it_is_valid_and_never_later_than_was_asked(
            seconds in 60_u64..400_000_000,
            renew_before in prop::option::of(1_u64..400_000_000),
            seed in "[0-9a-f-]{36}",
        ) {
            let (not_before, not_after) = dates(Duration::from_secs(seconds));
            let renew_before = renew_before.map(Duration::from_secs);
            let due = renewal_time(not_before, not_after, renew_before, &seed);
            let window = renew_before.unwrap_or(Duration::from_secs(seconds) / 3);
            let latest = validity::earlier(not_after, window).max(not_before);
            let earliest = validity::earlier(not_after, window + window / 10 + Duration::from_secs(1));

            prop_assert!(not_before <= due && due < not_after);
            prop_assert!(due <= latest, "{due} is later than {latest}");
            prop_assert!(due >= earliest.max(not_before), "{due} is earlier than {earliest}");
            prop_assert_eq!(due.subsec_nanosecond(), 0);
            prop_assert_eq!(due, renewal_time(not_before, not_after, renew_before, &seed), "the same every time");
        }

        #[test]
        fn what_is_planned_is_never_due_at_once_nor_outlives_the_root(
            duration in 1_u64..1_000_000,
            renew_before in prop::option::of(1_u64..1_000_000),
            age in 0_u64..1_000_000,
        ) {
            let root = &*SHORT_ROOT;
            let now = now() + Duration::from_secs(age);
            let renew_before = renew_before.map(Duration::from_secs);
            let planned = Validity::plan(Duration::from_secs(duration), renew_before, "uid", root, now);
            if let Ok(validity) = planned {
                prop_assert!(validity.not_after() <= root.not_after());
                let due = renewal_time(validity.not_before(), validity.not_after(), renew_before, "uid");
                prop_assert!(due > now);
                validity.check(now).unwrap();
            } else {
                // Refused only for a reason: the root's end, or too long a renewBefore, or a life of seconds.
                let left = validity::between(now, root.not_after());
                let wanted = Duration::from_secs(duration).min(left);
                let window = renew_before.unwrap_or(wanted / 3);
                prop_assert!(window + window / 10 + Duration::from_secs(2) >= wanted);
            }
        }
    }

    static SHORT_ROOT: std::sync::LazyLock<Certificate> =
        std::sync::LazyLock::new(|| root_of(Duration::from_secs(1_000_000)).certificate().clone());

    #[test]
    fn a_two_minute_certificate_is_renewed_after_about_80_seconds() {
        // notBefore lies 5 minutes back; counting from there, it would be due before it is issued.
        let (not_before, not_after) = dates(Duration::from_mins(2));
        let due = renewal_time(not_before, not_after, None, "uid");
        let after = validity::between(now(), due).as_secs();
        assert!((75..=80).contains(&after), "{after} s");
    }

    #[test]
    fn a_fleet_that_was_made_at_once_is_renewed_over_a_tenth_of_the_window() {
        let (not_before, not_after) = dates(90 * DAY);
        let due: Vec<_> = (0..1000)
            .map(|device| renewal_time(not_before, not_after, None, &format!("device-{device}")))
            .collect();
        let (first, last) = (due.iter().min().unwrap(), due.iter().max().unwrap());
        let spread = validity::between(*first, *last);
        assert!(spread > 70 * HOUR && spread <= 72 * HOUR, "{}", validity::readable(spread));
        let first_half = due.iter().filter(|due| **due < *first + spread / 2).count();
        assert!((400..600).contains(&first_half), "{first_half} of 1000 in the first half");
    }

    #[test]
    fn what_would_be_due_at_once_is_refused_with_the_remedy() {
        let root = root_of(10 * DAY);
        let plan = |duration, renew_before, now| {
            Validity::plan(duration, renew_before, "uid", root.certificate(), now)
        };

        plan(DAY, None, now()).unwrap();
        let error = plan(DAY, Some(DAY), now()).unwrap_err().to_string();
        assert_eq!(
            error,
            "a certificate of 24h would already be due, because it is to be renewed 24h before it expires: \
             make duration longer or renewBefore shorter"
        );
        let late = now() + 9 * DAY + 12 * HOUR;
        let error = plan(5 * DAY, Some(DAY), late).unwrap_err().to_string();
        assert_eq!(
            error,
            "a certificate would already be due, because its root expires at 2026-03-11T12:00:00Z and it is to be \
             renewed 24h earlier: replace the root, or make renewBefore shorter"
        );
        let capped = plan(5 * DAY, None, late).unwrap();
        assert_eq!(capped.not_after(), root.certificate().not_after());
    }
}
