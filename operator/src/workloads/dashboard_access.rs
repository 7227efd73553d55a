//! What a dashboard may read from the API server: the four kinds of its namespace, what happened to them, and no Secret.

use api::{Dashboard, RootCA, names};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::{Resource, ResourceExt as _};

use super::metadata::metadata;

/// The account of `dashboard`. Only pods that say so get its token.
pub fn service_account(dashboard: &Dashboard) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(dashboard),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// The right to read the four kinds and the events of the namespace.
pub fn role(dashboard: &Dashboard) -> Role {
    let kinds = ["rootcas", "iotdevices", "mqttbrokers", "dashboards"];
    let read = |group: &str, resources: &[&str]| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources.iter().copied().map(str::to_owned).collect()),
        verbs: ["get", "list", "watch"].map(str::to_owned).into(),
        ..PolicyRule::default()
    };
    Role {
        metadata: metadata(dashboard),
        rules: Some(vec![read(&RootCA::group(&()), &kinds), read("", &["events"])]),
    }
}

/// Gives the [`role`] to the [`service_account`].
pub fn role_binding(dashboard: &Dashboard) -> RoleBinding {
    let name = names::owned::<Dashboard>(&dashboard.name_any());
    RoleBinding {
        metadata: metadata(dashboard),
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".into()),
            kind: "Role".into(),
            name: name.clone(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".into(),
            name,
            namespace: dashboard.namespace(),
            ..Subject::default()
        }]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads::fixtures;

    #[test]
    fn a_dashboard_may_read_the_four_kinds_and_their_events_and_nothing_else() {
        let dashboard = fixtures::dashboard();
        insta::assert_yaml_snapshot!((
            service_account(&dashboard),
            role(&dashboard),
            role_binding(&dashboard)
        ));
    }
}
