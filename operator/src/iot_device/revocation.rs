//! Revoking and suspending a device, and bringing it back. The order is the point: the CRL is signed, the broker is known to use
//! it, and only then the session is cut; a device whose session is cut first slips back in.
//!
//! Each look takes the next step that the world allows, and tells in the status what is confirmed. A crash anywhere resumes: the CRL is
//! in the root's ledger, what the broker uses is asked anew, and a session that is cut twice does no harm.

use std::collections::BTreeMap;

use api::conditions::{Reason, Verdict};
use api::{IotDevice, MqttBroker, Revocation, Superseded};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{Resource as _, ResourceExt as _};
use pki::{RevocationReason, SerialNumber};

use crate::certificate::{Outcome, Standing, request, secret};
use crate::cluster::Note;
use crate::context::Context;
use crate::fleet::{self, CutState};
use crate::root_ca::observe::withdrawn;
use crate::roots::{Listing, UsableRoot};

/// Whether `device` may use its certificates.
pub fn standing(device: &IotDevice) -> Standing {
    match withdrawn(device) {
        None => Standing::InForce,
        Some(RevocationReason::CertificateHold) => Standing::Suspended,
        Some(reason) => Standing::Revoked(reason),
    }
}

/// Wakes the devices of a namespace that wait for a CRL to be signed or loaded.
pub fn wake(context: &Context, namespace: &str) {
    for device in context.objects.devices.state() {
        let pending = device.status.as_ref().and_then(|status| status.revocation.as_ref());
        let waits = match withdrawn(&device) {
            Some(_) => pending.is_none_or(|it| it.session_cut_at.is_none()),
            None => pending.is_some(),
        };
        if waits && device.namespace().as_deref() == Some(namespace) {
            context.triggers.one::<IotDevice>(namespace, &device.name_any());
        }
    }
}

/// Takes the next step of withdrawing `device`'s certificates, or of bringing them back.
pub fn advance(device: &IotDevice, context: &Context, outcome: &mut Outcome, now: Timestamp) {
    let before = device.status.as_ref().and_then(|status| status.revocation.clone());
    match withdrawn(device) {
        Some(reason) => {
            let before = before.filter(|before| before.reason == reason);
            outcome.revocation = withdraw(device, context, outcome, reason, before, now);
        }
        None => {
            if let Some(before) = before {
                outcome.revocation = bring_back(device, context, outcome, before);
            }
        }
    }
}

fn withdraw(
    device: &IotDevice,
    context: &Context,
    outcome: &mut Outcome,
    reason: RevocationReason,
    before: Option<Revocation>,
    now: Timestamp,
) -> Option<Revocation> {
    let (namespace, name) = (device.namespace().unwrap_or_default(), device.name_any());
    let serials = serials(device, context, now);
    if serials.is_empty() {
        // Nothing was ever issued, or all of it has ended.
        return before;
    }
    let mut it = before.unwrap_or(Revocation {
        reason,
        crl_number: None,
        listed_at: None,
        loaded_at: None,
        session_cut_at: None,
    });
    let Some(root) = request::root_of(context, &namespace, device) else { return Some(it) };
    let listings: Option<Vec<Listing>> = serials.iter().map(|serial| root.revoked.get(*serial)).collect();
    let hold = RevocationReason::CertificateHold;
    // A certificate that was revoked for good before stays so.
    let final_yet = |listing: &Listing| reason == hold || listing.reason != hold;
    let Some(listings) = listings.filter(|listings| listings.iter().all(final_yet)) else {
        context.triggers.revocations(&namespace);
        return Some(it);
    };
    let mut crls = BTreeMap::<u32, u64>::new();
    for listing in &listings {
        let number = crls.entry(listing.generation).or_default();
        *number = listing.crl_number.max(*number);
    }
    let because =
        crls.iter().next_back().map(|(generation, number)| (*generation, *number)).unwrap_or_default();
    if it.listed_at.is_none() {
        it.crl_number = i64::try_from(because.1).ok();
        it.listed_at = Some(to_the_millisecond(now));
        outcome.notes.push(note(
            if reason == hold { "Suspended" } else { "Revoked" },
            format!(
                "{} of its certificates on CRL {} of generation {} ({reason})",
                serials.len(),
                because.1,
                because.0
            ),
        ));
    }
    let Ok(broker) = context.objects.broker(&namespace, device.spec.broker_ref.as_ref()) else {
        return Some(it);
    };
    if it.loaded_at.is_none() {
        if !has_loaded(context, &broker, &root, &crls) {
            return Some(it);
        }
        it.loaded_at = Some(to_the_millisecond(now));
    }
    if it.session_cut_at.is_none() {
        let Some(address) = fleet::address(&broker) else { return Some(it) };
        let because = (because.0, it.crl_number.unwrap_or_default());
        match context.fleet.cut(&namespace, &name, &address, &root, because, now) {
            CutState::Running => {}
            CutState::Done(at) => {
                it.session_cut_at = Some(to_the_millisecond(at));
                let text = format!(
                    "the broker {} uses CRL {}, and whatever session the device had is cut",
                    broker.name_any(),
                    because.1
                );
                outcome.notes.push(note("SessionCut", text));
            }
            CutState::Failed(_, problem) => {
                outcome.degraded = Some(Verdict::yes(
                    Reason::NotLoaded,
                    format!("its session could not be cut at the broker {}: {problem}", broker.name_any()),
                ));
                outcome.retry_in = Some(fleet::CUT_AGAIN);
            }
        }
    }
    Some(it)
}

/// A hold is over when the CRL is signed without it and the broker uses that CRL; after anything else a new certificate is all it takes.
fn bring_back(
    device: &IotDevice,
    context: &Context,
    outcome: &mut Outcome,
    before: Revocation,
) -> Option<Revocation> {
    let (namespace, name) = (device.namespace().unwrap_or_default(), device.name_any());
    let Some(root) = request::root_of(context, &namespace, device) else { return Some(before) };
    let current = outcome.current.as_ref().and_then(|it| it.certificate.serial_number.parse().ok());
    let listing = current.and_then(|serial| root.revoked.get(serial));
    if listing.is_some_and(|listing| listing.reason == RevocationReason::CertificateHold) {
        context.triggers.revocations(&namespace);
        outcome.ready = Verdict::no(Reason::Suspended, "on hold until the CRL is signed without it");
        return Some(before);
    }
    if before.reason == RevocationReason::CertificateHold
        && let Ok(broker) = context.objects.broker(&namespace, device.spec.broker_ref.as_ref())
    {
        let crls = root.generations.iter().map(|it| (it.number, it.crl_number)).collect();
        if !has_loaded(context, &broker, &root, &crls) {
            let text = format!("on hold until the broker {} uses the CRL without it", broker.name_any());
            outcome.ready = Verdict::no(Reason::Suspended, text);
            return Some(before);
        }
        outcome.notes.push(note("Resumed", "its certificate is in force again".to_owned()));
    }
    context.fleet.forget_cut(&namespace, &name);
    None
}

/// The certificates of `device` that are within their dates, by its Secret and by its status.
fn serials(device: &IotDevice, context: &Context, now: Timestamp) -> Vec<SerialNumber> {
    let (namespace, name) = (device.namespace().unwrap_or_default(), device.name_any());
    let mut issued: Vec<Superseded> = device.status.iter().flat_map(secret::told).collect();
    let ledgers = secret::Ledger::of_holder(&context.children, &IotDevice::kind(&()), &namespace, &name);
    issued.extend(ledgers.iter().flat_map(secret::Ledger::all).cloned());
    let valid = issued.iter().filter(|it| it.not_after.0 > now);
    let mut serials: Vec<SerialNumber> = valid.filter_map(|it| it.serial_number.parse().ok()).collect();
    serials.sort();
    serials.dedup();
    serials
}

/// Whether `broker` uses these CRLs, by generation, or later ones. A generation that is trusted no more lets nobody in.
fn has_loaded(context: &Context, broker: &MqttBroker, root: &UsableRoot, crls: &BTreeMap<u32, u64>) -> bool {
    let (namespace, name) = (broker.namespace().unwrap_or_default(), broker.name_any());
    let trusted = root.generations.iter().filter_map(|it| Some((it, crls.get(&it.number)?)));
    trusted.into_iter().all(|(signer, number)| {
        let fingerprint = signer.signing.certificate().fingerprint();
        let loaded = context.fleet.loaded_crl(&namespace, &name, &fingerprint);
        loaded.and_then(|loaded| u64::try_from(loaded).ok()).is_some_and(|loaded| loaded >= *number)
    })
}

fn to_the_millisecond(moment: Timestamp) -> MicroTime {
    MicroTime(moment.round(jiff::Unit::Millisecond).unwrap_or(moment))
}

fn note(reason: &'static str, text: String) -> Note {
    Note { warning: false, reason, action: "Revoke", text }
}
