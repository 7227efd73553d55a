//! Devices that are gone: their certificates are revoked, their sessions cut, and then their Secrets go.
//!
//! A device's Secret has no owner, so it outlives the device; its annotations are the ledger of what was issued. Nothing
//! that users delete waits for the operator: it finds what is left when it is back.

use std::sync::Arc;
use std::time::Duration;

use api::IotDevice;
use futures::StreamExt as _;
use futures::channel::mpsc::UnboundedReceiver;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};

use crate::certificate::request::only_root;
use crate::certificate::secret::Ledger;
use crate::context::Context;
use crate::error::Result;
use crate::key::Key;
use crate::shut_out::{self, Progress, Signs};

/// How often it is looked whether the next step can be taken, as long as anybody is left.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// A device that is gone, and what was issued to it.
struct Departed {
    namespace: String,
    device: String,
    secret: Key,
    ledger: Ledger,
}

/// Where the device is that a Secret was written for.
pub enum Whereabouts {
    /// There, under the name in the Secret's labels.
    Here(Arc<IotDevice>),
    /// There, under another name: somebody changed the labels.
    Mislabelled,
    /// It does not exist any more, whatever has its name now.
    Gone,
}

/// Sees off whoever is gone, whenever there is news. Never ends before the queue does.
pub async fn run(context: Arc<Context>, mut news: UnboundedReceiver<()>) {
    context.objects.are_read().await;
    let mut anybody = true;
    loop {
        if anybody {
            let _ = tokio::time::timeout(LOOK_AROUND, news.next()).await;
        } else if news.next().await.is_none() {
            return;
        }
        while news.try_recv().is_ok() {}
        anybody = see_off(&context).await;
    }
}

/// Takes the next step for whoever is gone. Whether anybody is left.
pub async fn see_off(context: &Arc<Context>) -> bool {
    let departed = departed(context);
    let mut left = false;
    for it in departed {
        match see_one_off(context, &it, context.now()).await {
            Ok(done) => left |= !done,
            Err(problem) => {
                left = true;
                let Departed { namespace, device, .. } = &it;
                tracing::warn!(kind = "IotDevice", %namespace, name = %device, "a device that is gone: {problem}");
            }
        }
    }
    left
}

/// Who is gone: Secrets of devices that do not exist, or of another of the same name.
fn departed(context: &Context) -> Vec<Departed> {
    let mut found = Vec::new();
    context.children.visit(Secret::kind(&()).as_ref(), |key, child| {
        let Some((kind, device)) = &child.owner else { return };
        if *kind != IotDevice::kind(&()) {
            return;
        }
        let Some(ledger) = Ledger::read(&child.annotations) else { return };
        if let Whereabouts::Gone = whereabouts(context, &key.namespace, device, &ledger) {
            found.push(Departed {
                namespace: key.namespace.clone(),
                device: device.clone(),
                secret: key.clone(),
                ledger,
            });
        }
    });
    found
}

/// Where the device is that the Secret with this `ledger` was written for; `name` stands in the Secret's labels.
pub fn whereabouts(context: &Context, namespace: &str, name: &str, ledger: &Ledger) -> Whereabouts {
    let objects = &context.objects;
    let there = objects.devices.get(&ObjectRef::new(name).within(namespace));
    match there.filter(|device| !ledger.is_of_another(&device.uid().unwrap_or_default())) {
        Some(device) => Whereabouts::Here(device),
        None if ledger.holder_uid.as_deref().is_some_and(|uid| objects.has_device(namespace, uid)) => {
            Whereabouts::Mislabelled
        }
        None => Whereabouts::Gone,
    }
}

/// Whether nothing is left to be done for `it`.
async fn see_one_off(context: &Arc<Context>, it: &Departed, now: Timestamp) -> Result<bool> {
    let Departed { namespace, device, secret, ledger } = it;
    match root_of(context, it) {
        // There is nothing to revoke.
        Signs::Never => {}
        // Its key is kept: whoever brings the root back has these certificates revoked.
        Signs::Perhaps => return Ok(false),
        Signs::Now(root) => {
            let valid: Vec<_> = ledger.all().filter(|it| it.not_after.0 > now).collect();
            let Some(listed) = shut_out::listings(context, namespace, valid.iter().copied(), &root) else {
                context.triggers.revocations(namespace);
                return Ok(false);
            };
            let brokers = shut_out::brokers(context, namespace, &listed, &root);
            let advance =
                |broker: &_| shut_out::advance(context, namespace, device, broker, &listed, &root, now);
            // Each broker is a step of its own: one that is away keeps nobody in at another.
            let progress: Vec<_> = brokers.iter().map(|broker| advance(broker)).collect();
            if !valid.is_empty() && !progress.iter().all(|at| matches!(at, Progress::Cut(_))) {
                return Ok(false);
            }
        }
    }
    context.cluster.delete::<Secret>(namespace, &secret.name).await?;
    context.fleet.forget_device(namespace, device);
    tracing::info!(kind = "IotDevice", %namespace, name = %device, "is gone: its certificates are revoked, its Secret is deleted");
    Ok(true)
}

/// The root of what was issued to `it`.
fn root_of(context: &Context, it: &Departed) -> Signs {
    let alone = || only_root(&context.objects.roots, &it.namespace).ok();
    let name = it.ledger.current.root_ca.clone().or_else(alone);
    name.map_or(Signs::Never, |name| shut_out::root(context, &it.namespace, &name))
}
