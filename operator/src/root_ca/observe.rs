//! What there is of a root: its own Secret, and the one that it is to be imported from.

use api::{RootCA, names};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;

use crate::cluster::Foreign;
use crate::context::{Context, Objects};
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
    let import = match (&secret, &root.spec.import_from) {
        (None, Some(import)) => {
            let name = import.secret_name.clone();
            Some(match context.cluster.read::<Secret>(&namespace, &name).await? {
                Some(secret) => Import::Found { secret: Box::new(secret) },
                None => Import::Missing { name },
            })
        }
        _ => None,
    };
    Ok(Observed { secret, import })
}

/// How many devices `root` signs for.
pub fn count_devices(objects: &Objects, namespace: &str, root: &str) -> i32 {
    let alone =
        || crate::certificate::request::only_root(&objects.roots, namespace).is_ok_and(|only| only == root);
    let devices = objects.devices.state();
    let here = devices.iter().filter(|device| device.namespace().as_deref() == Some(namespace));
    let alone = alone();
    let count = here.filter(|device| match &device.spec.certificate.root_ca_ref {
        Some(reference) => reference.name == root,
        None => alone,
    });
    i32::try_from(count.count()).unwrap_or(i32::MAX)
}
