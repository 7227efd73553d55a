//! Name, namespace, labels and owner: the same on everything that belongs to a custom resource.

use std::collections::BTreeMap;

use api::names::{self, LABEL_APP, LABEL_INSTANCE, LABEL_KIND, LABEL_MANAGED_BY, LABEL_NAME, MANAGER};
use api::{Dashboard, IotDevice, MqttBroker, RootCA};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::{Resource, ResourceExt};

/// A custom resource that has objects of its own.
pub trait Owner: Resource<DynamicType = ()> {
    /// The program that its objects are there for: the value of `app.kubernetes.io/name`.
    const PROGRAM: &'static str;
}

/// The metadata of an object that belongs to `owner`, under the name that [`names::owned`] gives it. It is deleted with
/// its owner.
pub fn metadata<K: Owner>(owner: &K) -> ObjectMeta {
    ObjectMeta {
        name: Some(names::owned::<K>(&owner.name_any())),
        namespace: owner.namespace(),
        labels: Some(labels(owner)),
        owner_references: owner.controller_owner_ref(&()).map(|reference| vec![reference]),
        ..ObjectMeta::default()
    }
}

/// All labels of an object that belongs to `owner`.
pub fn labels<K: Owner>(owner: &K) -> BTreeMap<String, String> {
    let name = owner.name_any();
    let kind = K::kind(&());
    let mut labels = identity(owner);
    labels.extend(pairs([(LABEL_MANAGED_BY, MANAGER), (LABEL_KIND, &kind), (LABEL_NAME, &name)]));
    labels
}

/// Selects the pods of `owner`. A Deployment's selector cannot be changed later: the least that tells pods apart.
pub fn selector<K: Owner>(owner: &K) -> LabelSelector {
    LabelSelector { match_labels: Some(identity(owner)), ..LabelSelector::default() }
}

pub(super) fn identity<K: Owner>(owner: &K) -> BTreeMap<String, String> {
    pairs([(LABEL_APP, K::PROGRAM), (LABEL_INSTANCE, &owner.name_any())]).collect()
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> impl Iterator<Item = (String, String)> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter()
}

// === impl Owner ===

impl Owner for RootCA {
    const PROGRAM: &'static str = "operator";
}

impl Owner for IotDevice {
    const PROGRAM: &'static str = "thermometer";
}

impl Owner for MqttBroker {
    const PROGRAM: &'static str = "mqttbroker";
}

impl Owner for Dashboard {
    const PROGRAM: &'static str = "dashboard";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads::fixtures;

    #[test]
    fn everything_tells_whose_it_is() {
        insta::assert_yaml_snapshot!(metadata(&fixtures::device()));
    }

    #[test]
    fn pods_of_one_resource_are_not_selected_for_another_of_the_same_name() {
        let device = IotDevice::new("door", api::IotDeviceSpec::default());
        let broker = MqttBroker::new("door", api::MqttBrokerSpec::default());
        assert_ne!(selector(&device), selector(&broker));
    }
}
