//! Resources as users write them.

use std::time::Duration;

use api::{
    CertificateSpec, Dashboard, DashboardSpec, DeletionPolicy, DeviceSubject, ImportFrom, IotDevice,
    IotDeviceSpec, MqttBroker, MqttBrokerSpec, RootCA, RootCASpec, RootSubject, Thermometer,
};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use pki::{KeyAlgorithm, RootProfile, SerialNumber, SigningRoot, Subject};

use super::NAMESPACE;

pub(crate) const HOUR: Duration = Duration::from_hours(1);
pub(crate) const DAY: Duration = Duration::from_hours(24);

pub(crate) fn root(name: &str) -> RootCA {
    let spec = RootCASpec {
        subject: RootSubject { common_name: "Plant".into(), attributes: DeviceSubject::default() },
        key_algorithm: pki::KeyAlgorithm::EcdsaP256,
        duration: (365 * DAY).into(),
        import_from: None,
        rotation: api::Rotation::default(),
        crl: api::Crl::default(),
        deletion_policy: DeletionPolicy::Retain,
    };
    here(RootCA::new(name, spec))
}

/// A root that adopts the CA in the Secret `from`.
pub(crate) fn imported_root(name: &str, from: &str) -> RootCA {
    let mut root = root(name);
    root.spec.import_from = Some(ImportFrom { secret_name: from.into() });
    root
}

/// A physical device with a certificate of 90 days.
pub(crate) fn device(name: &str) -> IotDevice {
    here(IotDevice::new(name, IotDeviceSpec::default()))
}

/// A device that asks for `certificate`.
pub(crate) fn device_with(name: &str, certificate: CertificateSpec) -> IotDevice {
    here(IotDevice::new(name, IotDeviceSpec { certificate, ..IotDeviceSpec::default() }))
}

pub(crate) fn thermometer(name: &str) -> IotDevice {
    let thermometer = Some(Thermometer::default());
    here(IotDevice::new(name, IotDeviceSpec { thermometer, ..IotDeviceSpec::default() }))
}

pub(crate) fn broker(name: &str) -> MqttBroker {
    here(MqttBroker::new(name, MqttBrokerSpec::default()))
}

pub(crate) fn dashboard(name: &str) -> Dashboard {
    here(Dashboard::new(name, DashboardSpec::default()))
}

/// A Secret as `kubectl create secret tls` makes it.
pub(crate) fn tls_secret(name: &str, certificate: &str, key: &str) -> Secret {
    let data = [("tls.crt", certificate), ("tls.key", key)];
    let data = data.map(|(key, text)| (key.to_owned(), ByteString(text.as_bytes().to_vec())));
    here(Secret {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        type_: Some("kubernetes.io/tls".into()),
        data: Some(data.into()),
        ..Secret::default()
    })
}

pub(crate) fn here<K: Resource>(mut object: K) -> K {
    object.meta_mut().namespace = Some(NAMESPACE.into());
    object
}

/// A CA as somebody else might make it, valid for a year from `now`.
pub(crate) fn corporate_ca(now: Timestamp) -> SigningRoot {
    let profile = RootProfile {
        subject: Subject { organization: Some("Corp".into()), ..Subject::new("Corporate CA").unwrap() },
        generation: 7,
        key_algorithm: KeyAlgorithm::EcdsaP384,
        duration: 365 * DAY,
    };
    SigningRoot::generate(&profile, SerialNumber::generate().unwrap(), now).unwrap()
}
