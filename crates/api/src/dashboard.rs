//! `Dashboard`: a web page that shows the fleet and all certificates, live.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CertificateHolder, CertificateSpec, HolderStatus, LocalRef, Resources, Service, schema};

/// A web page that shows the fleet and every certificate of the namespace, live.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "ca-iot.dev",
    version = "v1alpha1",
    kind = "Dashboard",
    plural = "dashboards",
    singular = "dashboard",
    shortname = "dash",
    category = "iot",
    namespaced,
    status = "HolderStatus",
    derive = "PartialEq",
    doc = "A web page that shows the fleet and every certificate of the namespace, live."
)]
#[serde(rename_all = "camelCase")]
pub struct DashboardSpec {
    /// The client certificate that it reads messages with.
    #[serde(flatten)]
    pub certificate: CertificateSpec,
    /// The broker whose messages it shows; absent: the only one in the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker_ref: Option<LocalRef>,
    /// The dashboard's image; absent: the operator's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::image")]
    pub image: Option<String>,
    /// What it may use.
    #[serde(default)]
    pub resources: Resources,
    /// How it is reached.
    #[serde(default)]
    pub service: Service,
}

// === impl Dashboard ===

impl CertificateHolder for Dashboard {
    fn certificate_spec(&self) -> &CertificateSpec {
        &self.spec.certificate
    }

    fn holder_status(&self) -> Option<&HolderStatus> {
        self.status.as_ref()
    }
}
