//! What a root becomes for others: the `ConfigMap` that everybody may read, and what those who need a certificate take.

use std::collections::BTreeMap;

use api::{RootCA, RotationPhase, names};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use pki::{Crl, TrustBundle};

use super::ledger::{Generation, Ledger};
use super::rotation::{self, Evidence};
use crate::roots::{Listing, Signer, Signing, Spread, UsableRoot};
use crate::workloads::metadata::metadata;

/// What everybody may read: the roots to trust, and their CRLs.
pub fn trust(root: &RootCA, ledger: &Ledger) -> ConfigMap {
    let metadata = ObjectMeta { name: Some(names::trust(&root.name_any())), ..metadata(root) };
    let data = BTreeMap::from([(names::TRUST_KEY.to_owned(), bundle(ledger))]);
    let crls = ledger.trusted().iter().filter_map(|generation| {
        let crl = generation.crl.as_ref()?;
        Some((names::crl(generation.number), ByteString(crl.der().to_vec())))
    });
    ConfigMap { metadata, data: Some(data), binary_data: Some(crls.collect()), ..ConfigMap::default() }
}

/// What those who need a certificate take. `before`: what they have taken until now; `own_url`: where the operator serves CRLs.
pub fn usable(
    root: &RootCA,
    ledger: &Ledger,
    evidence: &Evidence,
    before: Option<&UsableRoot>,
    signed_at: Option<Timestamp>,
    own_url: Option<&str>,
) -> UsableRoot {
    let trusted = ledger.trusted();
    UsableRoot {
        name: root.name_any(),
        generations: trusted.iter().map(|generation| signer(root, generation, own_url)).collect(),
        signing: signing(root, ledger, evidence),
        bundle: bundle(ledger),
        crls: trusted.iter().filter_map(|generation| generation.crl.as_ref()).map(Crl::to_pem).collect(),
        revoked: trusted.iter().flat_map(|generation| listings(generation, before)).collect(),
        signed_at: signed_at.or_else(|| before.and_then(|before| before.signed_at)),
    }
}

/// Who signs for whom, in the present phase.
fn signing(root: &RootCA, ledger: &Ledger, evidence: &Evidence) -> Signing {
    let (old, new) = (ledger.generations[0].number, ledger.latest().number);
    let everybody = |number| Signing { brokers: number, dashboards: number, devices: number, spread: None };
    let Some(rotation) = &ledger.notes.rotation else { return everybody(new) };
    match rotation.phase {
        RotationPhase::Distributing => everybody(old),
        RotationPhase::SwitchingServers => {
            let brokers_serve_it = evidence.brokers.iter().all(|broker| broker.serves_new);
            Signing { dashboards: if brokers_serve_it { new } else { old }, brokers: new, ..everybody(old) }
        }
        RotationPhase::Reissuing => {
            let over = rotation::spread(&root.spec, evidence.devices.len());
            Signing { spread: Some(Spread { since: rotation.since, over }), ..everybody(new) }
        }
        RotationPhase::Draining | RotationPhase::Retiring => everybody(new),
    }
}

fn signer(root: &RootCA, generation: &Generation, own_url: Option<&str>) -> Signer {
    let Generation { number, signing, crl, .. } = generation;
    let (namespace, name) = (root.namespace().unwrap_or_default(), root.name_any());
    let own_url = || own_url.map(|base| format!("{base}/crl/{namespace}/{name}.g{number}.crl"));
    Signer {
        number: *number,
        signing: signing.clone(),
        crl_number: crl.as_ref().map_or(0, Crl::number),
        crl_distribution_url: root.spec.crl.distribution_url.clone().or_else(own_url),
    }
}

/// A generation that signs for nobody but a probe.
pub fn signer_of(generation: &Generation) -> Signer {
    let Generation { number, signing, .. } = generation;
    Signer { number: *number, signing: signing.clone(), crl_number: 0, crl_distribution_url: None }
}

fn bundle(ledger: &Ledger) -> String {
    TrustBundle::new(ledger.trusted().iter().map(|generation| generation.signing.certificate().clone()))
        .to_pem()
}

/// What the CRL of `generation` lists. Which CRL was the first to list it is remembered as long as this process lives.
fn listings(
    generation: &Generation,
    before: Option<&UsableRoot>,
) -> impl Iterator<Item = (pki::SerialNumber, Listing)> {
    generation.crl.iter().flat_map(move |crl| {
        crl.revoked().map(move |entry| {
            let now =
                Listing { reason: entry.reason, generation: generation.number, crl_number: crl.number() };
            let known = before.and_then(|before| before.revoked.get(entry.serial));
            let known =
                known.filter(|known| known.reason == now.reason && known.generation == now.generation);
            (entry.serial, known.unwrap_or(now))
        })
    })
}
