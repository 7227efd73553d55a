//! Which certificates the CRL of a generation lists. Pure.
//!
//! An entry stays until its certificate would have ended, and three days more (RFC 5280, 3.3 wants it on one list after that). Only a
//! hold is taken back. Of a certificate that is already listed the first reason counts, unless it was a hold.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use pki::{RevocationReason, RevokedCertificate, SerialNumber};

use super::ledger::Generation;

/// How long after the end of its certificate an entry is kept.
const KEPT_AFTER_END: Duration = Duration::from_hours(72);
/// How many certificates can be revoked: a Secret holds 1 MiB, and an entry takes 24 octets in the ledger and up to 72 in the CRL's
/// PEM, as the test below measures.
pub const CAPACITY: usize = 10_000;

/// From this many entries on, nothing is added for having been replaced: its holder does not use it any more.
const ROOM_FOR_SUPERSEDED: usize = CAPACITY / 2;

/// A certificate that is to be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Which.
    pub serial: SerialNumber,
    /// When it ends.
    pub not_after: Timestamp,
    /// The generation that signed it; none: it is not known, so each lists it.
    pub generation: Option<u32>,
    /// Why.
    pub reason: RevocationReason,
}

/// What the next CRL of a generation lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entries {
    /// The entries.
    pub revoked: Vec<RevokedCertificate>,
    /// When each of their certificates ends.
    pub ends: BTreeMap<SerialNumber, Timestamp>,
    /// What is different from the CRL before; none: nothing but what has run out.
    pub news: Option<String>,
}

/// What the next CRL of `generation` lists when everything that is `due` is revoked.
pub fn entries(generation: &Generation, due: &[Due], now: Timestamp) -> Entries {
    let wanted: BTreeMap<SerialNumber, &Due> = due
        .iter()
        .filter(|due| due.generation.is_none_or(|number| number == generation.number))
        .map(|due| (due.serial, due))
        .collect();
    let mut ends = generation.ends.clone();
    let mut revoked = BTreeMap::new();
    let mut taken_back = 0;
    for entry in generation.crl.iter().flat_map(pki::Crl::revoked) {
        let still_held = || wanted.contains_key(&entry.serial);
        if entry.reason == RevocationReason::CertificateHold && !still_held() {
            taken_back += 1;
        } else if ends.get(&entry.serial).is_none_or(|end| *end + KEPT_AFTER_END > now) {
            revoked.insert(entry.serial, *entry);
        }
    }
    let mut added = BTreeMap::<String, usize>::new();
    // What was replaced comes last: there has to be room for what was lost.
    let mut wanted: Vec<_> = wanted.into_iter().collect();
    wanted.sort_by_key(|(_, due)| due.reason == RevocationReason::Superseded);
    for (serial, Due { not_after, reason, .. }) in wanted {
        let listed = revoked.get(&serial).map(|entry| entry.reason);
        let counts = match listed {
            None if *reason == RevocationReason::Superseded && revoked.len() >= ROOM_FOR_SUPERSEDED => false,
            None => *not_after > now,
            Some(before) => before == RevocationReason::CertificateHold && *reason != before,
        };
        if counts {
            revoked.insert(serial, RevokedCertificate { serial, revoked_at: now, reason: *reason });
            ends.insert(serial, *not_after);
            *added.entry(reason.to_string()).or_default() += 1;
        }
    }
    ends.retain(|serial, _| revoked.contains_key(serial));
    let mut news: Vec<_> =
        added.iter().map(|(reason, count)| format!("{count} revoked ({reason})")).collect();
    if taken_back > 0 {
        news.push(format!("{taken_back} not on hold any more"));
    }
    let news = (!news.is_empty()).then(|| news.join(", "));
    Entries { revoked: revoked.into_values().collect(), ends, news }
}

#[cfg(test)]
mod tests {
    use pki::{CrlContents, SigningRoot};

    use super::*;
    use crate::root_ca::plan::tests::{at, generation};

    fn serial(n: u8) -> SerialNumber {
        SerialNumber::from_random([n; 20])
    }

    fn due(n: u8, reason: RevocationReason) -> Due {
        Due { serial: serial(n), not_after: at(1000), generation: Some(1), reason }
    }

    /// The generation after it signed what `due` asks for at `now`.
    fn sign(before: &Generation, due: &[Due], now: Timestamp) -> Generation {
        let Entries { revoked, ends, .. } = entries(before, due, now);
        let number = before.crl.as_ref().map_or(1, |crl| crl.number() + 1);
        let contents = CrlContents { number, valid_for: Duration::from_mins(10), revoked };
        Generation { crl: Some(before.signing.sign_crl(&contents, now).unwrap()), ends, ..before.clone() }
    }

    fn listed(generation: &Generation) -> Vec<(SerialNumber, RevocationReason)> {
        generation.crl.iter().flat_map(pki::Crl::revoked).map(|entry| (entry.serial, entry.reason)).collect()
    }

    #[test]
    fn a_hold_is_taken_back_or_becomes_final_and_nothing_else_is_taken_back() {
        use RevocationReason::{CertificateHold, KeyCompromise, Superseded};
        let empty = generation(1, at(0));
        let held = sign(&empty, &[due(1, CertificateHold), due(2, KeyCompromise)], at(0));
        assert_eq!(listed(&held), [(serial(1), CertificateHold), (serial(2), KeyCompromise)]);
        assert_eq!(entries(&held, &[due(1, CertificateHold)], at(1)).news, None, "all of it is listed");

        let free = sign(&held, &[], at(1));
        assert_eq!(listed(&free), [(serial(2), KeyCompromise)]);
        let again = sign(&free, &[due(2, Superseded)], at(1));
        assert_eq!(listed(&again), [(serial(2), KeyCompromise)], "the first reason counts");
        let lost = sign(&held, &[due(1, KeyCompromise)], at(1));
        assert_eq!(listed(&lost)[0], (serial(1), KeyCompromise));
    }

    #[test]
    fn an_entry_goes_three_days_after_the_end_of_its_certificate() {
        let listing = sign(&generation(1, at(0)), &[due(1, RevocationReason::KeyCompromise)], at(0));
        let three_days = 3 * 24 * 3600;
        assert_eq!(entries(&listing, &[], at(1000 + three_days - 1)).revoked.len(), 1);
        let after = entries(&listing, &[], at(1000 + three_days));
        assert_eq!((after.revoked.len(), after.ends.len(), after.news), (0, 0, None));
    }

    #[test]
    fn a_certificate_that_has_ended_or_is_of_another_generation_is_not_listed() {
        let generation = generation(1, at(0));
        let mut of_another = due(2, RevocationReason::KeyCompromise);
        of_another.generation = Some(2);
        assert!(entries(&generation, &[of_another], at(0)).revoked.is_empty());
        assert!(
            entries(&generation, &[due(1, RevocationReason::KeyCompromise)], at(1000)).revoked.is_empty()
        );
    }

    /// The figure that [`CAPACITY`] rests on.
    #[test]
    fn a_secret_holds_as_many_entries_as_promised() {
        let generation = generation(1, at(0));
        let random = |_| SerialNumber::generate().unwrap();
        let due: Vec<_> = (0..CAPACITY)
            .map(random)
            .map(|serial| Due { serial, ..due(1, RevocationReason::CessationOfOperation) })
            .collect();
        let full = sign(&generation, &due, at(0));
        let root: &SigningRoot = &full.signing;
        assert!(full.crl.as_ref().unwrap().verify(root.certificate()).is_ok());
        let octets = full.crl.unwrap().to_pem().len() + full.ends.len() * 24;
        assert!(octets < 1_000_000, "{octets} octets leave no room for keys and certificates in 1 MiB");
    }
}
