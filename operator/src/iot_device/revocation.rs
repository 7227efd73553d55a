//! Revoking and suspending a device, and bringing it back. The order is the point: the CRL is signed, the broker is known to use
//! it, and only then the session is cut; a device whose session is cut first slips back in.
//!
//! Each look takes the next step that the world allows, and tells in the status what is confirmed. A crash anywhere resumes: the CRL is
//! in the root's ledger, what the broker uses is asked anew, and a session that is cut twice does no harm.

use api::conditions::{Reason, Verdict};
use api::{IotDevice, Loaded, Revocation, Superseded};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{Resource as _, ResourceExt as _};
use pki::RevocationReason;

use crate::certificate::{Outcome, Standing, request, secret};
use crate::context::Context;
use crate::events::Note;
use crate::fleet;
use crate::root_ca::observe::withdrawn;
use crate::shut_out::{self, Listed, Progress};

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
    let issued = issued(device, context, now);
    if issued.is_empty() {
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
    let hold = RevocationReason::CertificateHold;
    // A certificate that was revoked for good before stays so.
    let final_yet = |it: &Listed| reason == hold || it.listing.reason != hold;
    let listed = shut_out::listings(context, &namespace, issued.iter(), &root);
    let Some(listed) = listed.filter(|listed| listed.iter().all(final_yet)) else {
        context.triggers.revocations(&namespace);
        return Some(it);
    };
    if it.listed_at.is_none() {
        let (generation, number) = shut_out::because(&listed, &root);
        it.crl_number = Some(number);
        it.listed_at = Some(to_the_millisecond(now));
        let text = match listed.len() {
            0 => format!("nobody trusts the root of its certificates any more ({reason})"),
            count => {
                format!("{count} of its certificates on CRL {number} of generation {generation} ({reason})")
            }
        };
        outcome.notes.push(note(if reason == hold { "Suspended" } else { "Revoked" }, text));
    }
    if it.session_cut_at.is_some() {
        return Some(it);
    }
    // Whoever trusts its root lets it in: not only the broker that it was told to use.
    let brokers = shut_out::brokers(context, &namespace, &listed, &root);
    let (mut open, mut cutting, mut cut) = (brokers.is_empty(), false, None);
    for broker in &brokers {
        match shut_out::advance(context, &namespace, &name, broker, &listed, &root, now) {
            Progress::Open => open = true,
            Progress::Cutting => cutting = true,
            Progress::Cut(at) => cut = cut.max(Some(at)),
            Progress::Failed(problem) => {
                cutting = true;
                outcome.degraded = Some(Verdict::yes(
                    Reason::NotLoaded,
                    format!("its session could not be cut at the broker {}: {problem}", broker.name_any()),
                ));
                outcome.retry_in = Some(fleet::CUT_AGAIN);
            }
        }
    }
    if open {
        return Some(it);
    }
    it.loaded_at = it.loaded_at.or(Some(to_the_millisecond(now)));
    if let Some(at) = cut.filter(|_| !cutting) {
        it.session_cut_at = Some(to_the_millisecond(at));
        let names: Vec<_> = brokers.iter().map(|broker| broker.name_any()).collect();
        let names = names.join(", ");
        let number = it.crl_number.unwrap_or_default();
        let text = format!("{names} uses CRL {number}, and whatever session the device had is cut");
        outcome.notes.push(note("SessionCut", text));
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
        let loaded = context.fleet.loaded(&namespace, &broker.name_any());
        let uses = |loaded: &Loaded| {
            root.generations.iter().all(|signer| shut_out::uses(loaded, signer, signer.crl_number))
        };
        if !loaded.as_ref().is_some_and(uses) {
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
fn issued(device: &IotDevice, context: &Context, now: Timestamp) -> Vec<Superseded> {
    let (namespace, name) = (device.namespace().unwrap_or_default(), device.name_any());
    let mut issued: Vec<Superseded> = device.status.iter().flat_map(secret::told).collect();
    let ledgers = secret::Ledger::of_holder(&context.children, &IotDevice::kind(&()), &namespace, &name);
    issued.extend(ledgers.iter().flat_map(secret::Ledger::all).cloned());
    issued.retain(|it| it.not_after.0 > now);
    // Of two entries for one certificate the one that says more comes first, and stays.
    issued.sort_by_key(|it| (it.serial_number.clone(), it.root_ca.is_none()));
    issued.dedup_by(|a, b| a.serial_number == b.serial_number);
    issued
}

fn to_the_millisecond(moment: Timestamp) -> MicroTime {
    MicroTime(moment.round(jiff::Unit::Millisecond).unwrap_or(moment))
}

fn note(reason: &'static str, text: String) -> Note {
    Note { warning: false, reason, action: "Revoke", text }
}
