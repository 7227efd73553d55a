//! What a root becomes: the Secret that is its ledger, and the `ConfigMap` that everybody may read.

use std::collections::BTreeMap;

use api::names;
use api::{DeletionPolicy, RootCA};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use pki::{Crl, SigningRoot};

use crate::roots::UsableRoot;
use crate::workloads::metadata::metadata;

/// The type of a root's Secret: nothing mounts it, nothing but the operator understands it.
const SECRET_TYPE: &str = "ca-iot.dev/root";
const GENERATION: &str = "ca-iot.dev/generation";

/// A root's key, its number, and its CRL: all that must survive.
#[derive(Debug)]
pub struct Ledger {
    /// Counts from 1.
    pub generation: u32,
    /// Certificate and key.
    pub signing: SigningRoot,
    /// The CRL that was signed last.
    pub crl: Option<Crl>,
}

/// Where the key of a generation is in the Secret.
pub fn key_of(generation: u32) -> String {
    format!("g{generation}.key")
}

fn certificate_of(generation: u32) -> String {
    format!("g{generation}.crt")
}

fn crl_of(generation: u32) -> String {
    format!("g{generation}.crl")
}

/// The Secret of `root`.
pub fn secret(root: &RootCA, ledger: &Ledger) -> Secret {
    let Ledger { generation, signing, crl } = ledger;
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let mut data = BTreeMap::from([
        (certificate_of(*generation), bytes(&signing.certificate().to_pem())),
        (key_of(*generation), bytes(&signing.key().to_pem())),
    ]);
    if let Some(crl) = crl {
        data.insert(crl_of(*generation), bytes(&crl.to_pem()));
    }
    let mut metadata = metadata(root);
    metadata.annotations = Some(BTreeMap::from([(GENERATION.to_owned(), generation.to_string())]));
    if root.spec.deletion_policy == DeletionPolicy::Retain {
        metadata.owner_references = None;
    }
    Secret { metadata, type_: Some(SECRET_TYPE.to_owned()), data: Some(data), ..Secret::default() }
}

/// Whether `stored` has everything that `wanted` has; the server adds to metadata.
pub fn is_in_order(wanted: &Secret, stored: &Secret) -> bool {
    let owners = |secret: &Secret| secret.owner_references().to_vec();
    wanted.data == stored.data
        && owners(wanted) == owners(stored)
        && wanted.labels().iter().all(|(key, value)| stored.labels().get(key) == Some(value))
        && wanted.annotations().iter().all(|(key, value)| stored.annotations().get(key) == Some(value))
}

/// Reads a ledger back. The error says which part is wrong.
pub fn read(secret: &Secret) -> Result<Ledger, String> {
    let generation = secret.annotations().get(GENERATION).and_then(|text| text.parse().ok());
    let generation: u32 = generation.ok_or_else(|| format!("the annotation {GENERATION} is missing"))?;
    let part = |key: String| {
        let bytes =
            secret.data.as_ref().and_then(|data| data.get(&key)).ok_or(format!("{key} is missing"))?;
        std::str::from_utf8(&bytes.0).map_err(|_| format!("{key} is not PEM"))
    };
    let signing = SigningRoot::load(part(certificate_of(generation))?, part(key_of(generation))?)
        .map_err(|problem| format!("generation {generation}: {problem}"))?;
    // A CRL that cannot be read is signed anew; its number is then not known, so it must not be lost silently.
    let crl = match part(crl_of(generation)) {
        Ok(text) => {
            Some(Crl::from_pem(text).map_err(|problem| format!("{}: {problem}", crl_of(generation)))?)
        }
        Err(_) => None,
    };
    Ok(Ledger { generation, signing, crl })
}

/// What everybody may read: the roots to trust.
pub fn trust(root: &RootCA, ledger: &Ledger) -> ConfigMap {
    let metadata = ObjectMeta { name: Some(names::trust(&root.name_any())), ..metadata(root) };
    let data = BTreeMap::from([("ca.crt".to_owned(), ledger.signing.certificate().to_pem())]);
    ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }
}

/// What those who need a certificate take.
pub fn usable(root: &RootCA, ledger: Ledger) -> UsableRoot {
    let crls = ledger.crl.as_ref().map(Crl::to_pem).unwrap_or_default();
    UsableRoot {
        generation: ledger.generation,
        bundle: ledger.signing.certificate().to_pem(),
        crls,
        crl_distribution_url: root.spec.crl.distribution_url.clone(),
        signing: ledger.signing,
    }
}
