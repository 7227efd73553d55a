//! The ledger of a root: what its Secret holds, how it is written and read. All that must survive is here: the keys, the CRLs
//! with their numbers, until when what they list would have been valid, and how far a replacement has come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::{DeletionPolicy, RootCA, RotationPhase};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use pki::{Crl, SerialNumber, SigningRoot};
use serde::{Deserialize, Serialize};

use crate::workloads::metadata::metadata;

/// The type of a root's Secret: nothing mounts it, nothing but the operator understands it.
const SECRET_TYPE: &str = "ca-iot.dev/root";
/// The generation that signs for devices.
const GENERATION: &str = "ca-iot.dev/generation";
/// The replacement that runs, as JSON.
const ROTATION: &str = "ca-iot.dev/rotation";
/// The value of `spec.rotation.trigger` that was served last.
const TRIGGER: &str = "ca-iot.dev/rotation-trigger";
/// The value of `spec.keyAlgorithm` when the latest generation was made: an imported root's key may be of another kind.
const KEY_ALGORITHM: &str = "ca-iot.dev/key-algorithm";
/// The Secret that a generation was adopted from last.
const IMPORTED_FROM: &str = "ca-iot.dev/imported-from";

/// Octets of an entry in `g<generation>.revoked`: the serial number, and the end of its certificate in seconds since 1970.
const ENTRY: usize = SerialNumber::OCTETS + 4;

/// A root's generations and what was noted beside them.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// The oldest first; never empty.
    pub generations: Vec<Generation>,
    /// What was noted.
    pub notes: Notes,
}

/// A generation of a root.
#[derive(Clone, Debug)]
pub struct Generation {
    /// Counts from 1.
    pub number: u32,
    /// Certificate and key.
    pub signing: Arc<SigningRoot>,
    /// The CRL that was signed last.
    pub crl: Option<Crl>,
    /// When the certificates that the CRL lists would have ended, by serial number.
    pub ends: BTreeMap<SerialNumber, Timestamp>,
}

/// What is noted beside the generations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The value of `spec.rotation.trigger` that was served last.
    pub trigger: Option<String>,
    /// The value of `spec.keyAlgorithm` when the latest generation was made; none in a Secret of an earlier release.
    pub key_algorithm: Option<String>,
    /// The Secret that a generation was adopted from last.
    pub imported_from: Option<String>,
    /// The replacement that runs.
    pub rotation: Option<Rotation>,
}

/// A replacement that runs: from the first generation of the ledger to the second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// Where it is.
    pub phase: RotationPhase,
    /// Why it runs.
    pub reason: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When this phase began.
    pub since: Timestamp,
}

// === impl Rotation ===

impl Rotation {
    /// Whether its present phase has lasted for `this_long`, however long that is.
    pub fn has_lasted(&self, this_long: Duration, now: Timestamp) -> bool {
        Duration::try_from(now.duration_since(self.since)).is_ok_and(|lasted| lasted >= this_long)
    }
}

// === impl Ledger ===

impl Ledger {
    /// A root with one generation, made or adopted for what `root` asks now.
    pub fn new(root: &RootCA, number: u32, signing: SigningRoot) -> Self {
        let generation = Generation::new(number, signing);
        Self { generations: vec![generation], notes: Notes::of(root) }
    }

    /// As it was read, and for one of an earlier release, which noted nothing: what `root` asks is what it was made for.
    #[must_use]
    pub fn taken_over(mut self, root: &RootCA) -> Self {
        if self.notes.key_algorithm.is_none() {
            self.notes = Notes { trigger: None, ..Notes::of(root) };
        }
        self
    }

    /// The generation that signs for devices.
    pub fn active(&self) -> &Generation {
        let latest = self.generations.len() - 1;
        let index = match &self.notes.rotation {
            Some(rotation) if rotation.phase < RotationPhase::Reissuing => 0,
            _ => latest,
        };
        &self.generations[index]
    }

    /// The generation of this number.
    pub fn generation(&self, number: u32) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.number == number)
    }

    /// The newest generation.
    pub fn latest(&self) -> &Generation {
        &self.generations[self.generations.len() - 1]
    }

    /// The generations that are trusted: all, until the old one is to go.
    pub fn trusted(&self) -> &[Generation] {
        match &self.notes.rotation {
            Some(rotation) if rotation.phase == RotationPhase::Retiring => {
                &self.generations[self.generations.len() - 1..]
            }
            _ => &self.generations,
        }
    }
}

// === impl Generation ===

impl Generation {
    /// One that has not signed anything yet.
    pub fn new(number: u32, signing: SigningRoot) -> Self {
        Self { number, signing: Arc::new(signing), crl: None, ends: BTreeMap::new() }
    }
}

// === impl Notes ===

impl Notes {
    /// What is noted when a generation is made or adopted for what `root` asks now.
    pub fn of(root: &RootCA) -> Self {
        Self {
            trigger: root.spec.rotation.trigger.clone(),
            key_algorithm: Some(root.spec.key_algorithm.to_string()),
            imported_from: root.spec.import_from.as_ref().map(|from| from.secret_name.clone()),
            rotation: None,
        }
    }
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

fn revoked_of(generation: u32) -> String {
    format!("g{generation}.revoked")
}

/// The Secret of `root`.
pub fn secret(root: &RootCA, ledger: &Ledger) -> Secret {
    let Notes { trigger, key_algorithm, imported_from, rotation } = &ledger.notes;
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let mut data = BTreeMap::new();
    for Generation { number, signing, crl, ends } in &ledger.generations {
        data.insert(certificate_of(*number), bytes(&signing.certificate().to_pem()));
        data.insert(key_of(*number), bytes(&signing.key().to_pem()));
        if let Some(crl) = crl {
            data.insert(crl_of(*number), bytes(&crl.to_pem()));
        }
        if !ends.is_empty() {
            data.insert(revoked_of(*number), ByteString(ends_to_octets(ends)));
        }
    }
    // The types are plain data: they always serialise.
    let rotation = rotation.as_ref().and_then(|rotation| serde_json::to_string(rotation).ok());
    let notes = [
        (GENERATION, Some(ledger.active().number.to_string())),
        (ROTATION, Some(rotation.unwrap_or_default())),
        (TRIGGER, Some(trigger.clone().unwrap_or_default())),
        (KEY_ALGORITHM, key_algorithm.clone()),
        (IMPORTED_FROM, Some(imported_from.clone().unwrap_or_default())),
    ];
    let mut metadata = metadata(root);
    let notes = notes.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    metadata.annotations = Some(notes.collect());
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
    let note = |key: &str| secret.annotations().get(key).filter(|text| !text.is_empty()).cloned();
    let active: u32 = note(GENERATION)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("the annotation {GENERATION} is missing"))?;
    let rotation = note(ROTATION)
        .map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|problem| format!("the annotation {ROTATION} cannot be read: {problem}"))?;
    let mut numbers: BTreeSet<u32> = [active].into();
    if rotation.is_some() {
        let keys = secret.data.iter().flat_map(BTreeMap::keys);
        numbers
            .extend(keys.filter_map(|key| key.strip_prefix('g')?.strip_suffix(".crt")?.parse::<u32>().ok()));
    }
    let generations: Vec<_> =
        numbers.into_iter().map(|number| read_generation(secret, number)).collect::<Result<_, _>>()?;
    if rotation.is_some() && generations.len() != 2 {
        return Err(format!("a replacement is noted, but there are {} generations", generations.len()));
    }
    let notes = Notes {
        trigger: note(TRIGGER),
        key_algorithm: note(KEY_ALGORITHM),
        imported_from: note(IMPORTED_FROM),
        rotation,
    };
    Ok(Ledger { generations, notes })
}

fn read_generation(secret: &Secret, number: u32) -> Result<Generation, String> {
    let octets = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|octets| &octets.0);
    let part = |key: String| {
        let octets = octets(&key).ok_or_else(|| format!("{key} is missing"))?;
        std::str::from_utf8(octets).map_err(|_| format!("{key} is not PEM"))
    };
    let signing = SigningRoot::load(part(certificate_of(number))?, part(key_of(number))?)
        .map_err(|problem| format!("generation {number}: {problem}"))?;
    // A CRL that cannot be read is not signed anew in silence: its number, and what it lists, would be lost.
    let crl = match part(crl_of(number)) {
        Ok(text) => Some(Crl::from_pem(text).map_err(|problem| format!("{}: {problem}", crl_of(number)))?),
        Err(_) => None,
    };
    let ends = match octets(&revoked_of(number)) {
        Some(octets) => {
            ends_from_octets(octets).ok_or_else(|| format!("{} is damaged", revoked_of(number)))?
        }
        None => BTreeMap::new(),
    };
    Ok(Generation { number, signing: Arc::new(signing), crl, ends })
}

fn ends_to_octets(ends: &BTreeMap<SerialNumber, Timestamp>) -> Vec<u8> {
    let mut octets = Vec::with_capacity(ends.len() * ENTRY);
    for (serial, end) in ends {
        let number = serial.as_octets();
        octets.extend(std::iter::repeat_n(0, SerialNumber::OCTETS - number.len()));
        octets.extend(number);
        octets.extend(u32::try_from(end.as_second()).unwrap_or(u32::MAX).to_be_bytes());
    }
    octets
}

fn ends_from_octets(octets: &[u8]) -> Option<BTreeMap<SerialNumber, Timestamp>> {
    let (entries, rest) = octets.as_chunks::<ENTRY>();
    let entry = |entry: &[u8; ENTRY]| {
        let (serial, end) = entry.split_at(SerialNumber::OCTETS);
        let end = u32::from_be_bytes(end.try_into().ok()?);
        let serial = hex::encode(serial).parse().ok()?;
        Some((serial, Timestamp::from_second(i64::from(end)).ok()?))
    };
    rest.is_empty().then(|| entries.iter().map(entry).collect()).flatten()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use api::{DeviceSubject, RootCASpec, RootSubject};
    use pki::CrlContents;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn root() -> RootCA {
        let spec = serde_json::json!({
            "subject": {"commonName": "Test"}, "duration": "2h", "rotation": {"trigger": "monday"},
        });
        let spec: RootCASpec = serde_json::from_value(spec).unwrap();
        assert_eq!(
            spec.subject,
            RootSubject { common_name: "Test".into(), attributes: DeviceSubject::default() }
        );
        RootCA::new("r", spec)
    }

    fn generation(number: u32) -> Generation {
        let profile = super::super::plan::profile(&root(), number).unwrap();
        let signing = SigningRoot::generate(&profile, SerialNumber::from_random([7; 20]), at(0)).unwrap();
        let contents = CrlContents { number: 3, valid_for: Duration::from_hours(1), revoked: Vec::new() };
        let crl = signing.sign_crl(&contents, at(0)).unwrap();
        let ends =
            BTreeMap::from([("0a1b".parse().unwrap(), at(5)), (SerialNumber::from_random([9; 20]), at(7))]);
        Generation { crl: Some(crl), ends, ..Generation::new(number, signing) }
    }

    #[test]
    fn all_of_it_survives_its_writing() {
        let rotation = Rotation {
            phase: RotationPhase::SwitchingServers,
            reason: "spec.rotation.trigger changed to \"monday\"".into(),
            started_at: at(1),
            since: at(2),
        };
        let notes = Notes { rotation: Some(rotation), ..Notes::of(&root()) };
        let ledger = Ledger { generations: vec![generation(1), generation(2)], notes };
        let read = read(&secret(&root(), &ledger)).unwrap();
        assert_eq!(read.notes, ledger.notes);
        assert_eq!(read.active().number, 1, "devices have not changed yet");
        for (read, written) in read.generations.iter().zip(&ledger.generations) {
            assert_eq!(read.number, written.number);
            assert_eq!(read.signing.certificate(), written.signing.certificate());
            assert_eq!(read.crl.as_ref().unwrap().der(), written.crl.as_ref().unwrap().der());
            assert_eq!(read.ends, written.ends);
        }
    }

    #[test]
    fn what_is_damaged_is_named() {
        let ledger = Ledger { generations: vec![generation(4)], notes: Notes::default() };
        let damage = |key: &str, octets: &[u8]| {
            let mut secret = secret(&root(), &ledger);
            secret.data.as_mut().unwrap().insert(key.to_owned(), ByteString(octets.to_vec()));
            read(&secret).unwrap_err()
        };
        assert!(damage("g4.revoked", b"short").contains("g4.revoked is damaged"));
        assert!(damage("g4.crl", b"garbage").starts_with("g4.crl: "));
        assert!(damage("g4.key", b"garbage").starts_with("generation 4: "));
    }
}
