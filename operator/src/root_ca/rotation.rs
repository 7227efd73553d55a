//! The replacement of a root as a state machine. Pure: what the cluster shows goes in, the next step and its reason come out. The
//! phase and the moment it began are in the ledger, everything else is derived anew each time, so a crash anywhere resumes.
//!
//! | phase | who signs | it ends when |
//! | --- | --- | --- |
//! | `Distributing` | old | every broker has proved that it lets in clients of the new root, and every device has acknowledged the new bundle |
//! | `SwitchingServers` | new, for brokers; then for dashboards and the operator | all of them use their new certificate |
//! | `Reissuing` | new | every device has a certificate of the new root |
//! | `Draining` | new | every device has acknowledged its new certificate, or the old ones have ended |
//! | `Retiring` | new; the old one is trusted by nobody | every broker has proved that it refuses clients of the old root: its key is destroyed |
//!
//! Why in this order: a device that trusts only the old root refuses the broker the moment that the broker's certificate changes.

use std::time::Duration;

use api::{RootCASpec, RotationPhase};
use jiff::Timestamp;

use super::ledger::{Generation, Ledger, Rotation};

/// How long devices that do not acknowledge are waited for, unless the spec says otherwise.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_hours(7 * 24);
/// How far apart devices get their certificates of the new root, on average: 20 a second.
const APART: Duration = Duration::from_millis(50);
/// How long new certificates are waited for when the old root is not to be trusted a moment longer than need be.
const ISSUED_WITHIN: Duration = Duration::from_secs(15);
/// How many laggards are named.
const NAMED: usize = 10;

/// What the spec says about a replacement that runs.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Hold it where it is.
    pub paused: bool,
    /// How long to wait for devices that do not acknowledge, in each phase that waits for them.
    pub acknowledge_within: Duration,
    /// Do not wait for devices at all.
    pub distrust_now: bool,
}

/// What the cluster shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Every device in service that holds a certificate of this root.
    pub devices: Vec<Device>,
    /// Every broker that holds one.
    pub brokers: Vec<Broker>,
    /// The dashboards that do not have a certificate of the new root yet.
    pub dashboards_behind: Vec<String>,
}

/// How far a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// It has acknowledged that it trusts the new root.
    pub trusts_new: bool,
    /// It has been issued a certificate of the new root.
    pub has_new: bool,
    /// It has acknowledged that it uses that certificate.
    pub uses_new: bool,
    /// The last of its certificates of the old root ends then.
    pub old_ends: Option<Timestamp>,
}

/// How far a broker is, as its sidecar reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its name.
    pub name: String,
    /// It has loaded the new root.
    pub trusts_new: bool,
    /// It has loaded the old root.
    pub trusts_old: bool,
    /// It serves a certificate of the new root.
    pub serves_new: bool,
}

/// What a broker answered to a client with a fresh certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The broker.
    pub broker: String,
    /// Whether the certificate was of the new root; otherwise of the old one.
    pub of_new: bool,
    /// Whether the client was let in; the error says why it could not be tried.
    pub let_in: Result<bool, String>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing; there is no reason to replace the root.
    Rest,
    /// Wait.
    Wait {
        /// For what, for people.
        for_: String,
    },
    /// Ask the named broker with a certificate of the new root, or of the old one, and plan again.
    Ask {
        /// The broker.
        broker: String,
        /// Which root.
        of_new: bool,
    },
    /// Make the next generation, or adopt it.
    Begin {
        /// Why.
        because: String,
    },
    /// Go on.
    Enter {
        /// The next phase.
        phase: RotationPhase,
        /// What has been shown.
        because: String,
    },
    /// The old generation goes, with its key.
    Finish {
        /// What has been shown.
        because: String,
    },
}

/// The next step of `ledger`'s root.
pub fn plan(
    spec: &RootCASpec,
    ledger: &Ledger,
    evidence: &Evidence,
    probes: &[Probe],
    now: Timestamp,
) -> Step {
    match &ledger.notes.rotation {
        None => match reason_to_begin(spec, ledger, now) {
            Some(because) => Step::Begin { because },
            None => Step::Rest,
        },
        Some(rotation) => {
            let old = &ledger.generations[0];
            let end = old.signing.certificate().not_after();
            if end <= now {
                return Step::Finish { because: format!("generation {} expired at {end}", old.number) };
            }
            next(rotation, &Policy::of(spec), evidence, probes, now)
        }
    }
}

/// The next step of a replacement that runs.
pub fn next(
    rotation: &Rotation,
    policy: &Policy,
    evidence: &Evidence,
    probes: &[Probe],
    now: Timestamp,
) -> Step {
    if policy.paused {
        return wait("spec.rotation.paused is true");
    }
    match rotation.phase {
        RotationPhase::Distributing => distributing(rotation, policy, evidence, probes, now),
        RotationPhase::SwitchingServers => switching_servers(rotation, policy, evidence, now),
        RotationPhase::Reissuing => reissuing(rotation, policy, evidence, now),
        RotationPhase::Draining => draining(rotation, policy, evidence, now),
        RotationPhase::Retiring => retiring(evidence, probes),
    }
}

fn distributing(
    rotation: &Rotation,
    policy: &Policy,
    evidence: &Evidence,
    probes: &[Probe],
    now: Timestamp,
) -> Step {
    if let Some(broker) = evidence.brokers.iter().find(|broker| !broker.trusts_new) {
        return wait(format!("the broker {} to load the new root", broker.name));
    }
    let behind: Vec<_> = evidence.behind(RotationPhase::Distributing);
    let patience = policy.patience(rotation, now);
    if !behind.is_empty() && patience.waits() {
        return wait(format!("{} to acknowledge the new root", listed(&behind)));
    }
    if let Some(step) = prove(evidence, probes, true) {
        return step;
    }
    let proved = match evidence.brokers.len() {
        0 => "there is no broker".to_owned(),
        _ => "every broker lets in clients of the new root".to_owned(),
    };
    enter(RotationPhase::SwitchingServers, format!("{proved} and {}", patience.words(&behind, "trusts it")))
}

fn switching_servers(rotation: &Rotation, policy: &Policy, evidence: &Evidence, now: Timestamp) -> Step {
    if let Some(broker) = evidence.brokers.iter().find(|broker| !broker.serves_new) {
        return wait(format!("the broker {} to serve a certificate of the new root", broker.name));
    }
    let behind = &evidence.dashboards_behind;
    if behind.is_empty() {
        return enter(
            RotationPhase::Reissuing,
            "brokers and dashboards use certificates of the new root".to_owned(),
        );
    }
    if policy.waits_for_issuing(rotation, now) {
        return wait(format!("new certificates for {}", listed(behind)));
    }
    enter(RotationPhase::Reissuing, Patience::Distrust.words(behind, "has a certificate of the new root"))
}

fn reissuing(rotation: &Rotation, policy: &Policy, evidence: &Evidence, now: Timestamp) -> Step {
    let behind = evidence.without_new(now);
    if behind.is_empty() {
        return enter(RotationPhase::Draining, "every device has a certificate of the new root".to_owned());
    }
    if policy.waits_for_issuing(rotation, now) {
        return wait(format!("new certificates for {}", listed(&behind)));
    }
    enter(RotationPhase::Draining, Patience::Distrust.words(&behind, "has a certificate of the new root"))
}

fn draining(rotation: &Rotation, policy: &Policy, evidence: &Evidence, now: Timestamp) -> Step {
    // A device that came meanwhile and got a certificate of the old root would be forgotten otherwise.
    let without = evidence.without_new(now);
    if !without.is_empty() && !policy.distrust_now {
        return wait(format!("new certificates for {}", listed(&without)));
    }
    let behind: Vec<_> = evidence
        .devices
        .iter()
        .filter(|device| !device.uses_new && device.old_ends.is_some_and(|end| end > now))
        .map(|device| device.name.clone())
        .collect();
    let patience = policy.patience(rotation, now);
    if !behind.is_empty() && patience.waits() {
        return wait(format!("{} to use the new certificate", listed(&behind)));
    }
    enter(RotationPhase::Retiring, patience.words(&behind, "uses its new certificate"))
}

fn retiring(evidence: &Evidence, probes: &[Probe]) -> Step {
    if let Some(broker) = evidence.brokers.iter().find(|broker| broker.trusts_old || !broker.trusts_new) {
        return wait(format!("the broker {} to drop the old root", broker.name));
    }
    if let Some(step) = prove(evidence, probes, false) {
        return step;
    }
    let because = match evidence.brokers.len() {
        0 => "nobody trusts it any more",
        _ => "every broker refuses clients of the old root",
    };
    Step::Finish { because: because.to_owned() }
}

/// Why another replacement follows the one that runs, if one runs.
pub fn queued(spec: &RootCASpec, ledger: &Ledger) -> Option<String> {
    ledger.notes.rotation.as_ref().and_then(|_| asked_for(spec, ledger))
}

/// Why the root is to be replaced, if it is.
fn reason_to_begin(spec: &RootCASpec, ledger: &Ledger, now: Timestamp) -> Option<String> {
    let latest = ledger.latest();
    let by_itself = || {
        let end = latest.signing.certificate().not_after();
        (due_at(spec, latest) <= now).then(|| format!("generation {} expires at {end}", latest.number))
    };
    // An imported root is its owner's to replace.
    asked_for(spec, ledger).or_else(|| by_itself().filter(|_| !is_imported(spec, ledger)))
}

/// Whether the present root is the one that the spec names to be imported: this operator makes none in its place.
pub fn is_imported(spec: &RootCASpec, ledger: &Ledger) -> bool {
    spec.import_from
        .as_ref()
        .is_some_and(|from| ledger.notes.imported_from.as_ref() == Some(&from.secret_name))
}

/// What the spec asks for that was not served yet.
fn asked_for(spec: &RootCASpec, ledger: &Ledger) -> Option<String> {
    let notes = &ledger.notes;
    if let Some(trigger) = &spec.rotation.trigger
        && notes.trigger.as_ref() != Some(trigger)
    {
        return Some(format!("spec.rotation.trigger changed to {trigger:?}"));
    }
    if let Some(made_for) = &notes.key_algorithm
        && *made_for != spec.key_algorithm.to_string()
    {
        return Some(format!("spec.keyAlgorithm changed from {made_for} to {}", spec.key_algorithm));
    }
    if let Some(from) = &spec.import_from
        && notes.imported_from.as_ref() != Some(&from.secret_name)
        && notes.key_algorithm.is_some()
    {
        return Some(format!("spec.importFrom.secretName changed to {}", from.secret_name));
    }
    None
}

/// When the root is replaced by itself: so long before its end, half of its life unless the spec says otherwise.
pub fn due_at(spec: &RootCASpec, latest: &Generation) -> Timestamp {
    let certificate = latest.signing.certificate();
    let (begin, end) = (certificate.not_before(), certificate.not_after());
    let half = Duration::try_from(end.duration_since(begin)).unwrap_or_default() / 2;
    end - spec.rotation.before_expiry.map_or(half, Duration::from)
}

/// Over how long `devices` devices change to the new generation.
pub fn spread(spec: &RootCASpec, devices: usize) -> Duration {
    if spec.rotation.distrust_now {
        Duration::ZERO
    } else {
        APART * u32::try_from(devices).unwrap_or(u32::MAX)
    }
}

fn enter(phase: RotationPhase, because: String) -> Step {
    Step::Enter { phase, because }
}

fn wait(for_: impl Into<String>) -> Step {
    Step::Wait { for_: for_.into() }
}

/// What is still to be asked or awaited until every broker has shown that it lets in clients of the new root, or refuses those of
/// the old one.
fn prove(evidence: &Evidence, probes: &[Probe], of_new: bool) -> Option<Step> {
    let does = if of_new { "let in clients of the new root" } else { "refuse clients of the old root" };
    evidence.brokers.iter().find_map(|Broker { name, .. }| {
        let probe = probes.iter().find(|probe| probe.broker == *name && probe.of_new == of_new);
        match probe.map(|probe| &probe.let_in) {
            None => Some(Step::Ask { broker: name.clone(), of_new }),
            Some(Ok(let_in)) if *let_in == of_new => None,
            Some(Ok(_)) => Some(wait(format!("the broker {name} to {does}"))),
            Some(Err(problem)) => Some(wait(format!("an answer of the broker {name}: {problem}"))),
        }
    })
}

/// The first ten names, and how many more there are.
fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let named = names[..names.len() - more].join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

/// Whether devices that have not acknowledged are still waited for.
#[derive(Clone, Copy)]
enum Patience {
    Waiting,
    Over { within: Duration },
    Distrust,
}

// === impl Policy ===

impl Policy {
    /// What `spec` says.
    pub fn of(spec: &RootCASpec) -> Self {
        let rotation = &spec.rotation;
        Self {
            paused: rotation.paused,
            acknowledge_within: rotation.acknowledge_within.map_or(ACKNOWLEDGE_WITHIN, Duration::from),
            distrust_now: rotation.distrust_now,
        }
    }

    /// Whether to wait for those who have no certificate of the new root yet. What is asked for may be impossible, a spec that is
    /// refused for example: that must not keep a root trusted that is in other hands.
    fn waits_for_issuing(&self, rotation: &Rotation, now: Timestamp) -> bool {
        !self.distrust_now || !rotation.has_lasted(ISSUED_WITHIN, now)
    }

    fn patience(&self, rotation: &Rotation, now: Timestamp) -> Patience {
        if self.distrust_now {
            Patience::Distrust
        } else if rotation.has_lasted(self.acknowledge_within, now) {
            Patience::Over { within: self.acknowledge_within }
        } else {
            Patience::Waiting
        }
    }
}

// === impl Patience ===

impl Patience {
    fn waits(self) -> bool {
        matches!(self, Self::Waiting)
    }

    /// What is said of the devices when it goes on without those `behind`.
    fn words(self, behind: &[String], does: &str) -> String {
        match (behind, self) {
            ([], _) => format!("every device {does}"),
            (_, Self::Distrust) => {
                format!("spec.rotation.distrustNow does not wait for {}", listed(behind))
            }
            (_, Self::Over { within }) => format!(
                "spec.rotation.acknowledgeWithin ({}) has passed without word of {}",
                api::GoDuration::from(within),
                listed(behind)
            ),
            (_, Self::Waiting) => format!("{} do not count", listed(behind)),
        }
    }
}

// === impl Evidence ===

impl Evidence {
    /// The devices that `phase` waits for.
    pub fn behind(&self, phase: RotationPhase) -> Vec<String> {
        let done = |device: &Device| match phase {
            RotationPhase::Distributing => device.trusts_new,
            RotationPhase::SwitchingServers | RotationPhase::Retiring => true,
            RotationPhase::Reissuing => device.has_new,
            RotationPhase::Draining => device.uses_new,
        };
        self.devices.iter().filter(|device| !done(device)).map(|device| device.name.clone()).collect()
    }

    /// The devices that have no certificate of the new root but one of the old that is within its dates.
    fn without_new(&self, now: Timestamp) -> Vec<String> {
        let lacks = |device: &&Device| !device.has_new && device.old_ends.is_none_or(|end| end > now);
        self.devices.iter().filter(lacks).map(|device| device.name.clone()).collect()
    }

    /// The first of the devices that `phase` waits for, in the order of their names.
    pub fn laggards(&self, phase: RotationPhase) -> Vec<String> {
        let mut behind = self.behind(phase);
        behind.sort();
        behind.truncate(NAMED);
        behind
    }

    /// How many devices fulfil `what`.
    pub fn count(&self, what: impl Fn(&Device) -> bool) -> i32 {
        i32::try_from(self.devices.iter().filter(|device| what(device)).count()).unwrap_or(i32::MAX)
    }
}

#[cfg(test)]
mod model;
