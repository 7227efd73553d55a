//! What there is of a root: its own Secret, the one that it is to be imported from, and everybody who holds a certificate of it.

use api::{CertificateHolder, IotDevice, LocalRef, MqttBroker, RootCA, Superseded, names};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Resource as _, ResourceExt as _};
use pki::RevocationReason;

use super::ledger::Ledger;
use super::revocation::Due;
use super::rotation::{Broker, Device, Evidence};
use crate::certificate::request::only_root;
use crate::certificate::secret;
use crate::cluster::Foreign;
use crate::context::{Context, Objects};
use crate::departures::{Whereabouts, whereabouts};
use crate::error::Result;
use crate::key::Key;
use crate::workloads::metadata::metadata;

/// What there is of a root.
pub struct Observed {
    /// Its own Secret.
    pub secret: Option<Secret>,
    /// The Secret to adopt a CA from, where the spec names one and it is needed.
    pub import: Option<Import>,
}

/// The Secret to adopt a CA from.
pub enum Import {
    /// It does not exist.
    Missing {
        /// Its name.
        name: String,
    },
    /// It does.
    Found {
        /// It.
        secret: Box<Secret>,
    },
}

/// Reads what there is.
pub async fn observe(root: &RootCA, context: &Context) -> Result<Observed> {
    let namespace = root.namespace().unwrap_or_default();
    let name = names::owned::<RootCA>(&root.name_any());
    let known = context.children.get(&Key::of::<Secret>(&namespace, &name)).is_some();
    let secret = if known {
        let found = context.cluster.read::<Secret>(&namespace, &name).await?;
        found.filter(|found| Foreign::by_name::<Secret>(&found.metadata, &metadata(root)).is_none())
    } else {
        None
    };
    let import = if secret.is_none() { import(root, context).await? } else { None };
    Ok(Observed { secret, import })
}

/// Reads the Secret that the spec says to adopt a CA from.
pub async fn import(root: &RootCA, context: &Context) -> Result<Option<Import>> {
    let Some(import) = &root.spec.import_from else { return Ok(None) };
    let (namespace, name) = (root.namespace().unwrap_or_default(), import.secret_name.clone());
    let found = context.cluster.read::<Secret>(&namespace, &name).await?;
    Ok(Some(found.map_or(Import::Missing { name }, |secret| Import::Found { secret: Box::new(secret) })))
}

/// How many devices `root` signs for.
pub fn count_devices(objects: &Objects, namespace: &str, root: &str) -> i32 {
    let signs = signs_for(objects, namespace, root);
    let devices = objects.devices.state();
    let here = devices.iter().filter(|device| device.namespace().as_deref() == Some(namespace));
    i32::try_from(here.filter(|device| signs(&***device, None)).count()).unwrap_or(i32::MAX)
}

/// Every certificate of `root` that its CRLs have to list.
pub fn due(context: &Context, namespace: &str, root: &str) -> Vec<Due> {
    let objects = &context.objects;
    let alone = only_root(&objects.roots, namespace).is_ok_and(|only| only == root);
    let mut due = Vec::new();
    let mut list = |certificates: &mut dyn Iterator<Item = &Superseded>, default: Option<&str>, reason| {
        for it in certificates {
            let of_root = it.root_ca.as_deref().or(default).map_or(alone, |name| name == root);
            let Ok(serial) = it.serial_number.parse() else { continue };
            if of_root {
                let generation = it.root_generation.and_then(|number| u32::try_from(number).ok());
                due.push(Due { serial, not_after: it.not_after.0, generation, reason });
            }
        }
    };
    context.children.visit_secrets_of::<IotDevice>(namespace, |name, annotations| {
        let Some(ledger) = secret::Ledger::read(annotations) else { return };
        let default = ledger.current.root_ca.as_deref();
        let device = match whereabouts(context, namespace, name, &ledger) {
            Whereabouts::Here(device) => device,
            Whereabouts::Mislabelled => return,
            Whereabouts::Gone => {
                return list(&mut ledger.all(), default, RevocationReason::CessationOfOperation);
            }
        };
        if let Some(reason) = withdrawn(&device) {
            list(&mut ledger.all(), default, reason);
        } else {
            let acknowledged = context.fleet.acknowledgement(namespace, name);
            if acknowledged.is_some_and(|it| it.serial_number == ledger.current.serial_number) {
                list(&mut ledger.superseded.iter(), default, RevocationReason::Superseded);
            }
        }
    });
    // A Secret may be gone; what was told of it is not.
    for device in objects.devices.state() {
        if device.namespace().as_deref() == Some(namespace)
            && let Some(reason) = withdrawn(&device)
            && let Some(status) = &device.status
        {
            let default = device.spec.certificate.root_ca_ref.as_ref().map(|root| root.name.as_str());
            list(&mut secret::told(status).collect::<Vec<_>>().iter(), default, reason);
        }
    }
    due
}

/// Why the certificates of a device are not to be used, if its spec says so.
pub fn withdrawn(device: &IotDevice) -> Option<RevocationReason> {
    let revoked = device.spec.revoked.as_ref().map(|revoked| revoked.reason);
    revoked.or(device.spec.suspended.then_some(RevocationReason::CertificateHold))
}

/// How far everybody is who holds a certificate of a root that is being replaced.
pub fn evidence(context: &Context, namespace: &str, root: &str, ledger: &Ledger, now: Timestamp) -> Evidence {
    let objects = &context.objects;
    let signs = signs_for(objects, namespace, root);
    let (old, new) = (&ledger.generations[0], ledger.latest());
    let fingerprint = |it: &super::ledger::Generation| it.signing.certificate().fingerprint();
    let (old_root, new_root) = (fingerprint(old), fingerprint(new));
    let is_new = |it: &Superseded| it.root_generation == i32::try_from(new.number).ok();

    let mut devices = Vec::new();
    context.children.visit_secrets_of::<IotDevice>(namespace, |name, annotations| {
        let Some(ledger) = secret::Ledger::read(annotations) else { return };
        let Whereabouts::Here(device) = whereabouts(context, namespace, name, &ledger) else { return };
        if withdrawn(&device).is_some() || !signs(&*device, ledger.current.root_ca.as_deref()) {
            return;
        }
        let acknowledged = context.fleet.acknowledgement(namespace, name);
        let uses = |serial: &str| acknowledged.as_ref().is_some_and(|it| it.serial_number == serial);
        devices.push(Device {
            name: name.to_owned(),
            trusts_new: acknowledged.as_ref().is_some_and(|it| it.roots.contains(&new_root)),
            has_new: is_new(&ledger.current),
            uses_new: is_new(&ledger.current) && uses(&ledger.current.serial_number),
            old_ends: ledger
                .all()
                .filter(|it| !is_new(it) && it.not_after.0 > now)
                .map(|it| it.not_after.0)
                .max(),
        });
    });
    devices.sort_by(|a: &Device, b| a.name.cmp(&b.name));

    let issued = |kind: &str, name: &str| {
        secret::Ledger::of_holder(&context.children, kind, namespace, name).pop().map(|ledger| ledger.current)
    };
    let brokers = objects.brokers.state();
    let noted = |kind: &str, name: &str| issued(kind, name).and_then(|current| current.root_ca);
    let brokers = brokers.iter().filter(|broker| {
        broker.namespace().as_deref() == Some(namespace)
            && signs(&***broker, noted(&MqttBroker::kind(&()), &broker.name_any()).as_deref())
    });
    let brokers = brokers.map(|broker| {
        let name = broker.name_any();
        let loaded = context.fleet.loaded(namespace, &name);
        let current = issued(&MqttBroker::kind(&()), &name);
        let trusts = |root: &String| loaded.as_ref().is_some_and(|loaded| loaded.roots.contains(root));
        let serves = |serial: &str| loaded.as_ref().is_some_and(|loaded| loaded.serial_number == serial);
        Broker {
            trusts_new: trusts(&new_root),
            trusts_old: trusts(&old_root),
            serves_new: current.is_some_and(|current| is_new(&current) && serves(&current.serial_number)),
            name,
        }
    });
    let dashboards = objects.dashboards.state();
    let dashboards = dashboards.iter().filter(|it| {
        it.namespace().as_deref() == Some(namespace)
            && signs(&***it, noted(&api::Dashboard::kind(&()), &it.name_any()).as_deref())
    });
    let behind = dashboards
        .map(|dashboard| dashboard.name_any())
        .filter(|name| !issued(&api::Dashboard::kind(&()), name).is_some_and(|current| is_new(&current)));
    Evidence { devices, brokers: brokers.collect(), dashboards_behind: behind.collect() }
}

/// Whether a holder in `namespace`, whose certificate is from the root that is noted, has its certificates from `root`.
fn signs_for(
    objects: &Objects,
    namespace: &str,
    root: &str,
) -> impl Fn(&dyn CertificateHolder, Option<&str>) -> bool {
    let only = only_root(&objects.roots, namespace).ok();
    move |holder, noted| match &holder.certificate_spec().root_ca_ref {
        Some(LocalRef { name }) => name == root,
        None => only.as_deref().or(noted) == Some(root),
    }
}
