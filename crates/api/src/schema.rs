//! Schema fragments that `schemars` cannot derive, with the limits that the API server checks.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A Go duration of at least a millisecond's resolution: `2160h`, `90s`, `1h30m`.
pub(crate) fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "maxLength": 32, "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"})
}

/// The same, left out when the default is to be computed.
pub(crate) fn optional_duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "nullable": true, "maxLength": 32, "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"})
}

/// `metav1.Condition`s as a list map by type, so that server-side apply merges them one by one.
pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let item = generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>();
    json_schema!({
        "type": "array",
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"]
    })
}

/// DNS names of a certificate: checked in full by the operator, bounded here.
pub(crate) fn dns_names(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 100, "x-kubernetes-list-type": "set",
        "items": {
            "type": "string", "minLength": 1, "maxLength": 253,
            "pattern": r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$"
        }
    })
}

/// IP addresses of a certificate, without a mask.
pub(crate) fn ip_addresses(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 100, "x-kubernetes-list-type": "set",
        "items": {
            "type": "string", "minLength": 2, "maxLength": 45,
            "x-kubernetes-validations": [{
                "rule": "isIP(self)",
                "message": "write one IPv4 or IPv6 address without a mask, such as 192.0.2.7 or 2001:db8::7"
            }]
        }
    })
}

/// URIs of a certificate.
pub(crate) fn uris(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 100, "x-kubernetes-list-type": "set",
        "items": { "type": "string", "minLength": 3, "maxLength": 1024, "pattern": r"^[A-Za-z][A-Za-z0-9+.-]*:[!-~]+$" }
    })
}

/// How Kubernetes writes quantities: `500m`, `64Mi`, `1.5`.
const QUANTITY: &str = r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$";

/// A quantity, not negative.
pub(crate) fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 64, "pattern": QUANTITY})
}

/// Quantities by resource.
pub(crate) fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": QUANTITY}
    })
}

/// A TCP port; absent: a default, or the cluster's choice.
pub(crate) fn optional_port(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "format": "int32", "nullable": true, "minimum": 1, "maximum": 65535})
}

/// Free text that starts something whenever it changes.
pub(crate) fn trigger(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "nullable": true, "minLength": 1, "maxLength": 253})
}

/// An image reference; absent: the operator's own.
pub(crate) fn image(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "nullable": true, "minLength": 1, "maxLength": 1024})
}

/// MQTT topic filters (MQTT 5.0, 4.7.1): `+` stands for a whole level, `#` only at the end. Mosquitto's ACL file trims
/// spaces, so there are none.
pub(crate) fn topic_filters(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 100,
        "items": {
            "type": "string", "minLength": 1, "maxLength": 1024,
            "pattern": r#"^(#|(\+|[!"$-*,-.0-~]*)(/(\+|[!"$-*,-.0-~]*))*(/#)?)$"#
        }
    })
}
