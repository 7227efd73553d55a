//! `RootCA` → a Secret with the signing keys and their CRLs, a `ConfigMap` with what everybody is to trust.
//!
//! The Secret is the [`ledger`]: a key is created once and never overwritten by a second one, and a CRL's number only rises. It is
//! written first, all else follows from it: whatever happens to a root in one look, a [`rotation`] that goes on and a
//! [`revocation`] alike, is one write. Deleting the `RootCA` leaves the Secret unless asked otherwise; a root of the same name takes
//! it up again.

pub mod build;
pub mod ledger;
pub mod observe;
pub mod plan;
pub mod report;
pub mod revocation;
pub mod rotation;

use std::sync::Arc;
use std::time::Duration;

use api::conditions::{Reason, Verdict};
use api::{MqttBroker, RootCA, RotationPhase};
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use pki::{RootError, SigningRoot};

use self::ledger::{Generation, Ledger, Notes, Rotation};
use self::observe::{Import, Observed};
use self::plan::{CrlPlan, KeyPlan};
use self::report::Progress;
use self::rotation::{Evidence, Probe, Step};
use crate::cluster::{Foreign, Version, Written};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::events::Note;
use crate::fleet;
use crate::iot_device;
use crate::key::Key;

/// How long until an import that was refused is looked at again. It may be mended in place, and no watch tells: the operator
/// sees nobody else's Secrets.
const LOOK_AT_IMPORT: Duration = Duration::from_secs(1);
/// How often a replacement that waits looks around.
const LOOK_AROUND: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_mins(1);

/// What came of looking after a root.
enum Outcome {
    /// It can sign.
    Usable(Box<Usable>),
    /// It cannot.
    Unusable { verdict: Verdict, retry_in: Option<Duration> },
}

/// A root that can sign, after it was looked after.
struct Usable {
    ledger: Ledger,
    evidence: Evidence,
    /// What a replacement waits for.
    waits_for: Option<String>,
    /// What is wrong although it can sign.
    degraded: Option<Verdict>,
    /// When a CRL was signed, if one was.
    signed_at: Option<Timestamp>,
    /// When to look again without anything being due.
    look_in: Option<Duration>,
    notes: Vec<Note>,
}

/// Makes `root` what it should be.
pub async fn reconcile(root: Arc<RootCA>, context: Arc<Context>) -> Result<Action> {
    let (namespace, name) = (root.namespace().unwrap_or_default(), root.name_any());
    let outcome = look_after(&root, &context).await?;
    let now = context.now();
    let devices = observe::count_devices(&context.objects, &namespace, &name);
    let (status, look_again_in, notes) = match outcome {
        Outcome::Usable(usable) => {
            let Usable { ledger, evidence, waits_for, degraded, signed_at, look_in, notes } = *usable;
            let before = context.roots.usable(&namespace, &name);
            let own_url = context.crl_url.as_deref();
            let taken = build::usable(&root, &ledger, &evidence, before.as_deref(), signed_at, own_url);
            // Whoever needs it need not wait for what is only told to people.
            context.roots.put(&namespace, &name, Some(taken));
            if signed_at.is_some() {
                iot_device::revocation::wake(&context, &namespace);
            }
            if let Written::Foreign(foreign) = context.cluster.apply(&build::trust(&root, &ledger)).await? {
                context.roots.put(&namespace, &name, None);
                let verdict = Verdict::no(Reason::NameTaken, foreign.to_string());
                (report::unusable(&root, &verdict, devices, now), Some(FIRST_RETRY), notes)
            } else {
                let queued = rotation::queued(&root.spec, &ledger);
                let progress = Progress { evidence: &evidence, waits_for, queued };
                let status = report::usable(&root, &ledger, &progress, degraded, devices, now);
                let due = plan::next_due(&root.spec, &ledger, now);
                (status, Some(look_in.map_or(due, |look_in| look_in.min(due))), notes)
            }
        }
        Outcome::Unusable { verdict, retry_in } => {
            context.roots.put(&namespace, &name, None);
            let notes = report::refusal(&root, &verdict).into_iter().collect();
            (report::unusable(&root, &verdict, devices, now), retry_in, notes)
        }
    };
    context.metrics.root(&namespace, &name, &status);
    if root.status.as_ref() != Some(&status) {
        context.cluster.report(&*root, &status).await?;
    }
    for note in &notes {
        tracing::info!(kind = "RootCA", %namespace, %name, reason = note.reason, "{}", note.text);
        context.cluster.tell(&*root, note, now);
    }
    Ok(look_again_in.map_or_else(Action::await_change, Action::requeue))
}

async fn look_after(root: &RootCA, context: &Context) -> Result<Outcome> {
    let observed = observe::observe(root, context).await?;
    let now = context.now();
    let own = Key::of::<RootCA>(&root.namespace().unwrap_or_default(), &root.name_any());
    let mut notes = Vec::new();

    let ledger = match plan::key(&root.spec, &observed, now) {
        KeyPlan::Use { ledger } => ledger.taken_over(root),
        KeyPlan::Refuse { verdict, retry_in } => return Ok(Outcome::Unusable { verdict, retry_in }),
        KeyPlan::Generate { generation, because } => match generate(root, generation, now).await? {
            Ok(signing) => {
                notes.push(report::generated(&signing, generation, &because));
                Ledger::new(root, generation, signing)
            }
            Err(Refusal::Spec(verdict)) => return Ok(Outcome::Unusable { verdict, retry_in: None }),
            Err(Refusal::Root(problem)) => return Ok(failed(context, &own, &problem)),
        },
        KeyPlan::Import { signing } => {
            notes.push(report::imported(&signing, 1, root));
            Ledger::new(root, 1, *signing)
        }
    };
    let mut usable = Usable {
        ledger,
        evidence: Evidence::default(),
        waits_for: None,
        degraded: None,
        signed_at: None,
        look_in: None,
        notes,
    };
    replace(root, context, &mut usable, now).await?;
    if let Err(problem) = sign_crls(root, context, &mut usable, now) {
        let verdict = Verdict::no(Reason::IssueFailed, format!("the CRL could not be signed: {problem}"));
        let retry_in = Some(context.backoff.failed(&own, FIRST_RETRY));
        return Ok(Outcome::Unusable { verdict, retry_in });
    }
    if let Some(outcome) = store(root, context, &own, &observed, &usable).await? {
        return Ok(outcome);
    }
    context.backoff.succeeded(&own);
    Ok(Outcome::Usable(Box::new(usable)))
}

/// One step of a replacement, if one runs or is to begin: each is a write of its own, so that whoever comes after a crash goes on
/// from there.
async fn replace(root: &RootCA, context: &Context, usable: &mut Usable, now: Timestamp) -> Result<()> {
    let (namespace, name) = (root.namespace().unwrap_or_default(), root.name_any());
    let ledger = &mut usable.ledger;
    if ledger.notes.rotation.is_some() {
        usable.evidence = observe::evidence(context, &namespace, &name, ledger, now);
        usable.look_in = Some(LOOK_AROUND);
    }
    let mut probes = Vec::new();
    loop {
        match rotation::plan(&root.spec, ledger, &usable.evidence, &probes, now) {
            Step::Rest => return Ok(()),
            Step::Wait { for_ } => {
                usable.waits_for = Some(for_);
                return Ok(());
            }
            Step::Ask { broker, of_new } => {
                let let_in = probe(context, &namespace, &broker, ledger, of_new, now).await;
                probes.push(Probe { broker, of_new, let_in });
            }
            Step::Begin { because } => return begin(root, context, usable, because, now).await,
            Step::Enter { phase, because } => {
                usable.notes.push(report::rotation_note(
                    "RotationAdvanced",
                    format!("{phase}: {}, for {because}", report::purpose(phase)),
                ));
                if let Some(rotation) = &mut ledger.notes.rotation {
                    (rotation.phase, rotation.since) = (phase, now);
                }
                usable.look_in = Some(Duration::ZERO);
                return Ok(());
            }
            Step::Finish { because } => {
                let old = ledger.generations.remove(0);
                let took =
                    ledger.notes.rotation.take().map(|rotation| now.duration_since(rotation.started_at));
                let took = took.and_then(|took| Duration::try_from(took).ok()).unwrap_or_default();
                let text = format!(
                    "generation {} has taken the place of generation {}, whose key is destroyed, for {because}; it took {} s",
                    ledger.latest().number,
                    old.number,
                    took.as_secs()
                );
                usable.notes.push(report::rotation_note("RotationFinished", text));
                usable.look_in = Some(Duration::ZERO);
                return Ok(());
            }
        }
    }
}

/// The next generation beside the present one: adopted, where the spec names another Secret to adopt one from, else made.
async fn begin(
    root: &RootCA,
    context: &Context,
    usable: &mut Usable,
    because: String,
    now: Timestamp,
) -> Result<()> {
    let ledger = &mut usable.ledger;
    let number = ledger.latest().number + 1;
    let from = root.spec.import_from.as_ref().map(|from| &from.secret_name);
    let adopts = from.is_some() && from != ledger.notes.imported_from.as_ref();
    let made = if rotation::is_imported(&root.spec, ledger) {
        let text = "spec.importFrom: the root is an imported one, and this operator makes none in its place: name the Secret of another CA in \
                    spec.importFrom.secretName";
        Err(Verdict::no(Reason::ImportRefused, text))
    } else if adopts {
        let import = observe::import(root, context).await?;
        adopt(root, import.as_ref(), ledger, now)
    } else {
        match generate(root, number, now).await? {
            Ok(signing) => Ok(signing),
            Err(Refusal::Spec(verdict)) => Err(verdict),
            Err(Refusal::Root(problem)) => Err(Verdict::no(Reason::IssueFailed, problem.to_string())),
        }
    };
    let signing = match made {
        Ok(signing) => signing,
        Err(verdict) => {
            let message = format!("the root cannot be replaced, although {because}: {}", verdict.message);
            usable.look_in = Some(if adopts { LOOK_AT_IMPORT } else { FIRST_RETRY });
            usable.degraded = Some(Verdict::yes(verdict.reason, message));
            return Ok(());
        }
    };
    usable.notes.push(if adopts {
        report::imported(&signing, number, root)
    } else {
        report::generated(&signing, number, &because)
    });
    let phase = RotationPhase::Distributing;
    usable.notes.push(report::rotation_note(
        "RotationStarted",
        format!("{phase}: {}, because {because}", report::purpose(phase)),
    ));
    ledger.generations.push(Generation::new(number, signing));
    // A status has whole seconds; what is told is to be what is stored.
    let started_at = now.round(jiff::Unit::Second).unwrap_or(now);
    let rotation = Rotation { phase, reason: because, started_at, since: now };
    ledger.notes = Notes { rotation: Some(rotation), ..Notes::of(root) };
    usable.look_in = Some(Duration::ZERO);
    Ok(())
}

/// The CA that the spec says to adopt, checked. Many clients cannot tell two roots with the same name apart.
fn adopt(
    root: &RootCA,
    import: Option<&Import>,
    ledger: &Ledger,
    now: Timestamp,
) -> Result<SigningRoot, Verdict> {
    let refuse = |message| Verdict::no(Reason::ImportRefused, message);
    let import = import.ok_or_else(|| refuse("spec.importFrom is missing".to_owned()))?;
    let signing = plan::import(import, &root.spec, now).map_err(refuse)?;
    let subject = signing.certificate().subject();
    if ledger.generations.iter().any(|it| it.signing.certificate().subject() == subject) {
        return Err(refuse(format!(
            "spec.importFrom.secretName: the CA has the same name as the present one, {subject}: make it with another subject"
        )));
    }
    Ok(signing)
}

/// Whether a broker lets in a client of the new root, or of the old one.
async fn probe(
    context: &Context,
    namespace: &str,
    broker: &str,
    ledger: &Ledger,
    of_new: bool,
    now: Timestamp,
) -> Result<bool, String> {
    let broker = context.objects.brokers.get(&ObjectRef::<MqttBroker>::new(broker).within(namespace));
    let address = broker.as_deref().and_then(fleet::address).ok_or("it is gone")?;
    let generation = if of_new { ledger.latest() } else { &ledger.generations[0] };
    let signer = build::signer_of(generation);
    let bundle: String = ledger.generations.iter().map(|it| it.signing.certificate().to_pem()).collect();
    context.fleet.lets_in(&address, &signer, &bundle, now).await
}

/// Signs whatever CRL is due.
fn sign_crls(
    root: &RootCA,
    context: &Context,
    usable: &mut Usable,
    now: Timestamp,
) -> Result<(), pki::CrlError> {
    let (namespace, name) = (root.namespace().unwrap_or_default(), root.name_any());
    let signed_at = context.roots.usable(&namespace, &name).and_then(|root| root.signed_at);
    let due = observe::due(context, &namespace, &name);
    let retiring = usable.ledger.generations.len() - usable.ledger.trusted().len();
    for generation in usable.ledger.generations.iter_mut().skip(retiring) {
        match plan::crl(&root.spec, generation, &due, signed_at, now) {
            CrlPlan::Keep => {}
            CrlPlan::Later { wait } => {
                usable.look_in = Some(usable.look_in.map_or(wait, |look_in| look_in.min(wait)));
            }
            CrlPlan::Sign { contents, ends, because } => {
                let crl = generation.signing.sign_crl(&contents, now)?;
                usable.notes.push(report::signed_crl(&crl, generation.number, &because));
                (generation.crl, generation.ends) = (Some(crl), ends);
                usable.signed_at = Some(now);
            }
        }
    }
    Ok(())
}

/// Writes the ledger where it differs from what is stored. Some: the root is not ours to use.
async fn store(
    root: &RootCA,
    context: &Context,
    own: &Key,
    observed: &Observed,
    usable: &Usable,
) -> Result<Option<Outcome>> {
    let secret = ledger::secret(root, &usable.ledger);
    let Some(stored) = &observed.secret else {
        return Ok(match context.cluster.create_once(&secret).await? {
            Written::Done(Some(_)) => None,
            // Another replica was quicker: its root is the root.
            Written::Done(None) => {
                let verdict = Verdict::no(Reason::Issuing, "its Secret was just made elsewhere");
                Some(Outcome::Unusable { verdict, retry_in: Some(Duration::from_millis(500)) })
            }
            Written::Foreign(foreign) => Some(taken(context, own, &foreign)),
        });
    };
    if !ledger::is_in_order(&secret, stored) {
        let all = stored.data.iter().flatten().map(|(key, _)| key.clone());
        context.cluster.rewrite(&secret, &Version::from(&stored.metadata), all).await?;
    }
    Ok(None)
}

/// Why a generation cannot be made.
enum Refusal {
    Spec(Verdict),
    Root(RootError),
}

async fn generate(root: &RootCA, generation: u32, now: Timestamp) -> Result<Result<SigningRoot, Refusal>> {
    let profile = match plan::profile(root, generation) {
        Ok(profile) => profile,
        Err(verdict) => return Ok(Err(Refusal::Spec(verdict))),
    };
    let serial = pki::SerialNumber::generate().map_err(|_| Error::Random)?;
    let made = tokio::task::spawn_blocking(move || SigningRoot::generate(&profile, serial, now)).await;
    Ok(made.map_err(|_| Error::Cancelled { action: "make a root key" })?.map_err(Refusal::Root))
}

fn failed(context: &Context, own: &Key, problem: &RootError) -> Outcome {
    let retry_in = Some(context.backoff.failed(own, FIRST_RETRY));
    let verdict = Verdict::no(Reason::IssueFailed, format!("no root could be made: {problem}"));
    Outcome::Unusable { verdict, retry_in }
}

fn taken(context: &Context, own: &Key, foreign: &Foreign) -> Outcome {
    let retry_in = Some(context.backoff.failed(own, FIRST_RETRY));
    Outcome::Unusable { verdict: Verdict::no(Reason::NameTaken, foreign.to_string()), retry_in }
}
