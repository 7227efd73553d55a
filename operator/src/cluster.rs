//! The only module that writes to Kubernetes.
//!
//! | verb | for | how |
//! | --- | --- | --- |
//! | [`Cluster::create_once`] | keys | POST; what is there already stays as it is |
//! | [`Cluster::apply`] | everything else | server-side apply, skipped while nothing changed |
//! | [`Cluster::report`] | status | server-side apply of the status alone |
//! | [`Cluster::tell`] | people | one Event |
//! | [`Cluster::touch_pods`] | pods that mount what changed | an annotation, so that the kubelet looks at once |
//!
//! Nothing that the operator did not make is ever written to: an object of the same name without our label is
//! [`Foreign`], and stays byte for byte as it is.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use api::names::{LABEL_KIND, LABEL_MANAGED_BY, LABEL_NAME, MANAGER};
use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::children::{Child, Children, Key};
use crate::error::{Result, Trying as _, in_short};

/// The annotation that a pod gets when something that it mounts has changed.
const TOUCHED: &str = "ca-iot.dev/touched";

/// Writes, and the reads that a write needs.
pub struct Cluster {
    client: Client,
    identity: String,
    children: Arc<Children>,
    /// What was applied last, and the revision that this led to.
    applied: Mutex<HashMap<Key, (String, u64)>>,
}

/// An object of a name that we need and that somebody else made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Kind and name, as in "Secret x".
    pub object: String,
    /// Whose it seems to be.
    pub owner: String,
}

/// What became of a write.
#[derive(Debug)]
pub enum Written<T> {
    /// It stands as wanted.
    Done(T),
    /// It is somebody else's.
    Foreign(Foreign),
}

/// A namespaced kind that the operator makes.
pub trait Made:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned
{
}

impl<K> Made for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
{
}

// === impl Written ===

impl<T> Written<T> {
    /// Whose it is, if somebody else's.
    pub fn foreign(self) -> Option<Foreign> {
        match self {
            Self::Done(_) => None,
            Self::Foreign(foreign) => Some(foreign),
        }
    }
}

// === impl Cluster ===

impl Cluster {
    /// Writes as `identity`, the name of this replica.
    pub fn new(client: Client, identity: String, children: Arc<Children>) -> Self {
        Self { client, identity, children, applied: Mutex::default() }
    }

    /// The objects of a kind in `namespace`.
    pub fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(
        &self,
        namespace: &str,
    ) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Reads an object, if it is there.
    pub async fn read<K: Made>(&self, namespace: &str, name: &str) -> Result<Option<K>> {
        self.api::<K>(namespace).get_opt(name).await.trying(|| format!("read {} {name}", K::kind(&())))
    }

    /// Creates an object; of one that exists already, tells whether it is ours.
    pub async fn create_once<K: Made>(&self, object: &K) -> Result<Written<Option<K>>> {
        let (namespace, name) = place(object);
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match self.api::<K>(&namespace).create(&params, object).await {
            Ok(created) => {
                self.note(&created);
                Ok(Written::Done(Some(created)))
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Ok(match self.stranger::<K>(&namespace, &name).await? {
                    Some(foreign) => Written::Foreign(foreign),
                    None => Written::Done(None),
                })
            }
            Err(error) => Err(error).trying(|| format!("create {} {name}", K::kind(&()))),
        }
    }

    /// Makes an object of ours what it should be. Does nothing while it is what was applied last.
    pub async fn apply<K: Made>(&self, object: &K) -> Result<Written<()>> {
        let (namespace, name) = place(object);
        let key = Key::of::<K>(&namespace, &name);
        let hash = hash(object);
        let known = self.children.get(&key);
        if let Some(known) = &known
            && self.lock().get(&key) == Some(&(hash.clone(), known.revision()))
        {
            return Ok(Written::Done(()));
        }
        if known.is_none()
            && let Some(foreign) = self.stranger::<K>(&namespace, &name).await?
        {
            return Ok(Written::Foreign(foreign));
        }
        let applied = self.overwrite(object, known.as_ref()).await?;
        if let Some(child) = Child::from_meta(applied.meta()) {
            self.lock().insert(key, (hash, child.revision()));
        }
        Ok(Written::Done(()))
    }

    /// Writes over an object of ours. With `known`, only over that very object, not over a later one of its name.
    pub async fn overwrite<K: Made>(&self, object: &K, known: Option<&Child>) -> Result<K> {
        let (namespace, name) = place(object);
        let mut object = object.clone();
        object.meta_mut().uid = known.map(|child| child.uid.clone());
        let params = PatchParams::apply(MANAGER).force();
        let written = self
            .api::<K>(&namespace)
            .patch(&name, &params, &Patch::Apply(&object))
            .await
            .trying(|| format!("write {} {name}", K::kind(&())))?;
        self.note(&written);
        Ok(written)
    }

    /// Deletes an object of ours, if it is there.
    pub async fn delete<K: Made>(&self, namespace: &str, name: &str) -> Result<()> {
        if self.children.get(&Key::of::<K>(namespace, name)).is_none() {
            return Ok(());
        }
        match self.api::<K>(namespace).delete(name, &kube::api::DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(|_| ()).trying(|| format!("delete {} {name}", K::kind(&()))),
        }
    }

    /// Writes a status, of which the operator is the only author.
    pub async fn report<K: Made>(&self, object: &K, status: &impl Serialize) -> Result<()> {
        let (namespace, name) = place(object);
        let status = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": { "name": name, "uid": object.uid() },
            "status": status,
        });
        let params = PatchParams::apply(MANAGER).force();
        match self.api::<K>(&namespace).patch_status(&name, &params, &Patch::Apply(status)).await {
            // Deleted meanwhile, perhaps made anew: nobody is left to be told.
            Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => Ok(()),
            other => other.map(|_| ()).trying(|| format!("write the status of {} {name}", K::kind(&()))),
        }
    }

    /// Tells people what happened to `object` and why. Events are a courtesy: a failure is logged, nothing else.
    pub async fn tell<K: Made>(&self, object: &K, note: &Note, now: Timestamp) {
        let (namespace, name) = place(object);
        let event = Event {
            metadata: ObjectMeta {
                generate_name: Some(format!("{name}-")),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(note.reason.to_owned()),
            action: Some(note.action.to_owned()),
            note: Some(note.text.chars().take(1000).collect()),
            regarding: Some(ObjectReference { namespace: Some(namespace.clone()), ..object.object_ref(&()) }),
            reporting_controller: Some("ca-iot.dev/operator".to_owned()),
            reporting_instance: Some(self.identity.clone()),
            ..Event::default()
        };
        if let Err(error) = self.api::<Event>(&namespace).create(&PostParams::default(), &event).await {
            let problem = in_short(&error);
            tracing::warn!(kind = %K::kind(&()), %namespace, %name, %problem, "an event could not be written");
        }
    }

    /// Has the kubelet look at the pods of `owner` now: otherwise a changed Secret reaches them within a minute or two.
    pub async fn touch_pods<K: Made>(&self, owner: &K, now: Timestamp) -> Result<()> {
        let (namespace, name) = place(owner);
        for pod in self.pods_of(owner).await? {
            let touch = json!({"metadata": {"annotations": {TOUCHED: now.to_string()}}});
            let patched = self
                .api::<Pod>(&namespace)
                .patch_metadata(&pod.name_any(), &PatchParams::default(), &Patch::Merge(touch))
                .await;
            match patched {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => other.map(|_| ()).trying(|| format!("touch the pods of {} {name}", K::kind(&())))?,
            }
        }
        Ok(())
    }

    /// The pods that run for `owner`.
    pub async fn pods_of<K: Made>(&self, owner: &K) -> Result<Vec<Pod>> {
        let (namespace, name) = place(owner);
        let selector = format!("{LABEL_KIND}={},{LABEL_NAME}={name}", K::kind(&()));
        let pods = self.api::<Pod>(&namespace).list(&ListParams::default().labels(&selector)).await;
        Ok(pods.trying(|| format!("list the pods of {} {name}", K::kind(&())))?.items)
    }

    /// The object of this name, if somebody else made it.
    async fn stranger<K: Made>(&self, namespace: &str, name: &str) -> Result<Option<Foreign>> {
        let found = self.api::<K>(namespace).get_metadata_opt(name).await;
        let found = found.trying(|| format!("read {} {name}", K::kind(&())))?;
        Ok(found.filter(|found| !is_ours(&found.metadata)).map(|found| Foreign {
            object: format!("{} {name}", K::kind(&())),
            owner: seeming_owner(&found.metadata),
        }))
    }

    fn note<K: Made>(&self, object: &K) {
        let (namespace, name) = place(object);
        if let Some(child) = Child::from_meta(object.meta()) {
            self.children.note(Key::of::<K>(&namespace, &name), child);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, (String, u64)>> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What happened, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether somebody should do something.
    pub warning: bool,
    /// One word.
    pub reason: &'static str,
    /// What the operator did or tried, one word.
    pub action: &'static str,
    /// What happened and why, and what to do about it.
    pub text: String,
}

/// Whether the operator made the object with this metadata.
pub fn is_ours(meta: &ObjectMeta) -> bool {
    meta.labels.as_ref().and_then(|labels| labels.get(LABEL_MANAGED_BY)).is_some_and(|by| by == MANAGER)
}

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} exists and was not made by ca-iot (it seems to belong to {}): rename or delete one of the two",
            self.object, self.owner
        )
    }
}

fn seeming_owner(meta: &ObjectMeta) -> String {
    let owner = meta.owner_references.iter().flatten().next().map(|o| format!("{} {}", o.kind, o.name));
    let manager = || meta.managed_fields.iter().flatten().find_map(|field| field.manager.clone());
    owner.or_else(manager).unwrap_or_else(|| "somebody else".to_owned())
}

fn place<K: Resource>(object: &K) -> (String, String) {
    (object.meta().namespace.clone().unwrap_or_default(), object.meta().name.clone().unwrap_or_default())
}

fn hash(object: &impl Serialize) -> String {
    // Kubernetes types are plain data with string keys: they always serialise.
    hex::encode(digest(&SHA256, &serde_json::to_vec(object).unwrap_or_default()))
}
