//! The only module that writes to Kubernetes, but for Events.
//!
//! | verb | for | how |
//! | --- | --- | --- |
//! | [`Cluster::create_once`] | keys | POST; what is there already stays as it is |
//! | [`Cluster::rewrite`] | Secrets that are known | a patch of exactly that version |
//! | [`Cluster::apply`] | everything else | server-side apply, skipped while nothing changed |
//! | [`Cluster::report`] | status | server-side apply of the status alone |
//! | [`Cluster::tell`] | people | one of [`events`](crate::events), later |
//! | [`Cluster::touch_pods`] | pods that mount what changed | an annotation, so that the kubelet looks at once |
//!
//! Nothing is ever written to that was not made for the same resource: an object of the same name with neither its labels nor its
//! owner is [`Foreign`], and stays byte for byte as it is.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::names::{LABEL_KIND, LABEL_NAME, MANAGER};
use aws_lc_rs::digest::{SHA256, digest};
use axum::http::HeaderValue;
use axum::http::header::ACCEPT;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, ListParams, PartialObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::children::{Child, Children, Revision, labelled_owner};
use crate::context::Clock;
use crate::error::{Result, Trying as _};
use crate::events::{Events, Note};
use crate::key::Key;

/// What the API server says of a field that the definition does not have.
const UNDECLARED: &str = ": field not declared in schema";
const OLD_DEFINITIONS: &str = "the definition in the cluster is older than this operator, and some of the status cannot be told: \
     run `operator crds --apply`, or `helm upgrade`, which does";
/// How metadata alone is asked for.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
/// The annotation of a Secret that tells when it was written.
pub const WRITTEN: &str = "ca-iot.dev/written-at";
/// The annotation of a pod that tells which writing of its Secret the kubelet was told of.
const TOUCHED: &str = "ca-iot.dev/touched";

/// Writes, and the reads that a write needs.
pub struct Cluster {
    client: Client,
    events: Events,
    children: Arc<Children>,
    clock: Clock,
    applied: Mutex<HashMap<Key, Applied>>,
    /// Of which writing of a Secret all pods are known to have been told.
    touched: Mutex<HashMap<Key, String>>,
}

/// What was applied last.
struct Applied {
    /// A digest of it.
    hash: String,
    /// The revision that this led to.
    revision: Revision,
    /// The UID of whoever it was made for.
    owner: Option<String>,
}

/// An object of a name that we need and that somebody else made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Kind and name, as in "Secret x".
    pub object: String,
    /// Whose it seems to be.
    pub owner: String,
}

/// Which version of which object: what was read or written, or what a write takes the place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    uid: Option<String>,
    resource_version: Option<String>,
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

// === impl Version ===

impl From<&ObjectMeta> for Version {
    fn from(meta: &ObjectMeta) -> Self {
        Self { uid: meta.uid.clone(), resource_version: meta.resource_version.clone() }
    }
}

impl From<&Child> for Version {
    fn from(child: &Child) -> Self {
        Self { uid: Some(child.uid.clone()), resource_version: Some(child.resource_version.to_string()) }
    }
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
    /// What happens is told to `events`.
    pub fn new(client: Client, events: Events, children: Arc<Children>, clock: Clock) -> Self {
        Self { client, events, children, clock, applied: Mutex::default(), touched: Mutex::default() }
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

    /// Creates an object, and returns its version; of one that exists already, tells whether it was made for the same resource, and
    /// takes note of it.
    ///
    /// Only metadata is asked back: what was sent need not be sent, read and held once more, keys least of all.
    pub async fn create_once<K: Made>(&self, object: &K) -> Result<Written<Option<Version>>> {
        let (namespace, name) = place(object);
        match self.create_for_metadata(&namespace, object).await {
            Ok(created) => {
                self.note::<K>(&created.metadata);
                Ok(Written::Done(Some(Version::from(&created.metadata))))
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(match self.stranger(object).await? {
                Some(foreign) => Written::Foreign(foreign),
                None => Written::Done(None),
            }),
            Err(error) => Err(error).trying(|| format!("create {} {name}", K::kind(&()))),
        }
    }

    /// As `Api::create`, for which kube has no variant that returns metadata alone.
    async fn create_for_metadata<K: Made>(
        &self,
        namespace: &str,
        object: &K,
    ) -> Result<PartialObjectMeta<K>, kube::Error> {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let body = serde_json::to_vec(object).map_err(kube::Error::SerdeError)?;
        let request = kube::core::Request::new(self.api::<K>(namespace).resource_url());
        let mut request = request.create(&params, body).map_err(kube::Error::BuildRequest)?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(METADATA));
        self.client.request(request).await
    }

    /// Makes an object of ours what it should be. Does nothing while it is what was applied last; what somebody deleted or changed
    /// is put right and told.
    pub async fn apply<K: Made>(&self, object: &K) -> Result<Written<()>> {
        let (namespace, name) = place(object);
        let key = Key::of::<K>(&namespace, &name);
        let hash = hash(object);
        let known = self.children.get(&key).filter(|child| child.owner == labelled_owner(object.meta()));
        let owner = controller(object.meta()).map(|owner| owner.uid.clone());
        let (before, was_there) = match lock(&self.applied).get(&key) {
            Some(applied) => {
                (Some(applied.revision).filter(|_| applied.hash == hash), applied.owner == owner)
            }
            None => (None, false),
        };
        if let (Some(known), Some(before)) = (&known, before)
            && before == known.revision()
        {
            return Ok(Written::Done(()));
        }
        if known.is_none()
            && let Some(foreign) = self.stranger(object).await?
        {
            return Ok(Written::Foreign(foreign));
        }
        let params = PatchParams::apply(MANAGER).force();
        let mut applied = object.clone();
        // Over that very object, not over a later one of its name.
        applied.meta_mut().uid = known.as_ref().map(|child| child.uid.clone());
        let applied = self
            .api::<K>(&namespace)
            .patch_metadata(&name, &params, &Patch::Apply(&applied))
            .await
            .trying(|| format!("write {} {name}", K::kind(&())))?
            .metadata;
        self.note::<K>(&applied);
        let Some(now) = Child::from_meta(&applied) else { return Ok(Written::Done(())) };
        let happened = match (before, known) {
            (_, None) if was_there => Some("was deleted: it is back"),
            // It was as it is wanted now, and is not any more.
            (Some(_), Some(known)) if known.resource_version != now.resource_version => {
                Some("was changed by somebody: it is again as it was")
            }
            _ => None,
        };
        lock(&self.applied).insert(key, Applied { hash, revision: now.revision(), owner });
        if let Some(happened) = happened {
            self.restored(object, happened);
        }
        Ok(Written::Done(()))
    }

    /// Makes a Secret of ours what it should be, and takes `unwanted` data out of it. What is not named stays: other people's labels,
    /// annotations and data. Nothing is written over another version than `known`. Returns the version that it is now.
    ///
    /// Not by server-side apply: it takes away only what was applied before, and these Secrets were created.
    pub async fn rewrite(
        &self,
        secret: &Secret,
        known: &Version,
        unwanted: impl IntoIterator<Item = String>,
    ) -> Result<Version> {
        let (namespace, name) = place(secret);
        let mut data: BTreeMap<_, _> = unwanted.into_iter().map(|key| (key, Value::Null)).collect();
        data.extend(secret.data.iter().flatten().map(|(key, value)| (key.clone(), json!(value))));
        let patch = json!({
            "metadata": {
                "uid": known.uid,
                "resourceVersion": known.resource_version,
                "labels": secret.labels(),
                "annotations": secret.annotations(),
                "ownerReferences": secret.owner_references(),
            },
            "data": data,
        });
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patched =
            self.api::<Secret>(&namespace).patch_metadata(&name, &params, &Patch::Merge(patch)).await;
        let patched = patched.trying(|| format!("write Secret {name}"))?.metadata;
        self.note::<Secret>(&patched);
        Ok(Version::from(&patched))
    }

    /// Deletes an object of ours, if it is there.
    pub async fn delete<K: Made>(&self, namespace: &str, name: &str) -> Result<()> {
        let key = Key::of::<K>(namespace, name);
        let Some(known) = self.children.get(&key) else { return Ok(()) };
        lock(&self.applied).remove(&key);
        lock(&self.touched).remove(&key);
        // That very object, not a later one of its name.
        let preconditions = Preconditions { uid: Some(known.uid), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        match self.api::<K>(namespace).delete(name, &params).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(|_| ()).trying(|| format!("delete {} {name}", K::kind(&()))),
        }
    }

    /// Writes a status, of which the operator is the only author. Definitions older than this operator are told what they know.
    pub async fn report<K: Made>(&self, object: &K, status: &impl Serialize) -> Result<()> {
        let (namespace, name) = place(object);
        let mut status = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": { "name": name, "uid": object.uid() },
            "status": status,
        });
        let params = PatchParams::apply(MANAGER).force();
        let api = self.api::<K>(&namespace);
        let mut answer = api.patch_status(&name, &params, &Patch::Apply(&status)).await;
        // It names one field of an object at a time.
        while let Err(kube::Error::Api(refusal)) = &answer
            && remove_undeclared(&mut status, &refusal.message)
        {
            tracing::warn!(kind = %K::kind(&()), "{OLD_DEFINITIONS}");
            answer = api.patch_status(&name, &params, &Patch::Apply(&status)).await;
        }
        match answer {
            // Deleted meanwhile, perhaps made anew: nobody is left to be told.
            Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => Ok(()),
            other => other.map(|_| ()).trying(|| format!("write the status of {} {name}", K::kind(&()))),
        }
    }

    /// Has people told what happened to `object` and why.
    pub fn tell<K: Made>(&self, object: &K, note: &Note, now: Timestamp) {
        let (namespace, _) = place(object);
        self.events.tell(ObjectReference { namespace: Some(namespace), ..object.object_ref(&()) }, note, now);
    }

    /// Tells the owner of `object` that this was put right.
    fn restored<K: Made>(&self, object: &K, happened: &str) {
        let ((namespace, name), Some(owner)) = (place(object), controller(object.meta())) else { return };
        let text = format!("{} {name} {happened}", K::kind(&()));
        let note = Note { warning: false, reason: "Restored", action: "Apply", text };
        let owner = ObjectReference {
            api_version: Some(owner.api_version.clone()),
            kind: Some(owner.kind.clone()),
            namespace: Some(namespace),
            name: Some(owner.name.clone()),
            uid: Some(owner.uid.clone()),
            ..ObjectReference::default()
        };
        self.events.tell(owner, &note, (self.clock)());
    }

    /// Has the kubelet look at those pods of `owner` that it was not told of the last writing of `secret`, which they mount: by itself
    /// it looks within a minute or two. Whoever wrote it may have been killed before the kubelet was told.
    pub async fn touch_pods<K: Made>(&self, owner: &K, secret: &str) -> Result<()> {
        let (namespace, name) = place(owner);
        let key = Key::of::<Secret>(&namespace, secret);
        let written = self.children.get(&key).and_then(|child| child.annotations.get(WRITTEN).cloned());
        let Some(written) = written else { return Ok(()) };
        if lock(&self.touched).get(&key) == Some(&written) {
            return Ok(());
        }
        let second = written.parse().map(jiff::Timestamp::as_second).ok();
        let is_later = |pod: &Pod| {
            let created = pod.metadata.creation_timestamp.as_ref().map(|created| created.0.as_second());
            created.zip(second).is_some_and(|(created, written)| created >= written)
        };
        for pod in self.pods_of(owner).await? {
            if pod.annotations().get(TOUCHED) == Some(&written) || is_later(&pod) {
                continue;
            }
            let touch = json!({"metadata": {"annotations": {TOUCHED: written}}});
            let patched = self
                .api::<Pod>(&namespace)
                .patch_metadata(&pod.name_any(), &PatchParams::default(), &Patch::Merge(touch))
                .await;
            match patched {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => other.map(|_| ()).trying(|| format!("touch the pods of {} {name}", K::kind(&())))?,
            }
        }
        lock(&self.touched).insert(key, written);
        Ok(())
    }

    /// The pods that run for `owner`.
    pub async fn pods_of<K: Made>(&self, owner: &K) -> Result<Vec<Pod>> {
        let (namespace, name) = place(owner);
        let selector = format!("{LABEL_KIND}={},{LABEL_NAME}={name}", K::kind(&()));
        let pods = self.api::<Pod>(&namespace).list(&ListParams::default().labels(&selector)).await;
        Ok(pods.trying(|| format!("list the pods of {} {name}", K::kind(&())))?.items)
    }

    /// What has the name of `wanted`, if it is not that. If it is, takes note of it.
    async fn stranger<K: Made>(&self, wanted: &K) -> Result<Option<Foreign>> {
        let (namespace, name) = place(wanted);
        let found = self.api::<K>(&namespace).get_metadata_opt(&name).await;
        let Some(found) = found.trying(|| format!("read {} {name}", K::kind(&())))? else { return Ok(None) };
        let foreign = Foreign::by_name::<K>(&found.metadata, wanted.meta());
        if let (None, Some(child)) = (&foreign, Child::from_meta(&found.metadata)) {
            self.children.note(Key::of::<K>(&namespace, &name), child);
        }
        Ok(foreign)
    }

    fn note<K: Made>(&self, metadata: &ObjectMeta) {
        if let (Some(namespace), Some(name), Some(child)) =
            (&metadata.namespace, &metadata.name, Child::from_meta(metadata))
        {
            self.children.note(Key::of::<K>(namespace, name), child);
        }
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Foreign ===

impl Foreign {
    /// What the object of kind `K` with the metadata `found` is, if it was not made for the resource that `wanted` is made for: that
    /// shows in its labels, and, where somebody took them off, in its owner.
    pub fn by_name<K: Resource<DynamicType = ()>>(found: &ObjectMeta, wanted: &ObjectMeta) -> Option<Self> {
        let labels = labelled_owner(wanted);
        let owner = controller(wanted).map(|owner| &owner.uid);
        let ours = labels.is_some() && labels == labelled_owner(found)
            || owner.is_some() && owner == controller(found).map(|owner| &owner.uid);
        let name = found.name.clone().unwrap_or_default();
        (!ours).then(|| Self { object: format!("{} {name}", K::kind(&())), owner: seeming_owner(found) })
    }
}

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} exists and was not made for this resource (it seems to belong to {}): rename or delete one of the two",
            self.object, self.owner
        )
    }
}

fn seeming_owner(meta: &ObjectMeta) -> String {
    let owner = meta.owner_references.iter().flatten().next().map(|o| format!("{} {}", o.kind, o.name));
    let labelled = || labelled_owner(meta).map(|(kind, name)| format!("{kind} {name}"));
    let manager = || meta.managed_fields.iter().flatten().find_map(|field| field.manager.clone());
    owner.or_else(labelled).or_else(manager).unwrap_or_else(|| "somebody else".to_owned())
}

fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

fn place<K: Resource>(object: &K) -> (String, String) {
    (object.meta().namespace.clone().unwrap_or_default(), object.meta().name.clone().unwrap_or_default())
}

fn hash(object: &impl Serialize) -> String {
    // Kubernetes types are plain data with string keys: they always serialise.
    hex::encode(digest(&SHA256, &serde_json::to_vec(object).unwrap_or_default()))
}
/// Takes out of `object` what the API server says is undeclared, as `.status.superseded[0].rootCA`. Whether it said so of anything.
fn remove_undeclared(object: &mut Value, message: &str) -> bool {
    let mut removed = false;
    for (end, _) in message.match_indices(UNDECLARED) {
        let path = message[..end].rsplit(char::is_whitespace).next().unwrap_or_default();
        let steps: Vec<_> = path.split(['.', '[', ']']).filter(|step| !step.is_empty()).collect();
        let Some((field, parents)) = steps.split_last() else { continue };
        let parent = parents.iter().try_fold(&mut *object, |at, step| match step.parse::<usize>() {
            Ok(index) => at.get_mut(index),
            Err(_) => at.get_mut(*step),
        });
        let parent = parent.and_then(Value::as_object_mut);
        removed |= parent.is_some_and(|parent| parent.remove(*field).is_some());
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_older_definitions_do_not_know_is_left_out() {
        let message = "failed to create typed patch object (/door; ca-iot.dev/v1alpha1, Kind=IotDevice): errors:\n  \
                       .status.superseded[1].rootCA: field not declared in schema\n  .status.revocation: field not declared in schema";
        let mut object = json!({"status": {
            "superseded": [{"rootCA": "a"}, {"rootCA": "b", "serialNumber": "1"}], "revocation": {"x": 1}, "state": "Valid"
        }});
        assert!(remove_undeclared(&mut object, message));
        let left = json!({"superseded": [{"rootCA": "a"}, {"serialNumber": "1"}], "state": "Valid"});
        assert_eq!(object, json!({"status": left}));
        assert!(!remove_undeclared(&mut object, "something else"));
    }
}
