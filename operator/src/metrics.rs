//! What is measured, for Prometheus. Names and units as in docs/architecture.md.

use std::time::Duration;

use api::conditions::{READY, holds};
use api::{CertificateState, GenerationState, HolderStatus, RootCAStatus, RotationPhase};
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// All families.
#[derive(Clone)]
pub struct Metrics {
    not_after: Family<Certificate, Gauge>,
    renewal: Family<Certificate, Gauge>,
    ready: Family<Certificate, Gauge>,
    withdrawn: Family<Certificate, Gauge>,
    rotation_phase: Family<Rotation, Gauge>,
    reconciles: Family<Reconcile, Counter>,
    reconcile_errors: Family<Kind, Counter>,
    reconcile_duration: Family<Kind, Histogram>,
    issue_duration: Family<Kind, Histogram>,
    leader: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Certificate {
    kind: String,
    namespace: String,
    name: String,
}

/// One of a set: at most one of a root's phases is 1.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Rotation {
    namespace: String,
    name: String,
    phase: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reconcile {
    kind: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: String,
}

// === impl Rotation ===

impl Rotation {
    fn of(namespace: &str, name: &str, phase: RotationPhase) -> Self {
        Self { namespace: namespace.into(), name: name.into(), phase: phase.as_str() }
    }
}

// === impl Metrics ===

impl Metrics {
    /// Registers everything in `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let durations = || Histogram::new(exponential_buckets(0.001, 2.0, 14));
        let metrics = Self {
            not_after: Family::default(),
            renewal: Family::default(),
            ready: Family::default(),
            withdrawn: Family::default(),
            rotation_phase: Family::default(),
            reconciles: Family::default(),
            reconcile_errors: Family::default(),
            reconcile_duration: Family::new_with_constructor(durations),
            issue_duration: Family::new_with_constructor(durations),
            leader: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("ca_iot");
        let Self {
            not_after,
            renewal,
            ready,
            withdrawn,
            rotation_phase,
            reconciles,
            reconcile_errors,
            reconcile_duration,
            issue_duration,
            leader,
        } = metrics.clone();
        let timestamp = || Unit::Other("timestamp_seconds".to_owned());
        registry.register_with_unit(
            "certificate_not_after",
            "End of a certificate or CRL, Unix time",
            timestamp(),
            not_after,
        );
        registry.register_with_unit(
            "certificate_renewal",
            "When a certificate or CRL is to be renewed, Unix time",
            timestamp(),
            renewal,
        );
        registry.register(
            "certificate_ready",
            "1 when the holder of the certificate, the root or its CRL is Ready",
            ready,
        );
        registry.register(
            "certificate_withdrawn",
            "1 when the owner has suspended or revoked the holder: it is not to be Ready, and is not renewed",
            withdrawn,
        );
        registry.register(
            "rotation_phase",
            "1 for the phase in which the replacement of a root is",
            rotation_phase,
        );
        registry.register("reconcile", "Reconciliations by kind and outcome", reconciles);
        registry.register("reconcile_errors", "Reconciliations that failed", reconcile_errors);
        registry.register_with_unit(
            "reconcile_duration",
            "Time of a reconciliation",
            Unit::Seconds,
            reconcile_duration,
        );
        registry.register_with_unit(
            "issue_duration",
            "Time to make a key, sign and store",
            Unit::Seconds,
            issue_duration,
        );
        registry.register("leader", "1 on the replica that writes", leader);
        metrics
    }

    /// Notes what is so of a holder of a certificate.
    pub fn holder(&self, kind: &str, namespace: &str, name: &str, status: &HolderStatus) {
        let label = Certificate { kind: kind.into(), namespace: namespace.into(), name: name.into() };
        if let Some(certificate) = &status.certificate {
            self.not_after.get_or_create(&label).set(certificate.not_after.0.as_second());
            self.renewal.get_or_create(&label).set(certificate.renewal_time.0.as_second());
        }
        self.ready.get_or_create(&label).set(holds(&status.conditions, READY).into());
        let withdrawn = matches!(status.state, Some(CertificateState::Suspended | CertificateState::Revoked));
        self.withdrawn.get_or_create(&label).set(withdrawn.into());
    }

    /// Notes what is so of a root, and of its CRL.
    pub fn root(&self, namespace: &str, name: &str, status: &RootCAStatus) {
        let label =
            |kind: &str| Certificate { kind: kind.into(), namespace: namespace.into(), name: name.into() };
        let active = status.generations.iter().find(|generation| generation.state == GenerationState::Active);
        if let Some(active) = active {
            self.not_after.get_or_create(&label("RootCA")).set(active.not_after.0.as_second());
            self.renewal
                .get_or_create(&label("RootCA"))
                .set(halfway(active.not_before.0, active.not_after.0));
        }
        if let Some(crl) = &status.crl {
            let (signed, end) = (crl.this_update.0, crl.next_update.0);
            self.not_after.get_or_create(&label("CRL")).set(end.as_second());
            self.renewal.get_or_create(&label("CRL")).set(halfway(signed, end));
            // a root is Ready only as long as its list is in date
            self.ready.get_or_create(&label("CRL")).set(holds(&status.conditions, READY).into());
        }
        let running = status.rotation.as_ref().map(|rotation| rotation.phase);
        for phase in RotationPhase::ALL {
            let label = Rotation::of(namespace, name, phase);
            self.rotation_phase.get_or_create(&label).set((running == Some(phase)).into());
        }
        self.ready.get_or_create(&label("RootCA")).set(holds(&status.conditions, READY).into());
    }

    /// Nothing is told any more of an object that is gone.
    pub fn forget(&self, kind: &str, namespace: &str, name: &str) {
        let also = (kind == "RootCA").then_some("CRL");
        for kind in also.into_iter().chain([kind]) {
            let label = Certificate { kind: kind.into(), namespace: namespace.into(), name: name.into() };
            for family in [&self.not_after, &self.renewal, &self.ready, &self.withdrawn] {
                family.remove(&label);
            }
        }
        if kind == "RootCA" {
            for phase in RotationPhase::ALL {
                self.rotation_phase.remove(&Rotation::of(namespace, name, phase));
            }
        }
    }

    /// Notes a reconciliation.
    pub fn reconciled(&self, kind: &str, took: Duration, succeeded: bool) {
        let outcome = if succeeded { "success" } else { "error" };
        self.reconciles.get_or_create(&Reconcile { kind: kind.into(), outcome }).inc();
        self.reconcile_duration.get_or_create(&Kind { kind: kind.into() }).observe(took.as_secs_f64());
        if !succeeded {
            self.reconcile_errors.get_or_create(&Kind { kind: kind.into() }).inc();
        }
    }

    /// Notes a certificate that was issued.
    pub fn issued(&self, kind: &str, took: Duration) {
        self.issue_duration.get_or_create(&Kind { kind: kind.into() }).observe(took.as_secs_f64());
    }

    /// Notes whether this replica writes.
    pub fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }
}

/// Where the middle of a life is: roots are replaced and CRLs are signed anew there.
fn halfway(start: Timestamp, end: Timestamp) -> i64 {
    start.as_second().midpoint(end.as_second())
}

#[cfg(test)]
mod tests {
    use api::{CertificateStatus, CrlStatus, Generation, RotationStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn names_are_those_that_alerts_are_written_for() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.reconciled("IotDevice", Duration::from_millis(3), false);
        metrics.issued("IotDevice", Duration::from_millis(3));
        metrics.leads(true);
        let moment = Time(Timestamp::UNIX_EPOCH);
        metrics.root("ns", "root-ca", &rotating_root());
        let certificate = CertificateStatus {
            serial_number: "0a".into(),
            fingerprint: "ff".into(),
            not_before: moment.clone(),
            not_after: moment.clone(),
            renewal_time: moment,
            root_generation: 1,
            secret_name: "s".into(),
        };
        let state = Some(CertificateState::Suspended);
        let status = HolderStatus { certificate: Some(certificate), state, ..HolderStatus::default() };
        metrics.holder("IotDevice", "ns", "d", &status);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for name in [
            "ca_iot_certificate_not_after_timestamp_seconds",
            "ca_iot_certificate_renewal_timestamp_seconds",
            "ca_iot_certificate_ready{kind=\"RootCA\",namespace=\"ns\",name=\"root-ca\"} 0",
            "ca_iot_certificate_ready{kind=\"CRL\",namespace=\"ns\",name=\"root-ca\"} 0",
            "ca_iot_certificate_renewal_timestamp_seconds{kind=\"RootCA\",namespace=\"ns\",name=\"root-ca\"} 500",
            "ca_iot_certificate_renewal_timestamp_seconds{kind=\"CRL\",namespace=\"ns\",name=\"root-ca\"} 50",
            "ca_iot_certificate_withdrawn{kind=\"IotDevice\",namespace=\"ns\",name=\"d\"} 1",
            "ca_iot_rotation_phase{namespace=\"ns\",name=\"root-ca\",phase=\"Reissuing\"} 1",
            "ca_iot_rotation_phase{namespace=\"ns\",name=\"root-ca\",phase=\"Draining\"} 0",
            "ca_iot_reconcile_total{kind=\"IotDevice\",outcome=\"error\"} 1",
            "ca_iot_reconcile_errors_total{kind=\"IotDevice\"} 1",
            "ca_iot_reconcile_duration_seconds_bucket",
            "ca_iot_issue_duration_seconds_bucket",
            "ca_iot_leader 1",
        ] {
            assert!(text.contains(name), "{name} is not in\n{text}");
        }
        metrics.forget("RootCA", "ns", "root-ca");
        text.clear();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(!text.contains("root-ca"), "{text}");
    }

    fn rotating_root() -> RootCAStatus {
        let at = |second| Time(Timestamp::from_second(second).unwrap());
        RootCAStatus {
            generations: vec![Generation {
                generation: 1,
                state: GenerationState::Active,
                serial_number: "0b".into(),
                not_before: at(0),
                not_after: at(1000),
                fingerprint: "fe".into(),
            }],
            crl: Some(CrlStatus { number: 1, this_update: at(0), next_update: at(100), revoked: 0 }),
            rotation: Some(RotationStatus {
                phase: RotationPhase::Reissuing,
                reason: "the trigger is new".into(),
                started_at: at(10),
                trusting: 1,
                reissued: 0,
                total: 1,
                laggards: Vec::new(),
            }),
            ..RootCAStatus::default()
        }
    }
}
