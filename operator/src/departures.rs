//! Devices that are gone: their certificates are revoked, their sessions cut, and then their Secrets go.
//!
//! A device's Secret has no owner, so it outlives the device; its annotations are the ledger of what was issued. Nothing
//! that users delete waits for the operator: it finds what is left when it is back.

use std::sync::Arc;
use std::time::Duration;

use api::{IotDevice, MqttBroker, RootCA, names};
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
use crate::fleet::{self, CutState};
use crate::key::Key;
use crate::roots::UsableRoot;

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
    if let Some(root) = root_of(context, it) {
        let root = match root {
            Signs::Now(root) => root,
            // Its key is kept: whoever brings the root back has these certificates revoked.
            Signs::Perhaps => return Ok(false),
        };
        let valid = ledger.all().filter(|it| it.not_after.0 > now);
        let serials = valid.filter_map(|it| it.serial_number.parse().ok());
        let listings: Option<Vec<_>> = serials.map(|serial| root.revoked.get(serial)).collect();
        let Some(listings) = listings else {
            context.triggers.revocations(namespace);
            return Ok(false);
        };
        let crls = listings.iter().map(|listing| (listing.generation, listing.crl_number));
        if let Some(because) = crls.max()
            && !is_cut(context, it, &root, because, now)
        {
            return Ok(false);
        }
    }
    context.cluster.delete::<Secret>(namespace, &secret.name).await?;
    context.fleet.forget_device(namespace, device);
    tracing::info!(kind = "IotDevice", %namespace, name = %device, "is gone: its certificates are revoked, its Secret is deleted");
    Ok(true)
}

/// Whether no session of `it` is left at any broker of its namespace.
fn is_cut(
    context: &Arc<Context>,
    it: &Departed,
    root: &UsableRoot,
    because: (u32, u64),
    now: Timestamp,
) -> bool {
    let (generation, number) = because;
    let signer = root.generations.iter().find(|signer| signer.number == generation);
    // A root that is trusted no more lets nobody in.
    let Some(signer) = signer else { return true };
    let fingerprint = signer.signing.certificate().fingerprint();
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    let brokers = context.objects.brokers.state();
    let here = brokers.iter().filter(|broker| broker.namespace().as_deref() == Some(&it.namespace));
    let mut cut = true;
    for broker in here {
        let name: String = MqttBroker::name_any(broker);
        let loaded = context.fleet.loaded_crl(&it.namespace, &name, &fingerprint);
        // What does not run holds no session; what runs again starts with the CRL in its Secret.
        let Some(loaded) = loaded else { continue };
        let address = fleet::address(broker).filter(|_| loaded >= number);
        let state = address.map(|address| {
            context.fleet.cut(&it.namespace, &it.device, &address, root, (generation, number), now)
        });
        cut &= matches!(state, Some(CutState::Done(_)));
    }
    cut
}

/// Whether a root can sign.
enum Signs {
    Now(Arc<UsableRoot>),
    Perhaps,
}

/// The root of what was issued to `it`; none: it is gone with its key, so there is nothing to revoke.
fn root_of(context: &Context, it: &Departed) -> Option<Signs> {
    let alone = || only_root(&context.objects.roots, &it.namespace).ok();
    let name = it.ledger.current.root_ca.clone().or_else(alone)?;
    if let Some(root) = context.roots.usable(&it.namespace, &name) {
        return Some(Signs::Now(root));
    }
    let exists = context.objects.roots.get(&ObjectRef::new(&name).within(&it.namespace)).is_some();
    let key = Key::of::<Secret>(&it.namespace, &names::owned::<RootCA>(&name));
    (exists || context.children.get(&key).is_some()).then_some(Signs::Perhaps)
}
