//! How long to wait before the next attempt.

use std::time::Duration;

use rustls::crypto::aws_lc_rs;

/// How long a certificate that was refused as revoked is not tried again: it may have been on hold. New files end the wait.
pub(crate) const REVOKED: Duration = Duration::from_mins(1);

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);

/// Exponential from 1 to 60 s with full jitter: after a broker's restart, thousands of devices come
/// back spread out rather than in step.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let ceiling = ceiling(self.attempts);
        self.attempts = self.attempts.saturating_add(1);
        ceiling.mul_f64(random_fraction())
    }

    /// The next failure is the first again.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

fn ceiling(attempts: u32) -> Duration {
    FIRST.saturating_mul(2_u32.saturating_pow(attempts)).min(LONGEST)
}

/// Uniform in 0..1.
fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness the wait is as long as it can be.
    match aws_lc_rs::default_provider().secure_random.fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_ne_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
        Err(_) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        let ceilings: Vec<_> = (0..8).map(|n| ceiling(n).as_secs()).collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(ceiling(u32::MAX), LONGEST);
    }

    #[test]
    fn waits_are_spread_below_the_ceiling() {
        let mut backoff = Backoff { attempts: 6 };
        let waits: Vec<_> = (0..200).map(|_| backoff.next()).collect();
        assert!(waits.iter().all(|wait| *wait < LONGEST));
        assert!(
            waits.iter().any(|wait| *wait < LONGEST / 4) && waits.iter().any(|wait| *wait > LONGEST * 3 / 4)
        );
    }
}
