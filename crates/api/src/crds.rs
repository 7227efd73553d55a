//! The custom resource definitions: derived from the types, with the rules across fields and the columns of `kubectl get`.
//!
//! Both stand here and not beside the fields because three kinds share the fields of a certificate.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, JSONSchemaProps, ValidationRule,
};
use kube::CustomResourceExt;

use crate::{Dashboard, IotDevice, MqttBroker, RootCA};

/// A CEL rule and what to write instead of what breaks it.
type Rule = (&'static str, &'static str);

/// What holds for the certificate of a device, a broker and a dashboard.
const CERTIFICATE: &[Rule] = &[
    (
        "duration(self.duration) >= duration('1m')",
        "spec.duration must be at least 1m; write a Go duration such as 2160h",
    ),
    (
        "!has(self.renewBefore) || duration(self.renewBefore) < duration(self.duration)",
        "spec.renewBefore must be shorter than spec.duration; leave it out for a third of it",
    ),
    (
        "!has(self.renewBefore) || duration(self.renewBefore) >= duration('10s')",
        "spec.renewBefore must be at least 10s; leave it out for a third of spec.duration",
    ),
    (
        "has(self.secretName) == has(oldSelf.secretName) && (!has(self.secretName) || self.secretName == oldSelf.secretName)",
        "spec.secretName cannot be changed; delete the object and create it anew",
    ),
];

const ROOT_CA: &[Rule] = &[
    (
        "duration(self.duration) >= duration('1h')",
        "spec.duration must be at least 1h; write a Go duration such as 87600h for ten years",
    ),
    (
        "duration(self.crl.validFor) >= duration('2m')",
        "spec.crl.validFor must be at least 2m; write a Go duration such as 168h",
    ),
    (
        "!has(self.rotation) || !has(self.rotation.beforeExpiry) || (duration(self.rotation.beforeExpiry) > duration('0s') && duration(self.rotation.beforeExpiry) < duration(self.duration))",
        "spec.rotation.beforeExpiry must be longer than 0s and shorter than spec.duration; leave it out for half of it",
    ),
    (
        "!has(self.rotation) || !has(self.rotation.acknowledgeWithin) || (duration(self.rotation.acknowledgeWithin) > duration('0s') && duration(self.rotation.acknowledgeWithin) <= duration('87600h'))",
        "spec.rotation.acknowledgeWithin must be longer than 0s and at most 87600h; leave it out for 168h",
    ),
];

const IOT_DEVICE: &[Rule] = &[
    (
        "!has(self.thermometer) || (duration(self.thermometer.interval) >= duration('100ms') && duration(self.thermometer.interval) <= duration('1h'))",
        "spec.thermometer.interval must be from 100ms to 1h",
    ),
    (
        "!has(self.csr) || !has(self.thermometer)",
        "spec.csr is for devices that keep their key, and a simulated thermometer has no key of its own: leave one of the two out",
    ),
    (
        "!has(self.revoked) || self.revoked.reason != 'certificateHold'",
        "spec.revoked is for good: for a hold that can be taken back write spec.suspended: true",
    ),
];

/// The longest name that fits: a device's name is a common name of one DNS label (RFC 1123), the others' stand in front
/// of `.broker` and `.dashboard` in a common name and behind the kind in the name of a Service (RFC 1035).
const DEVICE_NAME: Rule = (
    "size(self.metadata.name) <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
    "metadata.name becomes the certificate's common name: at most 63 lower-case letters, digits and hyphens, no dots",
);
const WORKLOAD_NAME: Rule = (
    "size(self.metadata.name) <= 50 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
    "metadata.name becomes the name of a Service: at most 50 lower-case letters, digits and hyphens, no dots",
);

/// A column of `kubectl get`: its name, its type, where it is found.
type Column = (&'static str, &'static str, &'static str);

const READY: Column = ("Ready", "string", r#".status.conditions[?(@.type=="Ready")].status"#);
const REASON: Column = ("Reason", "string", r#".status.conditions[?(@.type=="Ready")].message"#);
const AGE: Column = ("Age", "date", ".metadata.creationTimestamp");
const STATE: Column = ("State", "string", ".status.state");
const ENDPOINT: Column = ("Endpoint", "string", ".status.endpoint");
// Strings, not dates: kubectl shows a date as an age, and one that is to come as <invalid>.
const EXPIRES: Column = ("Expires", "string", ".status.certificate.notAfter");
const RENEWS: Column = ("Renews", "string", ".status.certificate.renewalTime");
const ROOT_GENERATION: Column = ("Root-Gen", "integer", ".status.certificate.rootGeneration");
const SERIAL: Column = ("Serial", "string", ".status.certificate.serialNumber");
const SECRET: Column = ("Secret", "string", ".status.certificate.secretName");
const LOADED: Column = ("Loaded", "string", ".status.loaded.serialNumber");

const HOLDER_COLUMNS: &[Column] = &[READY, STATE, EXPIRES, RENEWS, ROOT_GENERATION, AGE];
const HOLDER_WIDE: &[Column] = &[SERIAL, SECRET, REASON];
const BROKER_COLUMNS: &[Column] = &[READY, STATE, ENDPOINT, EXPIRES, RENEWS, ROOT_GENERATION, AGE];
const BROKER_WIDE: &[Column] = &[SERIAL, LOADED, REASON];
const ROOT_COLUMNS: &[Column] = &[
    READY,
    ("Subject", "string", ".status.subject"),
    ("Generation", "integer", ".status.activeGeneration"),
    ("Phase", "string", ".status.rotation.phase"),
    ("Devices", "integer", ".status.devices"),
    ("Expires", "string", r#".status.generations[?(@.state=="Active")].notAfter"#),
    AGE,
];
const ROOT_WIDE: &[Column] = &[REASON];

/// All four definitions, in the order in which they are told.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![
        complete(RootCA::crd(), &[ROOT_CA], WORKLOAD_NAME, ROOT_COLUMNS, ROOT_WIDE),
        complete(IotDevice::crd(), &[CERTIFICATE, IOT_DEVICE], DEVICE_NAME, HOLDER_COLUMNS, HOLDER_WIDE),
        complete(MqttBroker::crd(), &[CERTIFICATE], WORKLOAD_NAME, BROKER_COLUMNS, BROKER_WIDE),
        complete(Dashboard::crd(), &[CERTIFICATE], WORKLOAD_NAME, HOLDER_COLUMNS, HOLDER_WIDE),
    ]
}

/// All four definitions as a stream of YAML documents.
pub fn to_yaml() -> Result<String, serde_saphyr::ser::Error> {
    let mut out = String::from("# Made by `cargo xtask crds` from the types in crates/api.\n");
    for crd in all() {
        out.push_str("---\n");
        out.push_str(&serde_saphyr::to_string(&crd)?);
    }
    Ok(out)
}

fn complete(
    mut crd: CustomResourceDefinition,
    spec: &[&[Rule]],
    name: Rule,
    columns: &[Column],
    wide: &[Column],
) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let narrow = columns.iter().map(|column| printer_column(*column, None));
        let wide = wide.iter().map(|column| printer_column(*column, Some(1)));
        version.additional_printer_columns = Some(narrow.chain(wide).collect());
        let Some(root) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) else {
            continue;
        };
        add(root, &[name]);
        if let Some(schema) = root.properties.as_mut().and_then(|p| p.get_mut("spec")) {
            for rules in spec {
                add(schema, rules);
            }
        }
    }
    crd
}

/// A column with a priority is shown by `kubectl get --output wide` only.
fn printer_column((name, type_, json_path): Column, priority: Option<i32>) -> CustomResourceColumnDefinition {
    CustomResourceColumnDefinition {
        name: name.to_owned(),
        type_: type_.to_owned(),
        json_path: json_path.to_owned(),
        priority,
        ..CustomResourceColumnDefinition::default()
    }
}

fn add(schema: &mut JSONSchemaProps, rules: &[Rule]) {
    let rules = rules.iter().map(|(rule, message)| ValidationRule {
        rule: (*rule).to_owned(),
        message: Some((*message).to_owned()),
        ..ValidationRule::default()
    });
    schema.x_kubernetes_validations.get_or_insert_default().extend(rules);
}

#[cfg(test)]
mod tests {
    use kube::core::cel::Validator;
    use serde_json::{Value, json};

    use super::*;

    /// What the API server would say to an object of `kind` with this name and spec, first created as `old`.
    fn judge(kind: &str, name: &str, old: Option<&Value>, spec: &Value) -> Result<(), String> {
        let crd = all().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
        let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        let schema = serde_json::to_value(schema).unwrap();
        let object = |spec: &Value| json!({"apiVersion": "ca-iot.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        Validator::new()
            .validate(&schema, &object(spec), old.map(object).as_ref())
            .map_err(|errors| errors.to_string())
    }

    #[test]
    fn what_breaks_a_rule_is_refused_with_what_to_write() {
        let device = json!({"duration": "2160h"});
        for (kind, name, old, spec, words) in [
            ("IotDevice", "d", None, json!({"duration": "30s"}), "spec.duration must be at least 1m"),
            (
                "IotDevice",
                "d",
                None,
                json!({"duration": "1h", "renewBefore": "1h"}),
                "shorter than spec.duration",
            ),
            (
                "IotDevice",
                "d",
                None,
                json!({"duration": "1h", "renewBefore": "1s"}),
                "spec.renewBefore must be at least",
            ),
            (
                "IotDevice",
                "d",
                None,
                json!({"duration": "1h", "csr": "x", "thermometer": {"interval": "5s"}}),
                "leave one of the two out",
            ),
            (
                "IotDevice",
                "d",
                None,
                json!({"duration": "1h", "revoked": {"reason": "certificateHold"}}),
                "write spec.suspended: true",
            ),
            (
                "IotDevice",
                "d",
                None,
                json!({"duration": "1h", "thermometer": {"interval": "50ms"}}),
                "from 100ms to 1h",
            ),
            ("IotDevice", "a.b", None, device.clone(), "metadata.name becomes the certificate's common name"),
            (
                "IotDevice",
                "d",
                Some(json!({"duration": "1h", "secretName": "a"})),
                json!({"duration": "1h", "secretName": "b"}),
                "spec.secretName cannot be changed",
            ),
            ("MqttBroker", "d", None, json!({"duration": "30s"}), "spec.duration must be at least 1m"),
            ("Dashboard", &"d".repeat(51), None, json!({"duration": "1h"}), "at most 50"),
            (
                "RootCA",
                "r",
                None,
                json!({"duration": "1m", "crl": {"validFor": "1h"}, "keyAlgorithm": "EcdsaP256"}),
                "spec.duration must be at least 1h",
            ),
            (
                "RootCA",
                "r",
                None,
                json!({"duration": "1h", "crl": {"validFor": "1m"}, "keyAlgorithm": "EcdsaP256"}),
                "spec.crl.validFor must be at least 2m",
            ),
            (
                "RootCA",
                "r",
                None,
                json!({"duration": "1h", "crl": {"validFor": "1h"}, "keyAlgorithm": "EcdsaP256", "rotation": {"beforeExpiry": "1h"}}),
                "spec.rotation.beforeExpiry must be",
            ),
        ] {
            let answer = judge(kind, name, old.as_ref(), &spec).unwrap_err();
            assert!(answer.contains(words), "{kind} {spec}: {answer}");
        }
        judge("IotDevice", "device001", None, &device).unwrap();
        judge(
            "IotDevice",
            "d",
            None,
            &json!({"duration": "1h", "renewBefore": "59m", "thermometer": {"interval": "100ms"}}),
        )
        .unwrap();
    }

    #[test]
    fn the_chart_carries_the_same_definitions() {
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/ca-iot/crds/ca-iot.dev.yaml");
        let chart = std::fs::read_to_string(chart).expect("run `cargo xtask crds`");
        assert!(chart == to_yaml().unwrap(), "the chart's CRDs are out of date: run `cargo xtask crds`");
    }

    #[test]
    fn every_kind_is_in_the_category_iot_and_shows_whether_it_is_ready() {
        for crd in all() {
            assert_eq!(crd.spec.names.categories, Some(vec!["iot".to_owned()]));
            let columns = crd.spec.versions[0].additional_printer_columns.as_ref().unwrap();
            assert_eq!(columns[0].name, "Ready");
        }
    }
}
