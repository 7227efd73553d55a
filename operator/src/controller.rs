//! One controller: when it looks at an object, how many at a time, and what happens when that fails.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::core::object::HasStatus;
use kube::runtime::controller::{self, Action};
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::{Controller, PredicateConfig, WatchStreamExt as _, predicates, watcher};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::error::Error;
use crate::key::Key;
use crate::triggers::Trigger;

/// How many objects of a kind are worked on side by side.
const CONCURRENCY: u16 = 32;
/// How long after a first failure an object is tried again; it doubles up to 32 times that.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// A kind that a controller can look after.
pub trait Controlled:
    Resource<DynamicType = ()> + HasStatus + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Controlled for K where
    K: Resource<DynamicType = ()> + HasStatus + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

/// Looks at an object when its spec changes, when the queue says so, and when it asked for it. Never ends.
pub async fn run<K, F>(
    objects: Api<K>,
    context: &Arc<Context>,
    (known, writer): (Store<K>, Writer<K>),
    queue: UnboundedReceiver<Trigger>,
    reconcile: impl Fn(Arc<K>, Arc<Context>) -> F + Send + Sync + 'static,
) where
    K: Controlled,
    F: Future<Output = Result<Action, Error>> + Send + 'static,
{
    let watched = Arc::clone(context);
    let mut population = Population::default();
    let changed = watcher(objects, watcher::Config::default())
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .inspect_ok(move |event| note(event, &mut population, &watched))
        .applied_objects()
        .predicate_filter(predicates::generation, PredicateConfig::default());
    let triggered = triggered(queue, known.clone());
    Controller::for_stream(changed, known)
        .with_config(controller::Config::default().concurrency(CONCURRENCY))
        .reconcile_on(triggered)
        .run(
            move |object, context| {
                measured(reconcile(Arc::clone(&object), Arc::clone(&context)), object, context)
            },
            retry,
            Arc::clone(context),
        )
        .for_each(|result| {
            // What fails in a reconciler is told by `retry`; what remains is about watches, which go on by themselves.
            if let Err(controller::Error::QueueError(error)) = result {
                tracing::warn!(kind = %K::kind(&()), %error, "watching failed; trying again");
            }
            std::future::ready(())
        })
        .await;
}

async fn measured<K: Controlled>(
    work: impl Future<Output = Result<Action, Error>>,
    object: Arc<K>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    context.objects.are_read().await;
    let started = Instant::now();
    let result = work.await;
    let key = key_of(&*object);
    context.metrics.reconciled(&key.kind, started.elapsed(), result.is_ok());
    if result.is_ok() {
        context.retries.succeeded(&key);
    }
    result
}

#[allow(clippy::needless_pass_by_value, reason = "the signature that kube asks for")]
fn retry<K: Controlled>(object: Arc<K>, error: &Error, context: Arc<Context>) -> Action {
    let key = key_of(&*object);
    if error.is_namespace_terminating() {
        return Action::await_change();
    }
    let retry_in = context.retries.failed(&key, FIRST_RETRY);
    let Key { kind, namespace, name } = key;
    tracing::warn!(%kind, %namespace, %name, ?retry_in, "{error}");
    Action::requeue(retry_in)
}

/// Which objects of a kind there are: what is deleted while no watch runs is missing from the next list, and that is all that tells of it.
#[derive(Default)]
struct Population {
    here: HashSet<Key>,
    listing: HashSet<Key>,
}

impl Population {
    /// Takes note of an event, and returns who is gone without a word.
    fn follow<K: Controlled>(&mut self, event: &watcher::Event<K>) -> Vec<Key> {
        match event {
            watcher::Event::Init => self.listing.clear(),
            watcher::Event::InitApply(object) => drop(self.listing.insert(key_of(object))),
            watcher::Event::InitDone => {
                let before = std::mem::replace(&mut self.here, std::mem::take(&mut self.listing));
                return before.difference(&self.here).cloned().collect();
            }
            watcher::Event::Apply(object) => drop(self.here.insert(key_of(object))),
            watcher::Event::Delete(object) => drop(self.here.remove(&key_of(object))),
        }
        Vec::new()
    }
}

/// Tells those who refer to, count or list objects of this kind that there is one more or less, or that all are known.
fn note<K: Controlled>(event: &watcher::Event<K>, population: &mut Population, context: &Context) {
    for key in population.follow(event) {
        context.forget(&key);
        context.triggers.came_or_went(&key.kind, &key.namespace);
    }
    let (object, gone) = match event {
        watcher::Event::Apply(object) | watcher::Event::InitApply(object) if object.status().is_none() => {
            (object, false)
        }
        watcher::Event::Delete(object) => (object, true),
        watcher::Event::InitDone => return context.objects.note_read(&K::kind(&())),
        _ => return,
    };
    let key = key_of(object);
    if gone {
        context.forget(&key);
    }
    context.triggers.came_or_went(&key.kind, &key.namespace);
}

fn triggered<K: Controlled>(
    queue: UnboundedReceiver<Trigger>,
    known: Store<K>,
) -> impl futures::Stream<Item = ObjectRef<K>> + Send + 'static {
    queue.flat_map(move |trigger| {
        let objects: Vec<_> = match trigger {
            Trigger::One { namespace, name } => vec![ObjectRef::new(&name).within(&namespace)],
            Trigger::All { namespace } => {
                let here = |object: &Arc<K>| object.namespace().as_deref() == Some(&namespace);
                known
                    .state()
                    .iter()
                    .filter(|object| here(object))
                    .map(|object| ObjectRef::from_obj(&**object))
                    .collect()
            }
        };
        stream::iter(objects)
    })
}

fn key_of<K: Controlled>(object: &K) -> Key {
    Key::of::<K>(&object.namespace().unwrap_or_default(), &object.name_any())
}

#[cfg(test)]
mod tests {
    use api::IotDevice;
    use watcher::Event;

    use super::*;

    #[test]
    fn who_is_missing_from_the_next_list_is_gone() {
        let device = |name: &str| {
            let mut device = IotDevice::new(name, api::IotDeviceSpec::default());
            device.metadata.namespace = Some("site".into());
            device
        };
        let mut population = Population::default();
        let mut follow = |event| {
            population.follow::<IotDevice>(&event).into_iter().map(|key| key.name).collect::<Vec<_>>()
        };
        for event in
            [Event::Init, Event::InitApply(device("a")), Event::InitApply(device("b")), Event::InitDone]
        {
            assert!(follow(event).is_empty());
        }
        for event in [
            Event::Apply(device("c")),
            Event::Delete(device("a")),
            Event::Init,
            Event::InitApply(device("c")),
        ] {
            assert!(follow(event).is_empty());
        }
        assert_eq!(follow(Event::InitDone), ["b"]);
    }
}
