//! What is to be done about a root, and why. Pure: time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use api::conditions::{Reason, Verdict};
use api::{DeviceSubject, RootCA, RootCASpec};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use pki::{Crl, CrlContents, RootProfile, SerialNumber, SigningRoot, Subject};

use super::ledger::{self, Generation, Ledger};
use super::observe::{Import, Observed};
use super::revocation::{Due, Entries, entries};
use super::rotation;

/// What is to be done about the signing key.
pub enum KeyPlan {
    /// Sign with the stored one.
    Use {
        /// It and its CRL.
        ledger: Box<Ledger>,
    },
    /// Make one.
    Generate {
        /// Its number.
        generation: u32,
        /// Why.
        because: String,
    },
    /// Take over the one that the spec names.
    Import {
        /// It.
        signing: Box<SigningRoot>,
    },
    /// Do nothing; nothing is overwritten.
    Refuse {
        /// Why, and what to do.
        verdict: Verdict,
        /// When to look again without being told.
        retry_in: Option<Duration>,
    },
}

/// What is to be done about the CRL.
pub enum CrlPlan {
    /// Nothing until half of its life has passed.
    Keep,
    /// Sign the next one.
    Sign {
        /// What it says.
        contents: CrlContents,
        /// When the certificates that it lists end.
        ends: BTreeMap<SerialNumber, Timestamp>,
        /// Why.
        because: String,
    },
    /// Sign the next one, but not yet: more may come, and every broker reloads for each.
    Later {
        /// How much later.
        wait: Duration,
    },
}

/// How far apart CRLs are signed at the least.
const APART: Duration = Duration::from_millis(1500);

/// What is to be done about the signing key.
pub fn key(spec: &RootCASpec, observed: &Observed, now: Timestamp) -> KeyPlan {
    if let Some(secret) = &observed.secret {
        return stored_key(secret, spec, now);
    }
    let Some(from) = &observed.import else {
        return KeyPlan::Generate { generation: 1, because: "there is no root yet".to_owned() };
    };
    match import(from, spec, now) {
        Ok(signing) => KeyPlan::Import { signing: Box::new(signing) },
        Err(message) => KeyPlan::Refuse {
            verdict: Verdict::no(Reason::ImportRefused, message),
            retry_in: Some(super::LOOK_AT_IMPORT),
        },
    }
}

/// A root that is there is used as long as it is valid; only one that has expired gives way to a new generation.
fn stored_key(secret: &Secret, spec: &RootCASpec, now: Timestamp) -> KeyPlan {
    let name = secret.name_any();
    match ledger::read(secret) {
        Ok(ledger) => match ledger.latest().signing.check_dates(now) {
            Ok(()) => KeyPlan::Use { ledger: Box::new(ledger) },
            // Whoever brings a CA of their own gets none of ours in its place.
            Err(pki::DateError::Expired { not_after }) if spec.import_from.is_some() => KeyPlan::Refuse {
                verdict: Verdict::no(
                    Reason::ImportRefused,
                    format!(
                        "the root expired at {not_after}: name a CA that is in date in spec.importFrom.secretName, and delete Secret {name} to have it \
                         taken up (every certificate is then replaced)"
                    ),
                ),
                retry_in: None,
            },
            Err(pki::DateError::Expired { not_after }) => KeyPlan::Generate {
                generation: ledger.latest().number + 1,
                because: format!("generation {} expired at {not_after}", ledger.latest().number),
            },
            Err(problem) => KeyPlan::Refuse {
                verdict: Verdict::no(Reason::WaitingForRoot, format!("the root in Secret {name} {problem}")),
                retry_in: Some(Duration::from_mins(1)),
            },
        },
        Err(problem) => KeyPlan::Refuse {
            verdict: Verdict::no(
                Reason::ImportRefused,
                format!(
                    "the root in Secret {name} cannot be used: {problem}. Restore the Secret from a backup, or delete it to have a new root made \
                     (every certificate is then replaced)"
                ),
            ),
            retry_in: None,
        },
    }
}

/// The CA to adopt; the error says which field and what is wrong.
pub fn import(from: &Import, spec: &RootCASpec, now: Timestamp) -> Result<SigningRoot, String> {
    let field = "spec.importFrom.secretName";
    let secret = match from {
        Import::Missing { name } => {
            return Err(format!(
                "{field}: there is no Secret {name}; make it with `kubectl create secret tls {name} --cert=… --key=…`"
            ));
        }
        Import::Found { secret } => secret,
    };
    let name = secret.name_any();
    let part = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        let bytes = bytes.ok_or_else(|| format!("{field}: Secret {name} has no {key}"))?;
        std::str::from_utf8(&bytes.0).map_err(|_| format!("{field}: Secret {name}: {key} is not PEM"))
    };
    let signing = SigningRoot::load(part("tls.crt")?, part("tls.key")?)
        .map_err(|problem| format!("{field}: Secret {name}: {problem}"))?;
    signing.check_dates(now).map_err(|problem| format!("{field}: Secret {name}: tls.crt {problem}"))?;
    let algorithm = signing.key().algorithm();
    tracing::debug!(%name, asked = %spec.key_algorithm, found = %algorithm, "a root is imported as it is");
    Ok(signing)
}

/// What generation `generation` of `root` is to say.
pub fn profile(root: &RootCA, generation: u32) -> Result<RootProfile, Verdict> {
    let spec = &root.spec;
    let DeviceSubject { organization, organizational_unit, country, state, locality } =
        spec.subject.attributes.clone();
    let common_name = spec.subject.common_name.clone();
    let subject = Subject { common_name, organization, organizational_unit, country, state, locality };
    let profile = RootProfile {
        subject,
        generation,
        key_algorithm: spec.key_algorithm,
        duration: spec.duration.into(),
    };
    profile
        .check()
        .map_err(|problem| Verdict::no(Reason::InvalidSpec, format!("spec.subject: {problem}")))?;
    Ok(profile)
}

/// What is to be done about the CRL of `generation`: one from the first second, signed anew at half of its life and for whatever is
/// `due`. `signed_at`: when one was signed last.
pub fn crl(
    spec: &RootCASpec,
    generation: &Generation,
    due: &[Due],
    signed_at: Option<Timestamp>,
    now: Timestamp,
) -> CrlPlan {
    let valid_for = Duration::from(spec.crl.valid_for);
    let Entries { revoked, ends, news } = entries(generation, due, now);
    let (number, because) = match &generation.crl {
        None => (1, "there is none yet".to_owned()),
        Some(crl) => {
            let because = if half_life(crl) <= now {
                format!("half of the life of number {} has passed", crl.number())
            } else if crl.next_update() > now + valid_for + Duration::from_secs(1) {
                "spec.crl.validFor became shorter".to_owned()
            } else if let Some(news) = news {
                if let Some(earliest) = signed_at.map(|at| at + APART).filter(|earliest| *earliest > now) {
                    let wait = Duration::try_from(earliest.duration_since(now)).unwrap_or_default();
                    return CrlPlan::Later { wait };
                }
                news
            } else {
                return CrlPlan::Keep;
            };
            (crl.number() + 1, because)
        }
    };
    CrlPlan::Sign { contents: CrlContents { number, valid_for, revoked }, ends, because }
}

/// How long until a CRL is to be signed anew, the root is to be replaced, or it has expired.
pub fn next_due(spec: &RootCASpec, ledger: &Ledger, now: Timestamp) -> Duration {
    let crls = ledger.trusted().iter().filter_map(|generation| generation.crl.as_ref()).map(half_life);
    let ends = ledger.generations.iter().map(|generation| generation.signing.certificate().not_after());
    let replaced = ledger.notes.rotation.is_none().then(|| rotation::due_at(spec, ledger.latest()));
    let due = crls.chain(ends).chain(replaced).min().unwrap_or(now);
    Duration::try_from(due.duration_since(now)).unwrap_or_default() + Duration::from_millis(1100)
}

/// Half way from its signing, which lies a little after its backdated thisUpdate, to its end.
fn half_life(crl: &Crl) -> Timestamp {
    let signed = crl.this_update() + pki::BACKDATE;
    let life = Duration::try_from(crl.next_update().duration_since(signed)).unwrap_or_default();
    signed + life / 2
}

#[cfg(test)]
pub(super) mod tests {
    use api::{Crl as CrlSpec, RootSubject};
    use pki::SerialNumber;

    use super::*;
    use crate::root_ca::ledger::Notes;

    pub(in crate::root_ca) fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    pub(in crate::root_ca) fn spec(valid_for: u64) -> RootCASpec {
        RootCASpec {
            subject: RootSubject { common_name: "Test".into(), attributes: DeviceSubject::default() },
            key_algorithm: pki::KeyAlgorithm::EcdsaP256,
            duration: Duration::from_hours(2).into(),
            import_from: None,
            rotation: api::Rotation::default(),
            crl: CrlSpec { valid_for: Duration::from_secs(valid_for).into(), distribution_url: None },
            deletion_policy: api::DeletionPolicy::Retain,
        }
    }

    /// A generation that lives for two hours from `now`.
    pub(in crate::root_ca) fn generation(number: u32, now: Timestamp) -> Generation {
        let profile = profile(&RootCA::new("r", spec(600)), number).unwrap();
        let signing = SigningRoot::generate(&profile, SerialNumber::from_random([7; 20]), now).unwrap();
        Generation::new(number, signing)
    }

    fn ledger(number: u32, now: Timestamp) -> Ledger {
        Ledger { generations: vec![generation(number, now)], notes: Notes::default() }
    }

    #[test]
    fn the_crl_is_signed_at_once_and_then_at_half_of_its_life_with_rising_numbers() {
        let mut ledger = ledger(1, at(0));
        let sign = |plan| match plan {
            CrlPlan::Sign { contents, .. } => contents,
            CrlPlan::Keep | CrlPlan::Later { .. } => panic!("no CRL"),
        };
        let contents = sign(crl(&spec(600), &ledger.generations[0], &[], None, at(0)));
        assert_eq!(contents.number, 1);
        ledger.generations[0].crl = Some(ledger.latest().signing.sign_crl(&contents, at(0)).unwrap());
        let it = &ledger.generations[0];
        assert!(matches!(crl(&spec(600), it, &[], None, at(299)), CrlPlan::Keep));
        assert_eq!(sign(crl(&spec(600), it, &[], None, at(300))).number, 2);
        assert_eq!(next_due(&spec(600), &ledger, at(0)).as_secs(), 301);
        assert_eq!(sign(crl(&spec(120), it, &[], None, at(1))).number, 2, "a shorter life counts at once");
    }

    #[test]
    fn many_revocations_at_once_are_one_crl() {
        let mut it = generation(1, at(0));
        let contents = CrlContents { number: 1, valid_for: Duration::from_mins(10), revoked: Vec::new() };
        it.crl = Some(it.signing.sign_crl(&contents, at(0)).unwrap());
        let due = [7, 8].map(|n| Due {
            serial: SerialNumber::from_random([n; 20]),
            not_after: at(1000),
            generation: Some(1),
            reason: pki::RevocationReason::KeyCompromise,
        });
        let plan = crl(&spec(600), &it, &due, None, at(10));
        assert!(matches!(plan, CrlPlan::Sign { contents, .. } if contents.revoked.len() == 2));
        let plan = crl(&spec(600), &it, &due, Some(at(9)), at(10));
        assert!(matches!(plan, CrlPlan::Later { wait } if wait == Duration::from_millis(500)));
    }

    #[test]
    fn a_valid_root_is_kept_and_only_an_expired_one_gives_way_at_once() {
        let ledger = ledger(3, at(0));
        let secret = ledger::secret(&RootCA::new("r", spec(600)), &ledger);
        let observed = |secret: &Secret| Observed { secret: Some(secret.clone()), import: None };
        assert!(
            matches!(key(&spec(600), &observed(&secret), at(7000)), KeyPlan::Use { ledger } if ledger.latest().number == 3)
        );
        assert!(matches!(
            key(&spec(600), &observed(&secret), at(7300)),
            KeyPlan::Generate { generation: 4, .. }
        ));
    }

    #[test]
    fn a_stored_root_that_cannot_be_read_is_refused_and_not_replaced() {
        let ledger = ledger(1, at(0));
        let mut secret = ledger::secret(&RootCA::new("r", spec(600)), &ledger);
        secret.data.as_mut().unwrap().insert(ledger::key_of(1), k8s_openapi::ByteString(b"garbage".to_vec()));
        let observed = Observed { secret: Some(secret), import: None };
        let KeyPlan::Refuse { verdict, .. } = key(&spec(600), &observed, at(0)) else {
            panic!("not refused")
        };
        assert!(verdict.message.contains("tls.key"), "{}", verdict.message);
    }
}
