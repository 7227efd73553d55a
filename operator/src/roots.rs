//! The roots that can sign now. The `RootCA` controller puts them here, whoever needs a certificate takes them.
//!
//! Nothing here matters after a crash: it is read from the cluster again.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use pki::SigningRoot;

use crate::triggers::Triggers;

/// A root that can sign: its key, and what everybody is to trust.
#[derive(Debug)]
pub struct UsableRoot {
    /// The generation that signs.
    pub generation: u32,
    /// Its certificate and key.
    pub signing: SigningRoot,
    /// Every trusted root, as PEM.
    pub bundle: String,
    /// One CRL for each trusted root, as PEM.
    pub crls: String,
    /// The CRL distribution point that stands in certificates.
    pub crl_distribution_url: Option<String>,
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

    /// From now on this is the root `name`; none: it cannot sign.
    pub fn put(&self, namespace: &str, name: &str, root: Option<UsableRoot>) {
        let now = root.map_or(Lookup::Unusable, |root| Lookup::Usable(Arc::new(root)));
        let key = (namespace.to_owned(), name.to_owned());
        let before = self.known.write().unwrap_or_else(PoisonError::into_inner).insert(key, now.clone());
        let news = match (&before, &now) {
            (Some(Lookup::Usable(before)), Lookup::Usable(now)) => !before.says_the_same(now),
            (Some(Lookup::Unusable), Lookup::Unusable) => false,
            _ => true,
        };
        if news {
            self.triggers.root_changed(namespace);
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
    fn says_the_same(&self, other: &Self) -> bool {
        self.generation == other.generation
            && self.bundle == other.bundle
            && self.crls == other.crls
            && self.crl_distribution_url == other.crl_distribution_url
    }
}
