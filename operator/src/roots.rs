//! The roots that can sign now. The `RootCA` controller puts them here, whoever needs a certificate takes them.
//!
//! Nothing here matters after a crash: it is read from the cluster again.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use pki::{RevocationReason, SerialNumber, SigningRoot};

use crate::triggers::Triggers;

/// A root that can sign: its generations, who gets a certificate of which, and what everybody is to trust.
#[derive(Debug)]
pub struct UsableRoot {
    /// The name of the `RootCA`.
    pub name: String,
    /// The generations that are trusted, the oldest first: one, or two while the root is being replaced.
    pub generations: Vec<Signer>,
    /// Which of them signs for whom.
    pub signing: Signing,
    /// Every trusted root, as PEM.
    pub bundle: String,
    /// One CRL for each trusted root, as PEM, in the order of the generations.
    pub crls: String,
    /// What these CRLs list.
    pub revoked: Revoked,
    /// When a CRL was signed last, as far as is remembered.
    pub signed_at: Option<Timestamp>,
}

/// One generation of a root.
#[derive(Clone, Debug)]
pub struct Signer {
    /// Counts from 1.
    pub number: u32,
    /// Certificate and key.
    pub signing: Arc<SigningRoot>,
    /// The number of its CRL.
    pub crl_number: u64,
    /// The CRL distribution point that stands in certificates.
    pub crl_distribution_url: Option<String>,
}

/// Which generation signs for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signing {
    /// For brokers.
    pub brokers: u32,
    /// For dashboards, and for the operator itself.
    pub dashboards: u32,
    /// For devices.
    pub devices: u32,
    /// Over how long devices change to their generation, since when.
    pub spread: Option<Spread>,
}

/// Devices change one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The first moment.
    pub since: Timestamp,
    /// How long until the last one has changed.
    pub over: Duration,
}

/// The kinds of holders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An `IotDevice`.
    Device,
    /// An `MqttBroker`.
    Broker,
    /// A `Dashboard`.
    Dashboard,
}

/// What a root's CRLs list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked(HashMap<SerialNumber, Listing>);

/// An entry of a CRL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Why.
    pub reason: RevocationReason,
    /// The generation whose CRL it is.
    pub generation: u32,
    /// A CRL that has the entry; the first one, if this process has seen it signed.
    pub crl_number: u64,
}

/// The roots that can sign now, by namespace and name.
pub struct Roots {
    known: RwLock<HashMap<(String, String), Lookup>>,
    triggers: Triggers,
}

/// What is known of a root.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// Its controller has not looked at it, or it does not exist.
    Unknown,
    /// It cannot sign.
    Unusable,
    /// It can.
    Usable(Arc<UsableRoot>),
}

// === impl Roots ===

impl Roots {
    /// An empty registry.
    pub fn new(triggers: Triggers) -> Self {
        Self { known: RwLock::default(), triggers }
    }

    /// What is known of the root `name`.
    pub fn look_up(&self, namespace: &str, name: &str) -> Lookup {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&(namespace.to_owned(), name.to_owned())).cloned().unwrap_or(Lookup::Unknown)
    }

    /// The root `name`, if it can sign.
    pub fn usable(&self, namespace: &str, name: &str) -> Option<Arc<UsableRoot>> {
        match self.look_up(namespace, name) {
            Lookup::Usable(root) => Some(root),
            Lookup::Unknown | Lookup::Unusable => None,
        }
    }

    /// From now on this is the root `name`; none: it cannot sign.
    pub fn put(&self, namespace: &str, name: &str, root: Option<UsableRoot>) {
        let now = root.map_or(Lookup::Unusable, |root| Lookup::Usable(Arc::new(root)));
        let key = (namespace.to_owned(), name.to_owned());
        let before = self.known.write().unwrap_or_else(PoisonError::into_inner).insert(key, now.clone());
        match (&before, &now) {
            (Some(Lookup::Usable(before)), Lookup::Usable(now)) if before.signs_the_same(now) => {
                if before.crls != now.crls {
                    self.triggers.crl_changed(namespace);
                }
            }
            (Some(Lookup::Unusable), Lookup::Unusable) => {}
            _ => self.triggers.root_changed(namespace),
        }
    }

    /// The root `name` is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&key);
        self.triggers.root_changed(namespace);
    }
}

// === impl UsableRoot ===

impl UsableRoot {
    /// Who signs the certificate of a holder now, and when that will be another. `seed` tells holders apart, `has` is the
    /// generation of the certificate that the holder has: nobody goes back to an older one that is trusted as well.
    pub fn signer(
        &self,
        kind: Kind,
        seed: &str,
        has: Option<u32>,
        now: Timestamp,
    ) -> (&Signer, Option<Timestamp>) {
        let Signing { brokers, dashboards, devices, spread } = self.signing;
        let wanted = match kind {
            Kind::Broker => brokers,
            Kind::Dashboard => dashboards,
            Kind::Device => devices,
        };
        let slot = spread.filter(|_| kind == Kind::Device).map(|spread| spread.slot(seed));
        if let Some(slot) = slot.filter(|slot| *slot > now)
            && let Some(before) = self.generations.iter().rev().find(|it| it.number < wanted)
            && has.is_some_and(|has| has == before.number)
        {
            return (before, Some(slot));
        }
        let number = self
            .generations
            .iter()
            .map(|it| it.number)
            .find(|number| has == Some(*number) && *number > wanted)
            .unwrap_or(wanted);
        (self.generation(number), None)
    }

    /// Whether the certificate with this serial number need not be replaced for being revoked: it is not, or it is on hold.
    pub fn allows(&self, serial_number: &str) -> bool {
        let reason = serial_number.parse().ok().and_then(|serial| self.revoked.reason(serial));
        reason.is_none_or(|reason| reason == RevocationReason::CertificateHold)
    }

    /// Whether the generation of this number was replaced, so that nobody trusts it any more.
    pub fn has_retired(&self, generation: Option<i32>) -> bool {
        let number = generation.and_then(|number| u32::try_from(number).ok());
        number.is_some_and(|number| self.generations.iter().all(|trusted| number < trusted.number))
    }

    /// The generation that signs for devices.
    pub fn active(&self) -> &Signer {
        self.generation(self.signing.devices)
    }

    /// The generation that signs for the operator itself, as for dashboards.
    pub fn for_operator(&self) -> &Signer {
        self.generation(self.signing.dashboards)
    }

    /// The generation of this number, or the latest: there is always one.
    fn generation(&self, number: u32) -> &Signer {
        let latest = self.generations.len() - 1;
        self.generations.iter().find(|it| it.number == number).unwrap_or(&self.generations[latest])
    }

    fn signs_the_same(&self, other: &Self) -> bool {
        let urls = |root: &Self| -> Vec<_> {
            root.generations.iter().map(|it| it.crl_distribution_url.clone()).collect()
        };
        self.signing == other.signing && self.bundle == other.bundle && urls(self) == urls(other)
    }
}

// === impl Spread ===

impl Spread {
    /// When it is the turn of the holder `seed`.
    fn slot(&self, seed: &str) -> Timestamp {
        let digest = digest(&SHA256, format!("spread {seed}").as_bytes());
        let mut leading = [0; 4];
        leading.copy_from_slice(&digest.as_ref()[..4]);
        let share = f64::from(u32::from_be_bytes(leading)) / f64::from(u32::MAX);
        self.since + self.over.mul_f64(share)
    }
}

// === impl Revoked ===

impl Revoked {
    /// Why `serial` is revoked, if it is.
    pub fn reason(&self, serial: SerialNumber) -> Option<RevocationReason> {
        self.get(serial).map(|listing| listing.reason)
    }

    /// The entry of `serial`.
    pub fn get(&self, serial: SerialNumber) -> Option<Listing> {
        self.0.get(&serial).copied()
    }
}

impl FromIterator<(SerialNumber, Listing)> for Revoked {
    fn from_iter<I: IntoIterator<Item = (SerialNumber, Listing)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use pki::{RootProfile, Subject};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn root(signing: Signing) -> UsableRoot {
        let generations = [1, 2].map(|number| {
            let profile = RootProfile {
                subject: Subject::new("Test").unwrap(),
                generation: number,
                key_algorithm: pki::KeyAlgorithm::EcdsaP256,
                duration: Duration::from_hours(2),
            };
            let made = SigningRoot::generate(&profile, SerialNumber::from_random([7; 20]), at(0)).unwrap();
            Signer { number, signing: Arc::new(made), crl_number: 1, crl_distribution_url: None }
        });
        UsableRoot {
            name: "root-ca".into(),
            generations: generations.into(),
            signing,
            bundle: String::new(),
            crls: String::new(),
            revoked: Revoked::default(),
            signed_at: None,
        }
    }

    #[test]
    fn devices_change_one_after_the_other_and_nobody_goes_back() {
        let spread = Some(Spread { since: at(0), over: Duration::from_secs(100) });
        let root = root(Signing { brokers: 2, dashboards: 2, devices: 2, spread });
        let early = |now| {
            (0..50).filter(|n| root.signer(Kind::Device, &n.to_string(), Some(1), now).0.number == 1).count()
        };
        assert!(early(at(0)) >= 48 && early(at(50)) > 10 && early(at(50)) < 40 && early(at(101)) == 0);
        let (_, slot) = root.signer(Kind::Device, "7", Some(1), at(0));
        assert!(slot.is_some_and(|slot| slot > at(0) && slot <= at(100)), "{slot:?}");
        assert_eq!(root.signer(Kind::Device, "7", Some(2), at(0)).0.number, 2);
        assert_eq!(root.signer(Kind::Device, "7", None, at(0)).0.number, 2, "a new device does not wait");
    }

    #[test]
    fn until_their_phase_comes_everybody_stays_with_the_old_generation() {
        let root = root(Signing { brokers: 2, dashboards: 1, devices: 1, spread: None });
        assert_eq!(root.signer(Kind::Broker, "b", Some(1), at(0)).0.number, 2);
        assert_eq!(root.signer(Kind::Dashboard, "d", Some(1), at(0)).0.number, 1);
        assert_eq!(root.signer(Kind::Dashboard, "d", Some(2), at(0)).0.number, 2);
        assert_eq!(root.signer(Kind::Device, "x", None, at(0)).0.number, 1);
    }
}
