//! What the operator has made, as far as its metadata tells: enough to see what is missing, changed or to be kept,
//! without holding a single Secret.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};

use api::names::{LABEL_KIND, LABEL_NAME, managed_selector};
use futures::TryStreamExt as _;
use k8s_openapi::Resource as _;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PartialObjectMeta};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::key::Key;
use crate::triggers::Triggers;

/// What is known of an object of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Tells it from an earlier object of the same name.
    pub uid: String,
    /// Rises with every write (Kubernetes 1.35 makes comparing them official).
    pub resource_version: u64,
    /// Rises with every change of the spec, where the kind has one.
    pub generation: Option<i64>,
    /// A digest of labels and owners, which change without a new generation.
    pub marks: u64,
    /// Whose it is, by its labels: kind and name of the resource.
    pub owner: Option<(String, String)>,
    /// The annotations of this project.
    pub annotations: BTreeMap<String, String>,
}

/// What changes when somebody changes what was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The generation, or, for kinds without one, the version.
    version: u64,
    marks: u64,
}

/// Everything that the operator has made, kept up to date by watches.
#[derive(Default)]
pub struct Children {
    known: Mutex<HashMap<Key, Child>>,
}

// === impl Child ===

impl Child {
    /// From an object's metadata; none when it was never stored.
    pub fn from_meta(meta: &ObjectMeta) -> Option<Self> {
        let mut marks = DefaultHasher::new();
        meta.labels.hash(&mut marks);
        meta.owner_references.iter().flatten().for_each(|owner| owner.uid.hash(&mut marks));
        Some(Self {
            uid: meta.uid.clone()?,
            resource_version: meta.resource_version.as_ref()?.parse().ok()?,
            generation: meta.generation,
            marks: marks.finish(),
            owner: labelled_owner(meta),
            annotations: meta
                .annotations
                .iter()
                .flatten()
                .filter(|(key, _)| key.starts_with("ca-iot.dev/"))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        })
    }

    /// What changes when somebody changes what was applied.
    pub fn revision(&self) -> Revision {
        let generation = self.generation.and_then(|generation| u64::try_from(generation).ok());
        Revision { version: generation.unwrap_or(self.resource_version), marks: self.marks }
    }
}

// === impl Children ===

impl Children {
    /// What is known of `key`.
    pub fn get(&self, key: &Key) -> Option<Child> {
        self.lock().get(key).cloned()
    }

    /// Shows the Secrets that belong to resources of a kind in `namespace`: the resource's name, and our annotations.
    pub fn visit_secrets_of<K: Resource<DynamicType = ()>>(
        &self,
        namespace: &str,
        visit: impl FnMut(&str, &BTreeMap<String, String>),
    ) {
        self.visit_secrets_of_kind(&K::kind(&()), namespace, visit);
    }

    /// The same, for a kind that is known by its name.
    pub fn visit_secrets_of_kind(
        &self,
        kind: &str,
        namespace: &str,
        mut visit: impl FnMut(&str, &BTreeMap<String, String>),
    ) {
        self.visit(Secret::KIND, |key, child| {
            if let Some((owner_kind, owner)) = &child.owner
                && owner_kind == kind
                && key.namespace == namespace
            {
                visit(owner, &child.annotations);
            }
        });
    }

    /// Shows everything of a kind that was made.
    pub fn visit(&self, kind: &str, mut visit: impl FnMut(&Key, &Child)) {
        let known = self.lock();
        known.iter().filter(|(key, _)| key.kind == kind).for_each(|(key, child)| visit(key, child));
    }

    /// Takes note of what was just written or read, so that the watch's echo of it is no news.
    pub fn note(&self, key: Key, child: Child) -> bool {
        let mut known = self.lock();
        let news = known.get(&key).is_none_or(|old| old.resource_version < child.resource_version);
        if news {
            known.insert(key, child);
        }
        news
    }

    /// It is gone: what was known of it.
    pub fn forget(&self, key: &Key) -> Option<Child> {
        self.lock().remove(key)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Child>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the objects of one kind for ever, and triggers whoever they belong to.
    pub async fn follow<K>(
        &self,
        objects: Api<PartialObjectMeta<K>>,
        triggers: &Triggers,
        synced: impl FnOnce() + Send,
    ) where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let config = watcher::Config::default().labels(&managed_selector());
        let mut events = std::pin::pin!(watcher(objects, config).default_backoff());
        let mut listing: HashSet<Key> = HashSet::new();
        let mut synced = Some(synced);
        loop {
            match events.try_next().await {
                Ok(Some(watcher::Event::Apply(object))) => self.seen(&object, triggers),
                Ok(Some(watcher::Event::InitApply(object))) => {
                    listing.extend(key_of(&object));
                    self.seen(&object, triggers);
                }
                Ok(Some(watcher::Event::Delete(object))) => {
                    let child = key_of(&object).and_then(|key| self.forget(&key));
                    tell(&object, child.as_ref(), triggers);
                }
                Ok(Some(watcher::Event::Init)) => listing.clear(),
                Ok(Some(watcher::Event::InitDone)) => {
                    self.forget_unlisted(&K::kind(&()), &listing, triggers);
                    listing = HashSet::new();
                    if let Some(synced) = synced.take() {
                        synced();
                    }
                }
                Ok(None) => return,
                Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "watching failed; trying again"),
            }
        }
    }

    fn seen<K: Resource<DynamicType = ()>>(&self, object: &PartialObjectMeta<K>, triggers: &Triggers) {
        let (Some(key), Some(child)) = (key_of(object), Child::from_meta(&object.metadata)) else { return };
        let before = self.get(&key);
        if self.note(key, child.clone()) {
            tell(object, Some(&child), triggers);
            // Somebody changed the labels that say whose it is.
            if before.as_ref().is_some_and(|before| before.owner != child.owner) {
                tell(object, before.as_ref(), triggers);
            }
        }
    }

    /// What was deleted while no watch ran.
    fn forget_unlisted(&self, kind: &str, listed: &HashSet<Key>, triggers: &Triggers) {
        let gone: Vec<_> =
            self.lock().extract_if(|key, _| key.kind == kind && !listed.contains(key)).collect();
        for (key, child) in gone {
            if let Some((kind, name)) = child.owner {
                triggers.child_changed(Key { kind, namespace: key.namespace, name });
            }
        }
    }
}

/// Whose the object with this metadata is, by its labels: kind and name of the resource.
pub fn labelled_owner(meta: &ObjectMeta) -> Option<(String, String)> {
    let label = |name: &str| meta.labels.as_ref().and_then(|labels| labels.get(name)).cloned();
    label(LABEL_KIND).zip(label(LABEL_NAME))
}

fn key_of<K: Resource<DynamicType = ()>>(object: &PartialObjectMeta<K>) -> Option<Key> {
    Some(Key::of::<K>(object.metadata.namespace.as_deref()?, object.metadata.name.as_deref()?))
}

fn tell<K>(object: &PartialObjectMeta<K>, child: Option<&Child>, triggers: &Triggers)
where
    K: Resource<DynamicType = ()>,
{
    let Some((kind, name)) = child.and_then(|child| child.owner.clone()) else { return };
    let Some(namespace) = object.metadata.namespace.clone() else { return };
    triggers.child_changed(Key { kind, namespace, name });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::triggers::Trigger;

    fn child(version: u64) -> Child {
        Child {
            uid: "u".into(),
            resource_version: version,
            generation: None,
            marks: 0,
            owner: Some(("IotDevice".into(), "d".into())),
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn the_echo_of_an_own_write_is_no_news() {
        let children = Children::default();
        let key = Key::of::<Secret>("ns", "s");
        assert!(children.note(key.clone(), child(7)));
        assert!(!children.note(key.clone(), child(7)));
        assert!(!children.note(key.clone(), child(6)));
        assert!(children.note(key, child(8)));
    }

    #[test]
    fn what_was_deleted_unwatched_is_told_to_its_owner() {
        let children = Children::default();
        children.note(Key::of::<Secret>("ns", "gone"), child(7));
        children.note(Key::of::<Secret>("ns", "there"), child(8));
        let (triggers, mut queues) = Triggers::new();
        children.forget_unlisted("Secret", &HashSet::from([Key::of::<Secret>("ns", "there")]), &triggers);
        let trigger = Trigger::One { namespace: "ns".into(), name: "d".into() };
        assert_eq!(queues.devices.try_recv(), Ok(trigger));
        assert!(queues.devices.try_recv().is_err());
        assert!(children.get(&Key::of::<Secret>("ns", "gone")).is_none());
    }
}
