//! Whether the pods of a workload run.

use api::conditions::{Reason, Verdict};
use k8s_openapi::api::core::v1::Pod;
use kube::{Resource, ResourceExt as _};

/// The first pod that is ready and stays.
pub fn ready(pods: &[Pod]) -> Option<&Pod> {
    pods.iter().find(|pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let ready = conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True");
        ready && pod.metadata.deletion_timestamp.is_none()
    })
}

/// What to say while there is none.
pub fn waiting<K: Resource<DynamicType = ()>>(owner: &K) -> Verdict {
    let (kind, name) = (K::kind(&()), owner.name_any());
    Verdict::no(
        Reason::WaitingForPods,
        format!(
            "its pod is not ready: see `kubectl describe pod -l ca-iot.dev/kind={kind},ca-iot.dev/name={name}`"
        ),
    )
}
