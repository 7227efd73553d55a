//! The names of everything that a resource becomes, and the labels and annotations on it.
//!
//! Names carry the kind, so that resources of two kinds never collide: `iotdevice-door`, `mqttbroker-door`.

use kube::Resource;

/// The value of `app.kubernetes.io/managed-by` on everything that the operator makes, and its field manager.
pub const MANAGER: &str = "ca-iot";
/// Label: who makes and owns this object.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label: what program runs in this workload.
pub const LABEL_APP: &str = "app.kubernetes.io/name";
/// Label: the resource that this object belongs to, by name.
pub const LABEL_INSTANCE: &str = "app.kubernetes.io/instance";
/// Label: the kind of the resource that this object belongs to.
pub const LABEL_KIND: &str = "ca-iot.dev/kind";
/// Label: the name of the resource that this object belongs to.
pub const LABEL_NAME: &str = "ca-iot.dev/name";

/// The selector of everything that the operator makes.
pub fn managed_selector() -> String {
    format!("{LABEL_MANAGED_BY}={MANAGER}")
}

/// The name of what `object` becomes: its kind in lower case, a hyphen and its name.
pub fn owned<K: Resource<DynamicType = ()>>(name: &str) -> String {
    format!("{}-{name}", K::kind(&()).to_lowercase())
}

/// The `ConfigMap` that holds the trust bundle of the root `root_ca`.
pub fn trust(root_ca: &str) -> String {
    format!("{root_ca}-trust")
}

/// The key of a trust bundle under which the trusted roots are, as PEM.
pub const TRUST_KEY: &str = "ca.crt";

/// The key of a trust bundle under which the CRL of a generation is, as DER.
pub fn crl(generation: u32) -> String {
    format!("g{generation}.crl")
}

/// The generation whose CRL is under this key of a trust bundle.
pub fn generation_of_crl(key: &str) -> Option<u32> {
    key.strip_prefix('g')?.strip_suffix(".crl")?.parse().ok()
}

/// The first, most complete DNS name of the broker `name`; the one that clients in the cluster connect to.
pub fn broker_host(name: &str, namespace: &str) -> String {
    format!("{}.{namespace}.svc.cluster.local", owned::<crate::MqttBroker>(name))
}
