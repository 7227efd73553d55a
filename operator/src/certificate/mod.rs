//! The one certificate lifecycle, which devices, brokers and dashboards share: what is asked for ([`request`]), what stands in
//! the Secret ([`secret`]), what is to be done ([`plan`]), and what is told ([`report`]).
//!
//! One certificate is one Secret write and one status write. Key and certificate change in one write, and the old
//! pair stays until then. The Secret's annotations are the ledger: which serials are alive survives any crash.

pub mod plan;
pub mod report;
pub mod request;
pub mod secret;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use api::conditions::{self, Reason, Verdict};
use api::{CertificateHolder, CertificateStatus, HolderStatus, Revocation, Superseded};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use pki::{PrivateKey, RevocationReason, SerialNumber, Validity};
use serde::Serialize;

use crate::children::Child;
use crate::cluster::{Foreign, Made, Version, Written};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::events::Note;
use crate::key::Key;
use crate::roots::{Kind, Lookup, Signer, UsableRoot};
use crate::workloads::metadata::Owner;

use self::plan::Plan;
use self::request::Request;
use self::secret::{Ledger, Pair, Replaced, Stored};

/// How long to wait after the first failure to issue; it doubles up to 32 times that.
const FIRST_RETRY: Duration = Duration::from_mins(1);

/// A resource that holds a certificate and that the operator keeps valid.
pub trait Holder: CertificateHolder + Made + Owner {}
impl<K: CertificateHolder + Made + Owner> Holder for K {}

/// What is so of a certificate after it was looked after.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whether the certificate is in force, and why not.
    pub ready: Verdict,
    /// The certificate in the Secret.
    pub current: Option<Current>,
    /// What is wrong although the certificate is in force.
    pub degraded: Option<Verdict>,
    /// What happened, for people.
    pub notes: Vec<Note>,
    /// How long to wait after a failure before the next try.
    pub retry_in: Option<Duration>,
    /// When to look again without a failure.
    pub look_at: Option<Timestamp>,
    /// Whether the holder may use its certificate at all.
    pub standing: Standing,
    /// How far its revocation has come.
    pub revocation: Option<Revocation>,
}

/// Whether a holder may use its certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    #[default]
    InForce,
    /// Not now; nothing is issued meanwhile.
    Suspended,
    /// Not any more; nothing is issued.
    Revoked(RevocationReason),
}

/// A certificate as it stands in its Secret, checked against what is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Current {
    /// What is told of it.
    pub certificate: CertificateStatus,
    /// Those before it that are still within their dates.
    pub superseded: Vec<Superseded>,
}

/// The certificates that were read or written and are right, so that they need not be read again, by holder. No keys.
#[derive(Default)]
pub struct Verified {
    known: Mutex<HashMap<Key, Known>>,
}

/// One of them.
#[derive(Clone)]
struct Known {
    /// The version of the Secret that was read or written.
    version: Version,
    /// The Secret's type.
    secret_type: &'static str,
    /// A digest of all that was asked for.
    asked: String,
    current: Current,
}

/// Keeps the certificate of `holder` valid. None: it is too early to say anything, somebody will call again.
pub async fn keep_valid<K: Holder>(
    context: &Context,
    holder: &K,
    asked: Result<Request, Verdict>,
    standing: Standing,
) -> Result<Option<Outcome>> {
    let namespace = holder.namespace().unwrap_or_default();
    let request = match asked {
        Ok(request) => request,
        Err(verdict) => return Ok(Some(Outcome::refused(holder, verdict))),
    };
    let root = match choose_root(context, holder, &request) {
        Ok(Some(root)) => root,
        Ok(None) => return Ok(None),
        Err(verdict) => return Ok(Some(Outcome::refused(holder, verdict))),
    };
    let now = context.now();
    let (own, key) = (own_key_of(holder), Key::of::<Secret>(&namespace, &request.secret_name));
    let child = context.children.get(&key);
    let named_so = (K::kind(&()).into_owned(), holder.name_any());
    let own_child = child.as_ref().filter(|child| child.owner.as_ref() == Some(&named_so));
    let ledger = own_child.and_then(|child| Ledger::read(&child.annotations));
    // Others have no sessions to be cut, and what is restored from a backup goes on.
    if request.kind == Kind::Device
        && ledger.as_ref().is_some_and(|ledger| ledger.is_of_another(&seed(holder)))
    {
        context.triggers.departures();
        return Ok(Some(Outcome::succeeds_another(holder)));
    }
    if standing != Standing::InForce {
        return Ok(Some(Outcome::withdrawn(holder, standing)));
    }

    let of_root = |ledger: &Ledger| ledger.current.root_ca.as_ref().is_none_or(|name| *name == root.name);
    let has = ledger.filter(of_root).and_then(|ledger| u32::try_from(ledger.current.root_generation?).ok());
    let (signer, changes_at) = root.signer(request.kind, &seed(holder), has, now);
    let asked = request.digest(&root, signer);
    let known = child.as_ref().and_then(|child| context.verified.find(&own, &Version::from(child)));
    if let Some(Known { asked: verified, current, .. }) = &known
        && *verified == asked
        && current.certificate.renewal_time.0 > now
        && current.certificate.not_before.0 <= now + pki::AHEAD
        && root.allows(&current.certificate.serial_number)
    {
        return Ok(Some(Outcome { look_at: changes_at, ..Outcome::valid(current.clone()) }));
    }

    let by = (&*root, signer);
    let known = child.as_ref().zip(known);
    let planned = match known.and_then(|(child, known)| known.renewal(child, holder, &request, signer, now)) {
        Some(planned) => planned,
        None => match plan_by_reading(context, holder, &request, by, child.is_some(), now).await? {
            Ok(planned) => planned,
            Err(foreign) => return Ok(Some(Outcome::name_taken(holder, &foreign))),
        },
    };
    let (plan, replaced) = planned;
    let (outcome, version) = match plan {
        Plan::Keep { current } => (Outcome::valid(current), replaced.map(|secret| secret.version)),
        Plan::Refresh { current, pair } => {
            let secret = secret::build(holder, &request, by, &pair, &current, now);
            write(context, holder, replaced.as_ref(), &secret, current).await?
        }
        Plan::Issue { because, validity } => {
            issue(context, holder, &request, by, replaced, because.to_string(), validity).await?
        }
        Plan::Fail { problem, current } => {
            let retry_in = context.backoff.failed(&own, FIRST_RETRY);
            (failed(holder, &problem, current, retry_in, now), None)
        }
    };
    if outcome.retry_in.is_none() {
        context.backoff.succeeded(&own);
    }
    if let Some((current, version)) = outcome.current.clone().zip(version) {
        let secret_type = secret::type_of(&request);
        context.verified.put(own, Known { version, secret_type, asked, current });
    }
    Ok(Some(Outcome { look_at: changes_at, ..outcome }))
}

/// Reads the Secret, and plans by what is in it; or tells whose it is.
async fn plan_by_reading<K: Holder>(
    context: &Context,
    holder: &K,
    request: &Request,
    by: (&UsableRoot, &Signer),
    exists: bool,
    now: Timestamp,
) -> Result<Result<(Plan, Option<Replaced>), Foreign>> {
    // Without its label no watch tells of a Secret: whoever had a certificate has it looked for.
    let had_one = holder.holder_status().is_some_and(|status| status.certificate.is_some());
    let stored = if exists || had_one {
        let namespace = holder.namespace().unwrap_or_default();
        context.cluster.read::<Secret>(&namespace, &request.secret_name).await?.map(Stored::new)
    } else {
        None
    };
    if let Some(foreign) = stored.as_ref().and_then(|stored| stored.foreign(holder)) {
        return Ok(Err(foreign));
    }
    let in_order = stored.as_ref().is_some_and(|stored| stored.is_in_order(holder, request, by.0));
    let plan = plan::plan(request, stored.as_ref(), in_order, by, &seed(holder), now);
    Ok(Ok((plan, stored.map(|stored| stored.replaced(request, &seed(holder))))))
}

/// Brings roots and CRLs in the Secret of `holder` up to date and leaves all else as it is: for one whose spec cannot be fulfilled, and
/// that works meanwhile with the certificate it has.
pub async fn keep_trust<K: Holder>(
    context: &Context,
    holder: &K,
    secret_name: &str,
    root: &UsableRoot,
) -> Result<()> {
    let namespace = holder.namespace().unwrap_or_default();
    let stored = context.cluster.read::<Secret>(&namespace, secret_name).await?.map(Stored::new);
    let Some(stored) = stored.filter(|stored| stored.foreign(holder).is_none()) else { return Ok(()) };
    if let Some(secret) = stored.with_trust_of(root, context.now()) {
        context.cluster.rewrite(&secret, &stored.version(), []).await?;
    }
    Ok(())
}

/// Writes the status, if there is `news`, and tells people what happened.
pub async fn tell<K: Holder>(
    context: &Context,
    holder: &K,
    outcome: &Outcome,
    certificate: &HolderStatus,
    news: bool,
    status: &impl Serialize,
) -> Result<()> {
    let (kind, namespace, name) = (K::kind(&()), holder.namespace().unwrap_or_default(), holder.name_any());
    context.metrics.holder(&kind, &namespace, &name, certificate);
    if news {
        context.cluster.report(holder, status).await?;
    }
    for note in outcome.notes.iter().chain(&refusal(holder, outcome)) {
        tracing::info!(%kind, %namespace, %name, reason = note.reason, "{}", note.text);
        context.cluster.tell(holder, note, context.now());
    }
    Ok(())
}

/// Why it is not ready, told once: when it is news, and nothing else told it.
fn refusal<K: Holder>(holder: &K, outcome: &Outcome) -> Option<Note> {
    let Verdict { holds, reason, message } = &outcome.ready;
    let told = holder.holder_status().is_some_and(|status| {
        status.conditions.iter().any(|c| c.type_ == conditions::READY && c.message == *message)
    });
    let note = || Note { warning: true, reason: reason.as_str(), action: "Refuse", text: message.clone() };
    let patience = matches!(reason, Reason::WaitingForRoot | Reason::WaitingForPods | Reason::Issuing);
    let meant = outcome.standing != Standing::InForce;
    (!holds && !told && !patience && !meant && outcome.notes.is_empty()).then(note)
}

/// The root that signs, if it can. None: its own controller has not looked at it yet.
fn choose_root<K: Holder>(
    context: &Context,
    holder: &K,
    request: &Request,
) -> Result<Option<std::sync::Arc<UsableRoot>>, Verdict> {
    let namespace = &holder.namespace().unwrap_or_default();
    let name = match &request.root {
        Some(name) => name.clone(),
        None => request::unnamed_root(context, holder)?,
    };
    match context.roots.look_up(namespace, &name) {
        Lookup::Usable(root) => Ok(Some(root)),
        Lookup::Unusable => Err(Verdict::no(
            Reason::WaitingForRoot,
            format!("the RootCA {name} cannot sign: see `kubectl describe rootca {name}`"),
        )),
        Lookup::Unknown if request::root_exists(&context.objects.roots, namespace, &name) => Ok(None),
        Lookup::Unknown => Err(Verdict::no(
            Reason::WaitingForRoot,
            format!("there is no RootCA {name} in this namespace: create it, or correct spec.rootCARef.name"),
        )),
    }
}

/// Makes a key, unless the device keeps its own, has the root sign, and stores the result in one write. What became of it, and the
/// version of the Secret that holds it.
async fn issue<K: Holder>(
    context: &Context,
    holder: &K,
    request: &Request,
    (root, signer): (&UsableRoot, &Signer),
    replaced: Option<Replaced>,
    because: String,
    validity: Validity,
) -> Result<(Outcome, Option<Version>)> {
    let started = std::time::Instant::now();
    let now = context.now();
    let profile = request.profile(signer);
    let (signs, own_key) = (std::sync::Arc::clone(&signer.signing), request.own_key().cloned());
    let sign = move || -> Result<Result<(Option<PrivateKey>, pki::Certificate), String>> {
        let serial = SerialNumber::generate().map_err(|_| Error::Random)?;
        let key = own_key.is_none().then(|| PrivateKey::generate(profile.key_algorithm)).transpose();
        Ok(key.map_err(|error| error.to_string()).and_then(|key| {
            let public_key = key.as_ref().map(PrivateKey::public_key).or(own_key.as_ref());
            let public_key = public_key.ok_or("there is no key to sign for")?;
            let certificate = signs.issue(&profile, public_key, serial, validity);
            certificate.map(|certificate| (key, certificate)).map_err(|error| error.to_string())
        }))
    };
    let signed = tokio::task::spawn_blocking(sign).await;
    let (key, certificate) =
        match signed.map_err(|_| Error::Cancelled { action: "issue a certificate" })?? {
            Ok(pair) => pair,
            Err(problem) => {
                let retry_in = context.backoff.failed(&own_key_of(holder), FIRST_RETRY);
                let current = replaced.and_then(|replaced| replaced.current);
                return Ok((failed(holder, &problem, current, retry_in, now), None));
            }
        };

    let current = Current::new(&certificate, request, signer.number, holder, replaced.as_ref(), now);
    let pair = Pair { certificate: certificate.to_pem(), key: key.as_ref().map(PrivateKey::to_pem) };
    let secret = secret::build(holder, request, (root, signer), &pair, &current, now);
    let (outcome, version) = write(context, holder, replaced.as_ref(), &secret, current).await?;
    context.metrics.issued(&K::kind(&()), started.elapsed());
    let outcome = if version.is_some() { outcome.with_note(issued_note(&because)) } else { outcome };
    Ok((outcome, version))
}

/// Stores `secret`. What became of it, and the version that it is now.
async fn write<K: Holder>(
    context: &Context,
    holder: &K,
    replaced: Option<&Replaced>,
    secret: &Secret,
    current: Current,
) -> Result<(Outcome, Option<Version>)> {
    if let Some(replaced) = replaced {
        if !replaced.is_of_another_type {
            let unwanted = secret::DATA.map(str::to_owned);
            let version = context.cluster.rewrite(secret, &replaced.version, unwanted).await?;
            return Ok((Outcome::valid(current), Some(version)));
        }
        // What its ledger told is in the status, and in the new one.
        let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
        context.cluster.delete::<Secret>(&namespace, &name).await?;
    }
    Ok(match context.cluster.create_once(secret).await? {
        Written::Done(Some(version)) => (Outcome::valid(current), Some(version)),
        // Ours, but the watch had not told yet: what is there is judged at the next look.
        Written::Done(None) => {
            let verdict = Verdict::no(Reason::Issuing, "its Secret was just made elsewhere");
            let retry_in = Some(Duration::from_secs(1));
            (Outcome { retry_in, ..Outcome::refused(holder, verdict) }, None)
        }
        Written::Foreign(foreign) => (Outcome::name_taken(holder, &foreign), None),
    })
}

fn failed<K: Holder>(
    holder: &K,
    problem: &str,
    current: Option<Current>,
    retry_in: Duration,
    now: Timestamp,
) -> Outcome {
    let message = format!("no certificate could be issued: {problem}; next try in {} s", retry_in.as_secs());
    let note =
        Note { warning: true, reason: Reason::IssueFailed.as_str(), action: "Issue", text: message.clone() };
    let in_force = current.as_ref().filter(|current| current.certificate.not_after.0 > now);
    let ready = match in_force {
        Some(current) => Verdict::yes(
            Reason::Valid,
            format!("the certificate is in force until {}, but {message}", current.certificate.not_after.0),
        ),
        None => Verdict::no(Reason::IssueFailed, message),
    };
    let outcome = Outcome { current, retry_in: Some(retry_in), ..Outcome::refused(holder, ready) };
    outcome.with_note(note)
}

fn issued_note(because: &str) -> Note {
    Note { warning: false, reason: "Issued", action: "Issue", text: because.to_owned() }
}

/// What jitter follows from.
fn seed<K: Holder>(holder: &K) -> String {
    holder.uid().unwrap_or_default()
}

fn own_key_of<K: Holder>(holder: &K) -> Key {
    Key::of::<K>(&holder.namespace().unwrap_or_default(), &holder.name_any())
}

// === impl Outcome ===

impl Outcome {
    /// The certificate is what is asked for.
    fn valid(current: Current) -> Self {
        let message = format!(
            "certificate {} is valid until {} and will be renewed at {}",
            current.certificate.serial_number,
            current.certificate.not_after.0,
            current.certificate.renewal_time.0
        );
        let ready = Verdict::yes(Reason::Valid, message);
        Self { current: Some(current), ..Self::of(ready) }
    }

    /// Nothing but a verdict.
    fn of(ready: Verdict) -> Self {
        Self {
            ready,
            degraded: None,
            current: None,
            notes: Vec::new(),
            retry_in: None,
            look_at: None,
            standing: Standing::InForce,
            revocation: None,
        }
    }

    /// Its certificate is not to be used.
    fn withdrawn<K: Holder>(holder: &K, standing: Standing) -> Self {
        let ready = match standing {
            Standing::Revoked(reason) => Verdict::no(
                Reason::Revoked,
                format!("revoked for good ({reason}): take spec.revoked away to enrol it afresh"),
            ),
            Standing::InForce | Standing::Suspended => Verdict::no(
                Reason::Suspended,
                "on hold: set spec.suspended to false to bring the same certificate back",
            ),
        };
        Self { standing, ..Self::refused(holder, ready) }
    }

    /// The Secret of its name is that of another of the same name, who is gone, until that one's certificates are revoked.
    fn succeeds_another<K: Holder>(holder: &K) -> Self {
        let text = "waiting until the certificates of the one before, which had the same name, are revoked";
        Self {
            retry_in: Some(Duration::from_secs(2)),
            ..Self::refused(holder, Verdict::no(Reason::Issuing, text))
        }
    }

    /// Nothing can be done now. What was told before of the certificate still stands.
    fn refused<K: Holder>(holder: &K, ready: Verdict) -> Self {
        let current = holder.holder_status().and_then(|status| {
            let certificate = status.certificate.clone()?;
            Some(Current { certificate, superseded: status.superseded.clone() })
        });
        Self { current, ..Self::of(ready) }
    }

    /// The name of its Secret is somebody else's. No watch tells when it is free.
    fn name_taken<K: Holder>(holder: &K, foreign: &Foreign) -> Self {
        let verdict = Verdict::no(Reason::NameTaken, foreign.to_string());
        Self { retry_in: Some(FIRST_RETRY), ..Self::refused(holder, verdict) }
    }

    fn with_note(mut self, mut note: Note) -> Self {
        match (&self.current, note.warning) {
            (Some(current), false) => {
                let CertificateStatus { serial_number, not_after, .. } = &current.certificate;
                note.text = format!(
                    "issued certificate {serial_number}, valid until {}, because {}",
                    not_after.0, note.text
                );
                self.notes.push(note);
            }
            (_, true) => self.notes.push(note),
            _ => {}
        }
        self
    }
}

// === impl Verified ===

impl Verified {
    fn find(&self, key: &Key, version: &Version) -> Option<Known> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|known| known.version == *version).cloned()
    }

    fn put(&self, key: Key, known: Known) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, known);
    }

    /// The object is gone.
    pub fn forget(&self, holder: &Key) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(holder);
    }
}

// === impl Known ===

impl Known {
    /// The next certificate, if the metadata of the Secret, which is `child`, are enough to see that one is asked for.
    fn renewal<K: Holder>(
        self,
        child: &Child,
        holder: &K,
        request: &Request,
        signer: &Signer,
        now: Timestamp,
    ) -> Option<(Plan, Option<Replaced>)> {
        if self.secret_type != secret::type_of(request) {
            return None;
        }
        let noted = secret::noted(&child.annotations);
        let plan = plan::renewal(request, &noted, &self.current, signer, &seed(holder), now)?;
        let ledger = Ledger::read(&child.annotations)?;
        Some((
            plan,
            Some(Replaced {
                version: Version::from(child),
                certificates: ledger.all().cloned().collect(),
                current: Some(self.current),
                is_of_another_type: false,
            }),
        ))
    }
}
