//! The dates of a certificate.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use time::OffsetDateTime;
use x509_parser::time::ASN1Time;

/// How far notBefore and thisUpdate lie before the moment of signing: devices with a slow clock must not take what
/// is new for not yet valid.
pub const BACKDATE: Duration = Duration::from_mins(5);

/// From when to when a certificate is valid, both seconds included (RFC 5280, 4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub(crate) not_before: Timestamp,
    /// The last second.
    pub(crate) not_after: Timestamp,
}

/// Why a certificate cannot be used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DateError {
    /// Its time has not come.
    #[error("is not valid before {not_before}")]
    NotYetValid {
        /// When its time comes.
        not_before: Timestamp,
    },
    /// Its time is over.
    #[error("expired at {not_after}")]
    Expired {
        /// When its time was over.
        not_after: Timestamp,
    },
}

/// When something was signed that is valid from `valid_from`.
pub fn signed_at(valid_from: Timestamp) -> Timestamp {
    later(valid_from, BACKDATE)
}

impl Validity {
    /// The life of something signed at `now`, backdated, in whole seconds.
    pub(crate) fn starting(now: Timestamp, duration: Duration) -> Self {
        let now = whole_seconds(now);
        Self { not_before: earlier(now, BACKDATE), not_after: whole_seconds(later(now, duration)) }
    }

    /// The first second of validity.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last second of validity.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether `now` lies within.
    pub fn check(&self, now: Timestamp) -> Result<(), DateError> {
        if now < self.not_before {
            return Err(DateError::NotYetValid { not_before: self.not_before });
        }
        // Valid through the last second, not only until its beginning.
        if whole_seconds(now) > self.not_after {
            return Err(DateError::Expired { not_after: self.not_after });
        }
        Ok(())
    }
}

/// `moment` without its fraction of a second: X.509 has none.
pub(crate) fn whole_seconds(moment: Timestamp) -> Timestamp {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment)
}

/// `moment + by`, no later than the end of time.
pub(crate) fn later(moment: Timestamp, by: Duration) -> Timestamp {
    moment.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// `moment - by`, no earlier than the beginning of time.
pub(crate) fn earlier(moment: Timestamp, by: Duration) -> Timestamp {
    moment.checked_sub(by).unwrap_or(Timestamp::MIN)
}

/// The time from `start` to `end`; none when `end` comes first.
pub(crate) fn between(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or(Duration::ZERO)
}

/// A duration as people read it: `2h 30m`.
pub(crate) fn readable(duration: Duration) -> String {
    SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{duration:?}"), |signed| format!("{signed:#}"))
}

/// For rcgen, which writes `UTCTime` through 2049 and `GeneralizedTime` from 2050 on.
pub(crate) fn to_rcgen(moment: Timestamp) -> OffsetDateTime {
    // Both types reach the year 9999.
    OffsetDateTime::from_unix_timestamp(moment.as_second()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// From a certificate. 99991231235959Z, "no end" by RFC 5280, lies hours past the last instant that jiff knows.
pub(crate) fn from_asn1(moment: ASN1Time) -> Timestamp {
    let seconds = moment.timestamp();
    Timestamp::from_second(seconds).unwrap_or(if seconds > 0 { Timestamp::MAX } else { Timestamp::MIN })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_certificate_is_valid_through_its_last_second() {
        let validity = Validity::starting(sample::now(), Duration::from_mins(1));
        assert_eq!(validity.not_before.to_string(), "2026-03-01T11:55:00Z");
        assert_eq!(validity.not_after.to_string(), "2026-03-01T12:01:00Z");

        let at = |moment: &str| validity.check(moment.parse().unwrap());
        assert_eq!(
            at("2026-03-01T11:54:59.9Z").unwrap_err().to_string(),
            "is not valid before 2026-03-01T11:55:00Z"
        );
        at("2026-03-01T11:55:00Z").unwrap();
        at("2026-03-01T12:01:00.9Z").unwrap();
        assert_eq!(at("2026-03-01T12:01:01Z").unwrap_err().to_string(), "expired at 2026-03-01T12:01:00Z");
    }

    #[test]
    fn a_certificate_without_an_end_can_be_read() {
        let no_end = ASN1Time::from_timestamp(253_402_300_799).unwrap();
        assert_eq!(no_end.to_datetime().year(), 9999);
        assert_eq!(from_asn1(no_end), Timestamp::MAX);
    }

    #[test]
    fn a_duration_past_the_end_of_time_stays_within_it() {
        let validity = Validity::starting(sample::now(), Duration::MAX);
        assert_eq!(to_rcgen(validity.not_after).year(), 9999);
    }
}
