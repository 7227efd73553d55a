//! What is told of a root.

use api::conditions::{self, READY, Reason, Verdict};
use api::{CrlStatus, Generation, GenerationState, RootCA, RootCAStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pki::{Crl, SigningRoot};

use super::build::Ledger;
use crate::cluster::Note;

/// The status of a root that signs.
pub fn usable(root: &RootCA, ledger: &Ledger, devices: i32, now: Timestamp) -> RootCAStatus {
    let certificate = ledger.signing.certificate();
    let generation = i32::try_from(ledger.generation).unwrap_or(i32::MAX);
    let verdict = Verdict::yes(
        Reason::Active,
        format!("generation {generation} signs and is valid until {}", certificate.not_after()),
    );
    RootCAStatus {
        subject: Some(certificate.subject().to_owned()),
        active_generation: Some(generation),
        generations: vec![Generation {
            generation,
            state: GenerationState::Active,
            serial_number: certificate.serial().to_string(),
            not_before: Time(certificate.not_before()),
            not_after: Time(certificate.not_after()),
            fingerprint: certificate.fingerprint(),
        }],
        crl: ledger.crl.as_ref().map(crl_status),
        ..base(root, &verdict, devices, now)
    }
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

fn crl_status(crl: &Crl) -> CrlStatus {
    CrlStatus {
        number: i64::try_from(crl.number()).unwrap_or(i64::MAX),
        this_update: Time(crl.this_update()),
        next_update: Time(crl.next_update()),
        revoked: i32::try_from(crl.revoked().len()).unwrap_or(i32::MAX),
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
pub fn imported(signing: &SigningRoot, root: &RootCA) -> Note {
    let from = root.spec.import_from.as_ref().map_or("", |from| from.secret_name.as_str());
    let text = format!("adopted {} from Secret {from} as generation 1", signing.certificate().subject());
    Note { warning: false, reason: "RootImported", action: "Import", text }
}

/// A CRL was signed.
pub fn signed_crl(crl: &Crl, because: &str) -> Note {
    let text = format!(
        "signed CRL number {} with {} entries, valid until {}, because {because}",
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
