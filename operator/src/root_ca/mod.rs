//! `RootCA` → a Secret with the signing key and its CRL, a `ConfigMap` with what everybody is to trust.
//!
//! The Secret is the ledger: its key is created once and never overwritten by a second one, and its CRL's number only rises.
//! It is written first, the `ConfigMap` follows from it. Deleting the `RootCA` leaves the Secret unless asked otherwise; a root of
//! the same name takes it up again.

pub mod build;
pub mod observe;
pub mod plan;
pub mod report;

use std::sync::Arc;
use std::time::Duration;

use api::RootCA;
use api::conditions::{Reason, Verdict};
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use pki::{RootError, SigningRoot};

use self::plan::{CrlPlan, KeyPlan};
use crate::cluster::{Note, Written};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::key::Key;

/// How long until an import that was refused is looked at again. It may be mended in place, and no watch tells: the operator
/// sees nobody else's Secrets.
const LOOK_AT_IMPORT: Duration = Duration::from_secs(2);
const FIRST_RETRY: Duration = Duration::from_mins(1);

/// What came of looking after a root.
enum Outcome {
    /// It can sign.
    Usable { ledger: Box<build::Ledger>, notes: Vec<Note> },
    /// It cannot.
    Unusable { verdict: Verdict, retry_in: Option<Duration> },
}

/// Makes `root` what it should be.
pub async fn reconcile(root: Arc<RootCA>, context: Arc<Context>) -> Result<Action> {
    let (namespace, name) = (root.namespace().unwrap_or_default(), root.name_any());
    let outcome = look_after(&root, &context).await?;
    let now = context.now();
    let devices = observe::count_devices(&context.objects, &namespace, &name);
    let (status, look_again_in, notes) = match outcome {
        Outcome::Usable { ledger, notes } => {
            let trust = build::trust(&root, &ledger);
            if let Written::Foreign(foreign) = context.cluster.apply(&trust).await? {
                let verdict = Verdict::no(Reason::NameTaken, foreign.to_string());
                (report::unusable(&root, &verdict, devices, now), Some(FIRST_RETRY), notes)
            } else {
                let status = report::usable(&root, &ledger, devices, now);
                let due = plan::next_due(&root.spec, &ledger, now);
                context.roots.put(&namespace, &name, Some(build::usable(&root, *ledger)));
                (status, Some(due), notes)
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
        context.cluster.tell(&*root, note, now).await;
    }
    Ok(look_again_in.map_or_else(Action::await_change, Action::requeue))
}

async fn look_after(root: &RootCA, context: &Context) -> Result<Outcome> {
    let observed = observe::observe(root, context).await?;
    let now = context.now();
    let own = Key::of::<RootCA>(&root.namespace().unwrap_or_default(), &root.name_any());
    let mut notes = Vec::new();

    let (mut ledger, stored) = match plan::key(&root.spec, &observed, now) {
        KeyPlan::Use { ledger } => (*ledger, observed.secret.as_ref()),
        KeyPlan::Refuse { verdict, retry_in } => return Ok(Outcome::Unusable { verdict, retry_in }),
        KeyPlan::Generate { generation, because } => {
            let profile = match plan::profile(root, generation) {
                Ok(profile) => profile,
                Err(verdict) => return Ok(Outcome::Unusable { verdict, retry_in: None }),
            };
            let serial = pki::SerialNumber::generate().map_err(|_| Error::Random)?;
            let made =
                tokio::task::spawn_blocking(move || SigningRoot::generate(&profile, serial, now)).await;
            match made.map_err(|_| Error::Cancelled { action: "make a root key" })? {
                Ok(signing) => {
                    notes.push(report::generated(&signing, generation, &because));
                    (build::Ledger { generation, signing, crl: None }, observed.secret.as_ref())
                }
                Err(problem) => return Ok(failed(context, &own, &problem)),
            }
        }
        KeyPlan::Import { signing } => {
            notes.push(report::imported(&signing, root));
            (build::Ledger { generation: 1, signing: *signing, crl: None }, None)
        }
    };

    let crl = match plan::crl(&root.spec, ledger.crl.as_ref(), now) {
        CrlPlan::Keep => None,
        CrlPlan::Sign { contents, because } => match ledger.signing.sign_crl(&contents, now) {
            Ok(crl) => {
                notes.push(report::signed_crl(&crl, &because));
                Some(crl)
            }
            Err(problem) => {
                let verdict =
                    Verdict::no(Reason::IssueFailed, format!("the CRL could not be signed: {problem}"));
                return Ok(Outcome::Unusable {
                    verdict,
                    retry_in: Some(context.backoff.failed(&own, FIRST_RETRY)),
                });
            }
        },
    };
    if crl.is_some() {
        ledger.crl = crl;
    }
    let secret = build::secret(root, &ledger);
    match stored {
        None => match context.cluster.create_once(&secret).await? {
            Written::Done(Some(_)) => {}
            // Another replica was quicker: its root is the root.
            Written::Done(None) => {
                let verdict = Verdict::no(Reason::Issuing, "its Secret was just made elsewhere");
                return Ok(Outcome::Unusable { verdict, retry_in: Some(Duration::from_millis(500)) });
            }
            Written::Foreign(foreign) => return Ok(taken(context, &own, &foreign)),
        },
        Some(stored) if !notes.is_empty() || !build::is_in_order(&secret, stored) => {
            context.cluster.rewrite(&secret, stored).await?;
        }
        Some(_) => {}
    }
    context.backoff.succeeded(&own);
    Ok(Outcome::Usable { ledger: Box::new(ledger), notes })
}

fn failed(context: &Context, own: &Key, problem: &RootError) -> Outcome {
    let retry_in = Some(context.backoff.failed(own, FIRST_RETRY));
    let verdict = Verdict::no(Reason::IssueFailed, format!("no root could be made: {problem}"));
    Outcome::Unusable { verdict, retry_in }
}

fn taken(context: &Context, own: &Key, foreign: &crate::cluster::Foreign) -> Outcome {
    let retry_in = Some(context.backoff.failed(own, FIRST_RETRY));
    Outcome::Unusable { verdict: Verdict::no(Reason::NameTaken, foreign.to_string()), retry_in }
}
