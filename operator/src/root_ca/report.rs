//! What is told of a root.

use api::conditions::{self, DEGRADED, READY, ROTATING, Reason, Verdict};
use api::{CrlStatus, GenerationState, RootCA, RootCAStatus, RotationPhase, RotationStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pki::{Crl, SigningRoot};

use super::ledger::{Generation, Ledger, Rotation};
use super::revocation::CAPACITY;
use super::rotation::Evidence;
use crate::events::Note;

/// From how many entries on a CRL is nearly full: 80 % of what a Secret holds.
const NEARLY_FULL: usize = CAPACITY / 5 * 4;

/// What is told of a replacement that runs beside its phase.
pub struct Progress<'a> {
    /// How far everybody is.
    pub evidence: &'a Evidence,
    /// What it waits for.
    pub waits_for: Option<String>,
    /// Why another one will follow.
    pub queued: Option<String>,
}

/// The status of a root that signs. `degraded`: what is wrong although it does.
pub fn usable(
    root: &RootCA,
    ledger: &Ledger,
    progress: &Progress<'_>,
    degraded: Option<Verdict>,
    devices: i32,
    now: Timestamp,
) -> RootCAStatus {
    let active = ledger.active();
    let certificate = active.signing.certificate();
    let verdict = Verdict::yes(
        Reason::Active,
        format!("generation {} signs and is valid until {}", active.number, certificate.not_after()),
    );
    let rotation = ledger.notes.rotation.as_ref();
    let rotating = rotation.map(|rotation| rotating(root, ledger, rotation, progress));
    let listed =
        ledger.trusted().iter().filter_map(|it| it.crl.as_ref()).map(|crl| crl.revoked().len()).max();
    let full = listed.filter(|entries| *entries >= NEARLY_FULL).map(|entries| {
        Verdict::yes(
            Reason::CrlNearlyFull,
            format!(
                "the CRL has {entries} entries, and a Secret holds about {CAPACITY}: shorten spec.duration of devices, so that \
                 revoked certificates run out sooner, or replace the root"
            ),
        )
    });
    let mut status = RootCAStatus {
        subject: Some(certificate.subject().to_owned()),
        active_generation: Some(number(active)),
        generations: ledger.generations.iter().map(|it| generation(ledger, it)).collect(),
        rotation: rotation.map(|rotation| rotation_status(rotation, progress)),
        crl: active.crl.as_ref().map(crl_status),
        ..base(root, &verdict, devices, now)
    };
    for (type_, verdict) in [(ROTATING, rotating), (DEGRADED, degraded.or(full))] {
        match verdict {
            Some(verdict) => {
                conditions::set(&mut status.conditions, type_, &verdict, root.metadata.generation, now);
            }
            None => status.conditions.retain(|condition| condition.type_ != type_),
        }
    }
    status
}

/// The status of a root that cannot sign. What was told of its generations still stands.
pub fn unusable(root: &RootCA, verdict: &Verdict, devices: i32, now: Timestamp) -> RootCAStatus {
    let before = root.status.clone().unwrap_or_default();
    let base = base(root, verdict, devices, now);
    RootCAStatus {
        subject: before.subject,
        active_generation: before.active_generation,
        generations: before.generations,
        crl: before.crl,
        rotation: before.rotation,
        ..base
    }
}

fn base(root: &RootCA, verdict: &Verdict, devices: i32, now: Timestamp) -> RootCAStatus {
    let generation = root.metadata.generation;
    let mut conditions = root.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
    conditions::set(&mut conditions, READY, verdict, generation, now);
    RootCAStatus {
        observed_generation: generation,
        devices: Some(devices),
        conditions,
        ..RootCAStatus::default()
    }
}

fn generation(ledger: &Ledger, it: &Generation) -> api::Generation {
    let certificate = it.signing.certificate();
    let active = ledger.active().number;
    api::Generation {
        generation: number(it),
        state: match it.number.cmp(&active) {
            std::cmp::Ordering::Less => GenerationState::Retiring,
            std::cmp::Ordering::Equal => GenerationState::Active,
            std::cmp::Ordering::Greater => GenerationState::Prepared,
        },
        serial_number: certificate.serial().to_string(),
        not_before: Time(certificate.not_before()),
        not_after: Time(certificate.not_after()),
        fingerprint: certificate.fingerprint(),
    }
}

fn rotation_status(rotation: &Rotation, progress: &Progress<'_>) -> RotationStatus {
    let Rotation { phase, reason, started_at, .. } = rotation;
    let evidence = progress.evidence;
    RotationStatus {
        phase: *phase,
        reason: reason.clone(),
        started_at: Time(*started_at),
        trusting: evidence.count(|device| device.trusts_new),
        reissued: evidence.count(|device| device.has_new),
        total: evidence.count(|_| true),
        laggards: evidence.laggards(*phase),
    }
}

fn rotating(root: &RootCA, ledger: &Ledger, rotation: &Rotation, progress: &Progress<'_>) -> Verdict {
    let (old, new) = (ledger.generations[0].number, ledger.latest().number);
    let paused = root.spec.rotation.paused;
    let waits = match &progress.waits_for {
        _ if paused => ", held by spec.rotation.paused".to_owned(),
        Some(what) => format!(", waiting for {what}"),
        None => String::new(),
    };
    let queued = progress.queued.iter().map(|next| format!("; another replacement follows, because {next}"));
    let message = format!(
        "generation {new} takes the place of generation {old}: {:?}{waits}{}",
        rotation.phase,
        queued.collect::<String>()
    );
    Verdict::yes(if paused { Reason::Paused } else { Reason::Rotating }, message)
}

fn crl_status(crl: &Crl) -> CrlStatus {
    CrlStatus {
        number: i64::try_from(crl.number()).unwrap_or(i64::MAX),
        this_update: Time(crl.this_update()),
        next_update: Time(crl.next_update()),
        revoked: i32::try_from(crl.revoked().len()).unwrap_or(i32::MAX),
    }
}

fn number(generation: &Generation) -> i32 {
    i32::try_from(generation.number).unwrap_or(i32::MAX)
}

/// A replacement began, went on, or is over.
pub fn rotation_note(reason: &'static str, text: String) -> Note {
    Note { warning: false, reason, action: "Rotate", text }
}

/// What a phase is for, in words that follow "now".
pub fn purpose(phase: RotationPhase) -> &'static str {
    match phase {
        RotationPhase::Distributing => "the new root goes into every bundle beside the old one",
        RotationPhase::SwitchingServers => "brokers, then dashboards get certificates of the new root",
        RotationPhase::Reissuing => "devices get certificates of the new root, one after the other",
        RotationPhase::Draining => "devices take their new certificates into use",
        RotationPhase::Retiring => "the old root leaves every bundle",
    }
}

/// A root was made.
pub fn generated(signing: &SigningRoot, generation: u32, because: &str) -> Note {
    let certificate = signing.certificate();
    let text = format!(
        "made generation {generation}, {}, valid until {}, because {because}",
        certificate.subject(),
        certificate.not_after()
    );
    Note { warning: false, reason: "RootGenerated", action: "Generate", text }
}

/// A root was adopted.
pub fn imported(signing: &SigningRoot, generation: u32, root: &RootCA) -> Note {
    let from = root.spec.import_from.as_ref().map_or("", |from| from.secret_name.as_str());
    let subject = signing.certificate().subject();
    let text = format!("adopted {subject} from Secret {from} as generation {generation}");
    Note { warning: false, reason: "RootImported", action: "Import", text }
}

/// A CRL was signed.
pub fn signed_crl(crl: &Crl, generation: u32, because: &str) -> Note {
    let text = format!(
        "signed CRL number {} of generation {generation} with {} entries, valid until {}, because {because}",
        crl.number(),
        crl.revoked().len(),
        crl.next_update()
    );
    Note { warning: false, reason: "CrlSigned", action: "SignCrl", text }
}

/// A refusal, told once: only when it is news.
pub fn refusal(root: &RootCA, verdict: &Verdict) -> Option<Note> {
    let told = root
        .status
        .iter()
        .flat_map(|status| &status.conditions)
        .any(|c| c.type_ == READY && c.message == verdict.message);
    let note = || Note {
        warning: true,
        reason: verdict.reason.as_str(),
        action: "Refuse",
        text: verdict.message.clone(),
    };
    (!told).then(note)
}
