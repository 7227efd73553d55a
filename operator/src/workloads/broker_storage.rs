//! The `PersistentVolumeClaim` of a broker: sessions, queued and retained messages.

use api::{MqttBroker, Storage};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};

use super::metadata::metadata;

/// The claim of `broker`; `None` when it asks for none. Of a claim that exists only the size can be changed, and only
/// upwards: the API server refuses the rest.
pub fn claim(broker: &MqttBroker) -> Option<PersistentVolumeClaim> {
    let Storage { size, storage_class_name } = broker.spec.storage.clone()?;
    Some(PersistentVolumeClaim {
        metadata: metadata(broker),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".into(), size)].into()),
                limits: None,
            }),
            storage_class_name,
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads::fixtures;

    #[test]
    fn a_broker_with_storage_claims_a_volume() {
        insta::assert_yaml_snapshot!(claim(&fixtures::broker()));
    }

    #[test]
    fn a_broker_without_storage_claims_none() {
        let mut broker = fixtures::broker();
        broker.spec.storage = None;
        assert_eq!(claim(&broker), None);
    }
}
