//! Revocation lists that were handed over, and how they get into a set. A mounted Secret takes its time to change; a list proves
//! itself by its signature, so it need not come that way.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use pki::{Crl, TrustBundle};
use tokio::sync::Notify;

/// Lists that were handed over.
#[derive(Debug, Default)]
pub(crate) struct Pushed {
    known: Mutex<Known>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Known {
    version: u64,
    /// The roots of the last set that was seen.
    trust: Option<TrustBundle>,
    /// The list with the highest number of each of them.
    lists: Vec<Crl>,
}

// === impl Pushed ===

impl Pushed {
    /// From now on lists of these roots are taken, and of no others.
    pub(crate) fn trust(&self, roots: &str) {
        let Ok(trust) = TrustBundle::from_pem(roots) else { return };
        let mut known = self.lock();
        known.lists.retain(|list| trust.roots().any(|root| list.verify(root).is_ok()));
        known.trust = Some(trust);
    }

    /// Takes lists of trusted roots that are later than those known: whoever hands over others changes nothing. Whether they count is
    /// decided when a set is made.
    pub(crate) fn take(&self, crls: Vec<Crl>) {
        let mut known = self.lock();
        let Known { version, trust, lists } = &mut *known;
        for crl in crls {
            let Some(root) = trust.iter().flat_map(TrustBundle::roots).find(|root| crl.verify(root).is_ok())
            else {
                continue;
            };
            match lists.iter_mut().find(|list| list.verify(root).is_ok()) {
                Some(list) if list.number() >= crl.number() => continue,
                Some(list) => *list = crl,
                None => lists.push(crl),
            }
            *version += 1;
        }
        self.news.notify_one();
    }

    /// Rises whenever lists are taken.
    pub(crate) fn version(&self) -> u64 {
        self.lock().version
    }

    /// Returns when lists were taken since the last time.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// `mounted` with every list replaced by the latest one of the same root that was handed over and is in date. As it is, where
    /// it cannot be read: the checks of the set will say why.
    pub(crate) fn latest(&self, mounted: &str, roots: &str, now: Timestamp) -> String {
        let known = self.lock();
        let (Ok(mounted_lists), Ok(trust)) = (Crl::all_from_pem(mounted), TrustBundle::from_pem(roots))
        else {
            return mounted.to_owned();
        };
        let latest = |list: &Crl| -> Option<&Crl> {
            let root = trust.roots().find(|root| list.verify(root).is_ok())?;
            let later = known.lists.iter().filter(|it| it.number() > list.number());
            let valid = later.filter(|it| it.check_dates(now).is_ok() && it.verify(root).is_ok());
            valid.max_by_key(|it| it.number())
        };
        let replaced: Vec<_> = mounted_lists.iter().map(|list| (list, latest(list))).collect();
        if replaced.iter().all(|(_, latest)| latest.is_none()) {
            return mounted.to_owned();
        }
        replaced.into_iter().map(|(list, latest)| latest.unwrap_or(list).to_pem()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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

        pushed.trust(&roots);
        pushed.take(vec![list(&stranger, 99), list(&one, 4), list(&two, 4)]);
        let version = pushed.version();
        pushed.take((100..120).map(|number| list(&stranger, number)).chain([list(&two, 2)]).collect());
        assert_eq!(pushed.version(), version, "what does not count is no news");
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
