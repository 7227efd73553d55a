//! A resource boiled down to what the page shows. The only place that knows both sides.

use api::conditions::{DEGRADED, READY, RENEWAL_OVERDUE};
use api::{CertificateHolder, CertificateSpec, HolderStatus};
use k8s_openapi::api::core::v1::Event as KubeEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition as KubeCondition, MicroTime, Time};
use kube::{Resource, ResourceExt};
use serde::Serialize;

use crate::state::events::Event;
use crate::state::holder::{
    Barred, Broker, Certificate, Condition, Crl, DeviceSpec, Holder, HolderId, Kind, Loaded, LoadedCrl, Root,
    Rotation,
};

/// A root: one certificate for each generation that is trusted.
pub fn root_ca(object: &api::RootCA) -> Holder {
    let mut holder = named(object, Kind::RootCA);
    let spec = &object.spec;
    let imported = spec.import_from.is_some();
    holder.key_algorithm = (!imported).then(|| word(&spec.key_algorithm));
    let mut root =
        Root { subject: spec.subject.common_name.clone(), paused: spec.rotation.paused, ..Root::default() };
    if let Some(status) = &object.status {
        conditions(&mut holder, &status.conditions);
        holder.state = status
            .generations
            .iter()
            .find(|one| Some(one.generation) == status.active_generation)
            .map(|one| word(&one.state));
        holder.certificates = status
            .generations
            .iter()
            .map(|one| Certificate {
                serial_number: one.serial_number.clone(),
                fingerprint: one.fingerprint.clone(),
                not_before: millis(&one.not_before),
                not_after: millis(&one.not_after),
                issued_at: (!imported).then(|| signed_at(&one.not_before)),
                renewal_time: None,
                generation: one.generation.into(),
                generation_state: Some(word(&one.state)),
                secret_name: None,
            })
            .collect();
        if let Some(subject) = &status.subject {
            root.subject.clone_from(subject);
        }
        root.crl = status.crl.as_ref().map(|crl| Crl {
            number: crl.number,
            this_update: millis(&crl.this_update),
            signed_at: signed_at(&crl.this_update),
            next_update: millis(&crl.next_update),
            revoked: crl.revoked.into(),
        });
        root.rotation = status.rotation.as_ref().map(|rotation| Rotation {
            phase: word(&rotation.phase),
            reason: rotation.reason.clone(),
            started_at: Some(millis(&rotation.started_at)),
            trusting: rotation.trusting.into(),
            reissued: rotation.reissued.into(),
            total: rotation.total.into(),
            laggards: rotation.laggards.clone(),
        });
    }
    holder.root = Some(root);
    holder
}

/// A broker, and what it really uses.
pub fn mqtt_broker(object: &api::MqttBroker) -> Holder {
    let mut holder = leaf(object, Kind::MqttBroker);
    let status = object.status.as_ref();
    holder.broker = Some(Broker {
        endpoint: status.and_then(|status| status.endpoint.clone()),
        loaded: status.and_then(|status| status.loaded.as_ref()).map(|loaded| Loaded {
            serial_number: loaded.serial_number.clone(),
            roots: loaded.roots.clone(),
            crls: loaded
                .crls
                .iter()
                .map(|crl| LoadedCrl { root: crl.root.clone(), number: crl.number })
                .collect(),
            loaded_at: millis(&loaded.loaded_at),
        }),
    });
    holder
}

/// A dashboard.
pub fn dashboard(object: &api::Dashboard) -> Holder {
    leaf(object, Kind::Dashboard)
}

/// A device.
pub fn iot_device(object: &api::IotDevice) -> Holder {
    let mut holder = leaf(object, Kind::IotDevice);
    let spec = &object.spec;
    if spec.csr.is_some() {
        holder.key_algorithm = None;
    }
    holder.device = Some(DeviceSpec {
        simulated: spec.thermometer.is_some(),
        interval: spec.thermometer.as_ref().map(|thermometer| thermometer.interval.into()),
        suspended: spec.suspended,
        revoked: spec.revoked.as_ref().map(|revoked| word(&revoked.reason)),
        revoked_message: spec.revoked.as_ref().and_then(|revoked| revoked.message.clone()),
        csr: spec.csr.is_some(),
        barred: object.status.as_ref().and_then(|status| status.revocation.as_ref()).map(|steps| Barred {
            crl_number: steps.crl_number,
            listed_at: steps.listed_at.as_ref().map(moment),
            loaded_at: steps.loaded_at.as_ref().map(moment),
            session_cut_at: steps.session_cut_at.as_ref().map(moment),
        }),
    });
    holder
}

/// What happened, and to whom; `None` for what happened to anything else.
pub fn event(event: &KubeEvent) -> Option<(HolderId, Event)> {
    let kind = event.involved_object.kind.as_deref().and_then(Kind::parse)?;
    let id = HolderId::new(kind, event.involved_object.name.clone()?);
    let series = event.series.as_ref();
    let times = [
        series.and_then(|series| series.last_observed_time.as_ref()).map(moment),
        event.last_timestamp.as_ref().map(millis),
        event.event_time.as_ref().map(moment),
        event.metadata.creation_timestamp.as_ref().map(millis),
    ];
    let event = Event {
        uid: event.metadata.uid.clone()?,
        at: times.into_iter().flatten().next()?,
        warning: event.type_.as_deref() == Some("Warning"),
        reason: event.reason.clone().unwrap_or_default(),
        message: event.message.clone().unwrap_or_default(),
        count: series.and_then(|series| series.count).or(event.count).unwrap_or(1).into(),
    };
    Some((id, event))
}

fn named<K: Resource<DynamicType = ()>>(object: &K, kind: Kind) -> Holder {
    let mut holder = Holder::new(kind, object.name_any());
    holder.created = object.meta().creation_timestamp.as_ref().map(millis);
    holder
}

/// Everything that holds one certificate of a root.
fn leaf<K: Resource<DynamicType = ()> + CertificateHolder>(object: &K, kind: Kind) -> Holder {
    let mut holder = named(object, kind);
    let CertificateSpec { key_algorithm, dns_names, ip_addresses, uris, .. } = object.certificate_spec();
    holder.key_algorithm = Some(word(key_algorithm));
    holder.alt_names = [dns_names, ip_addresses, uris].into_iter().flatten().cloned().collect();
    let Some(HolderStatus { state, certificate, superseded, conditions: all, .. }) = object.holder_status()
    else {
        return holder;
    };
    conditions(&mut holder, all);
    holder.state = state.as_ref().map(word);
    holder.superseded = superseded.len();
    holder.certificates = certificate
        .iter()
        .map(|one| Certificate {
            serial_number: one.serial_number.clone(),
            fingerprint: one.fingerprint.clone(),
            not_before: millis(&one.not_before),
            not_after: millis(&one.not_after),
            issued_at: Some(signed_at(&one.not_before)),
            renewal_time: Some(millis(&one.renewal_time)),
            generation: one.root_generation.into(),
            generation_state: None,
            secret_name: Some(one.secret_name.clone()),
        })
        .collect();
    holder
}

fn conditions(holder: &mut Holder, conditions: &[KubeCondition]) {
    let of = |condition: &KubeCondition| Condition {
        type_: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        since: millis(&condition.last_transition_time),
    };
    holder.ready = conditions.iter().find(|condition| condition.type_ == READY).map(of);
    holder.troubles = conditions
        .iter()
        .filter(|condition| {
            [DEGRADED, RENEWAL_OVERDUE].contains(&condition.type_.as_str()) && condition.status == "True"
        })
        .map(of)
        .collect();
}

fn millis(time: &Time) -> i64 {
    time.0.as_millisecond()
}

fn moment(time: &MicroTime) -> i64 {
    time.0.as_millisecond()
}

/// What this project signs is valid from a while before, for those whose clock is behind.
fn signed_at(valid_from: &Time) -> i64 {
    pki::signed_at(valid_from.0).as_millisecond()
}

/// The word that stands in the manifest for this value: what `kubectl get` shows, too.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_device_shows_what_kubectl_shows() {
        let object: api::IotDevice = serde_json::from_value(json!({
            "apiVersion": "ca-iot.dev/v1alpha1",
            "kind": "IotDevice",
            "metadata": { "name": "device001", "creationTimestamp": "2026-11-24T00:00:00Z" },
            "spec": { "dnsNames": ["device001.example"], "thermometer": { "interval": "2s" } },
            "status": {
                "state": "Valid",
                "certificate": {
                    "serialNumber": "0a", "fingerprint": "ff",
                    "notBefore": "2026-11-24T00:00:00Z", "notAfter": "2027-02-22T00:00:00Z",
                    "renewalTime": "2027-01-20T00:00:00Z", "rootGeneration": 2, "secretName": "iotdevice-device001"
                },
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "Valid", "message": "valid",
                    "lastTransitionTime": "2026-11-24T00:00:01Z"
                }]
            }
        }))
        .unwrap();
        let holder = iot_device(&object);
        assert_eq!(holder.state.as_deref(), Some("Valid"));
        assert_eq!(holder.key_algorithm.as_deref(), Some("EcdsaP256"));
        assert_eq!(holder.certificates[0].generation, 2);
        assert_eq!(holder.certificates[0].issued_at, Some(holder.certificates[0].not_before + 5 * 60_000));
        assert_eq!(holder.ready.unwrap().status, "True");
        assert_eq!(holder.device.unwrap().interval, Some(std::time::Duration::from_secs(2)));
    }

    #[test]
    fn an_event_shows_what_kubectl_describe_shows() {
        let mut object: KubeEvent = serde_json::from_value(json!({
            "metadata": { "uid": "u", "creationTimestamp": "2026-11-24T00:00:00Z" },
            "involvedObject": { "kind": "IotDevice", "name": "device001" },
            "eventTime": "2026-11-24T00:00:01.500000Z",
            "type": "Warning", "reason": "IssueFailed", "message": "no root", "series": { "count": 3 }
        }))
        .unwrap();
        let (id, told) = event(&object).unwrap();
        assert_eq!(id, HolderId::new(Kind::IotDevice, "device001"));
        assert_eq!((told.warning, told.count, told.at % 60_000), (true, 3, 1_500));
        object.involved_object.kind = Some("Pod".into());
        assert_eq!(event(&object), None);
    }

    #[test]
    fn a_resource_without_status_is_shown_as_it_is() {
        let object: api::MqttBroker = serde_json::from_value(json!({
            "apiVersion": "ca-iot.dev/v1alpha1", "kind": "MqttBroker", "metadata": { "name": "mosquitto" }, "spec": {}
        }))
        .unwrap();
        let holder = mqtt_broker(&object);
        assert_eq!((holder.state, holder.ready, holder.certificates.len()), (None, None, 0));
    }
}
