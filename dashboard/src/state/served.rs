//! When to look which certificate the broker presents, and what was seen. A look is a TLS handshake, which costs the
//! broker a line in its log and a millisecond: one each time the session is new, and now and then; more often only while
//! what is seen is not what is wanted.

use super::wire::Handshake;

/// Now and then.
const EVERY_MS: i64 = 5 * 60_000;
/// While another certificate is wanted, and then twice as long each time: the broker takes it up within seconds, or not by
/// itself.
const WHILE_OTHER_MS: i64 = 4_000;

/// The last look.
#[derive(Debug, Default)]
pub(super) struct Looks {
    seen: Option<Handshake>,
    tried: Option<i64>,
    /// Looks in a row that did not see what is wanted.
    in_vain: u32,
}

impl Looks {
    /// What was seen last.
    pub(super) fn seen(&self) -> Option<&Handshake> {
        self.seen.as_ref()
    }

    /// Whether to look at `now`: `wanted` are the serial numbers of the brokers' Secrets, `connected` is since when there is a
    /// session, or none.
    pub(super) fn due(&self, wanted: &[&str], connected: i64, now: i64) -> bool {
        let Some(tried) = self.tried.filter(|tried| *tried >= connected) else { return true };
        let right = self.seen.as_ref().is_some_and(|seen| wanted.contains(&&*seen.serial_number));
        let wait = if right || wanted.is_empty() {
            EVERY_MS
        } else {
            WHILE_OTHER_MS.saturating_mul(1 << self.in_vain.min(16)).min(EVERY_MS)
        };
        now - tried >= wait
    }

    pub(super) fn take(&mut self, seen: Handshake, wanted: &[&str]) {
        self.in_vain = if wanted.contains(&&*seen.serial_number) { 0 } else { self.in_vain + 1 };
        self.tried = Some(seen.at);
        self.seen = Some(seen);
    }

    pub(super) fn failed(&mut self, now: i64) {
        self.in_vain += 1;
        self.tried = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(serial: &str, at: i64) -> Handshake {
        Handshake {
            endpoint: "broker:8883".into(),
            at,
            serial_number: serial.into(),
            fingerprint: "ff".into(),
            not_after: 0,
            distrust: None,
        }
    }

    #[test]
    fn the_first_look_is_due_at_once_and_the_next_after_a_new_session() {
        let mut looks = Looks::default();
        assert!(looks.due(&["0a"], 0, 0));
        looks.take(seen("0a", 1), &["0a"]);
        assert!(!looks.due(&["0a"], 0, EVERY_MS));
        assert!(looks.due(&["0a"], 0, EVERY_MS + 1));
        assert!(looks.due(&["0a"], 2, 2), "the session is newer than the look");
    }

    #[test]
    fn a_certificate_that_is_not_the_wanted_one_is_looked_at_until_it_is() {
        let mut looks = Looks::default();
        looks.take(seen("0a", 0), &["0a"]);
        assert!(!looks.due(&["0b"], 0, WHILE_OTHER_MS - 1));
        assert!(looks.due(&["0b"], 0, WHILE_OTHER_MS));
        looks.take(seen("0b", WHILE_OTHER_MS), &["0b"]);
        assert!(!looks.due(&["0b"], 0, 2 * WHILE_OTHER_MS));
    }

    #[test]
    fn a_broker_that_stays_with_another_certificate_is_asked_ever_more_rarely() {
        let mut looks = Looks::default();
        let mut now = 0;
        let mut count = 0;
        while now < 60 * 60_000 {
            if looks.due(&["0b"], 0, now) {
                looks.take(seen("0a", now), &["0b"]);
                count += 1;
            }
            now += 1_000;
        }
        assert!((12..20).contains(&count), "{count} looks in an hour");
    }

    #[test]
    fn a_broker_that_does_not_answer_is_not_asked_all_the_time() {
        let mut looks = Looks::default();
        looks.failed(0);
        assert!(!looks.due(&["0b"], 0, 1));
    }
}
