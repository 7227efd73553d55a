//! The roots that can sign now. The `RootCA` controller puts them here, whoever needs a certificate takes them.
//!
//! Nothing here matters after a crash: it is read from the cluster again.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures::channel::mpsc;
use pki::SigningRoot;

use crate::children::Key;

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
#[derive(Default)]
pub struct Roots {
    /// None: it was looked at, and cannot sign.
    known: RwLock<HashMap<(String, String), Option<Arc<UsableRoot>>>>,
    /// Who wants to know of a change.
    listeners: Vec<mpsc::UnboundedSender<Key>>,
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
    /// An empty registry that tells these of every change, as the `RootCA` that changed.
    pub fn telling(listeners: Vec<mpsc::UnboundedSender<Key>>) -> Self {
        Self { known: RwLock::default(), listeners }
    }

    /// What is known of the root `name`.
    pub fn look_up(&self, namespace: &str, name: &str) -> Lookup {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        match known.get(&(namespace.to_owned(), name.to_owned())) {
            None => Lookup::Unknown,
            Some(None) => Lookup::Unusable,
            Some(Some(root)) => Lookup::Usable(Arc::clone(root)),
        }
    }

    /// From now on this is the root `name`; none: it cannot sign.
    pub fn put(&self, namespace: &str, name: &str, root: Option<Arc<UsableRoot>>) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = known.insert(key, root.clone());
        drop(known);
        let same = match (&before, &root) {
            (Some(Some(before)), Some(root)) => before.says_the_same(root),
            (Some(None), None) => true,
            _ => false,
        };
        if !same {
            self.tell(namespace, name);
        }
    }

    /// The root `name` is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&key);
        self.tell(namespace, name);
    }

    fn tell(&self, namespace: &str, name: &str) {
        for listener in &self.listeners {
            let root = Key { kind: "RootCA".into(), namespace: namespace.into(), name: name.into() };
            // A controller that has ended needs no news.
            let _ = listener.unbounded_send(root);
        }
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
