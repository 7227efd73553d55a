//! When a certificate is renewed, and how long a new one is to live.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;

use crate::certificate::Certificate;
use crate::validity::{self, BACKDATE, DateError, Validity};

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
    let signed_at = validity::later(not_before, BACKDATE);
    renew_before.unwrap_or_else(|| validity::between(signed_at, not_after) / 3)
}

/// A number from 0 up to, but not, 1, that looks random and is always the same for the same seed.
fn fraction(seed: &str) -> f64 {
    let digest = digest(&SHA256, seed.as_bytes());
    let mut leading = [0; 4];
    leading.copy_from_slice(&digest.as_ref()[..4]);
    f64::from(u32::from_be_bytes(leading)) / (f64::from(u32::MAX) + 1.0)
}
