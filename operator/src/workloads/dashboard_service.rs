//! The Service of a dashboard: where browsers go.

use api::Dashboard;
use k8s_openapi::api::core::v1::Service;

use super::service;

/// The port of the pod that the Service leads to.
pub(super) const PORT_NAME: &str = "http";
/// The port of the Service unless the spec has another.
const DEFAULT_PORT: i32 = 80;

/// The Service of `dashboard`.
pub fn service(dashboard: &Dashboard) -> Service {
    service::service(dashboard, &dashboard.spec.service, PORT_NAME, DEFAULT_PORT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads::fixtures;

    #[test]
    fn a_dashboard_is_reached_as_its_spec_says() {
        insta::assert_yaml_snapshot!(service(&fixtures::dashboard()));
    }
}
