//! Revocation lists that were handed over, and how they get into a set. A mounted Secret takes its time to change; a list proves
//! itself by its signature, so it need not come that way.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use pki::{Crl, TrustBundle};
use tokio::sync::Notify;

/// The most lists that are kept: two roots are trusted at a time.
const KEPT: usize = 8;

/// Lists that were handed over, the latest first.
#[derive(Debug, Default)]
pub(crate) struct Pushed {
    lists: Mutex<(u64, Vec<Crl>)>,
    news: Notify,
}

// === impl Pushed ===

impl Pushed {
    /// Takes lists; whether they count is decided when a set is made.
    pub(crate) fn take(&self, crls: Vec<Crl>) {
        let mut lists = self.lock();
        lists.0 += 1;
        for crl in crls {
            lists.1.retain(|known| known.der() != crl.der());
            lists.1.insert(0, crl);
        }
        lists.1.truncate(KEPT);
        self.news.notify_one();
    }

    /// Rises whenever lists are taken.
    pub(crate) fn version(&self) -> u64 {
        self.lock().0
    }

    /// Returns when lists were taken since the last time.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// `mounted` with every list replaced by the latest one of the same root that was handed over and is in date. As it is, where
    /// it cannot be read: the checks of the set will say why.
    pub(crate) fn latest(&self, mounted: &str, roots: &str, now: Timestamp) -> String {
        let lists = self.lock();
        let (Ok(mounted_lists), Ok(trust)) = (Crl::all_from_pem(mounted), TrustBundle::from_pem(roots))
        else {
            return mounted.to_owned();
        };
        let latest = |list: &Crl| -> Option<&Crl> {
            let root = trust.roots().find(|root| list.verify(root).is_ok())?;
            let later = lists.1.iter().filter(|it| it.number() > list.number());
            let valid = later.filter(|it| it.check_dates(now).is_ok() && it.verify(root).is_ok());
            valid.max_by_key(|it| it.number())
        };
        let replaced: Vec<_> = mounted_lists.iter().map(|list| (list, latest(list))).collect();
        if replaced.iter().all(|(_, latest)| latest.is_none()) {
            return mounted.to_owned();
        }
        replaced.into_iter().map(|(list, latest)| latest.unwrap_or(list).to_pem()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, (u64, Vec<Crl>)> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pki::{CrlContents, KeyAlgorithm, RootProfile, SerialNumber, SigningRoot, Subject};

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn root(generation: u32) -> SigningRoot {
        let profile = RootProfile {
            subject: Subject::new("Test").unwrap(),
            generation,
            key_algorithm: KeyAlgorithm::EcdsaP256,
            duration: Duration::from_hours(2),
        };
        SigningRoot::generate(&profile, SerialNumber::generate().unwrap(), now()).unwrap()
    }

    fn list(root: &SigningRoot, number: u64) -> Crl {
        let contents = CrlContents { number, valid_for: Duration::from_mins(10), revoked: Vec::new() };
        root.sign_crl(&contents, now()).unwrap()
    }

    #[test]
    fn only_a_later_list_of_a_trusted_root_takes_the_place_of_the_mounted_one() {
        let (one, two, stranger) = (root(1), root(2), root(1));
        let roots = one.certificate().to_pem() + &two.certificate().to_pem();
        let mounted = list(&one, 5).to_pem() + &list(&two, 3).to_pem();
        let pushed = Pushed::default();
        assert_eq!(pushed.latest(&mounted, &roots, now()), mounted);

        pushed.take(vec![list(&stranger, 99), list(&one, 4), list(&two, 4)]);
        let latest = pushed.latest(&mounted, &roots, now());
        let numbers =
            |text: &str| -> Vec<_> { Crl::all_from_pem(text).unwrap().iter().map(Crl::number).collect() };
        assert_eq!(numbers(&latest), [5, 4], "neither a stranger's nor an earlier one");
        let caught_up = list(&one, 5).to_pem() + &list(&two, 4).to_pem();
        assert_eq!(numbers(&pushed.latest(&caught_up, &roots, now())), [5, 4]);
        let expired = now() + Duration::from_hours(1);
        assert_eq!(pushed.latest(&mounted, &roots, expired), mounted);
    }
}
