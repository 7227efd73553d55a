//! The operator as it runs: which pod leads, and what it tells of itself.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::api::{Api, ListParams};

use crate::{Site, patience, program, site::PATIENCE};

/// Selects the operator's pods.
pub const OPERATOR: &str = "app.kubernetes.io/name=operator";

/// What a process costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Processor time since it started, in seconds.
    pub cpu: f64,
    /// Memory in use, in MiB.
    pub memory: f64,
    /// The most that ever was, in MiB.
    pub most_memory: f64,
}

/// The name of the pod that leads; none while nobody does.
pub async fn leader(site: &Site) -> Result<Option<String>> {
    let lease = site.api::<Lease>().get_opt("ca-iot-operator").await?;
    let holder = lease.and_then(|lease| lease.spec?.holder_identity);
    Ok(holder.filter(|holder| !holder.is_empty()))
}

/// Waits for a pod that leads and exists.
pub async fn wait_for_leader(site: &Site) -> Result<String> {
    patience::eventually("an operator leads", PATIENCE, async || {
        let Some(leader) = leader(site).await? else { return Ok(None) };
        Ok(site.api::<Pod>().get_opt(&leader).await?.map(|_| leader))
    })
    .await
}

/// The operator's pods.
pub async fn pods(site: &Site) -> Result<Vec<Pod>> {
    Ok(site.api::<Pod>().list(&ListParams::default().labels(OPERATOR)).await?.items)
}

/// Has this many operators run, and waits until they are there, and others gone.
pub async fn scale(site: &Site, replicas: usize) -> Result<()> {
    let replicas = replicas.to_string();
    site.kubectl(&["scale", "deployment/ca-iot-operator", "--replicas", &replicas]).await?;
    patience::eventually(format_args!("{replicas} operators"), PATIENCE, async || {
        let pods = pods(site).await?;
        let ready = pods.iter().filter(|pod| is_ready(pod)).count().to_string();
        Ok((ready == replicas && pods.len().to_string() == replicas).then_some(()))
    })
    .await
}

/// The operator's process in a pod, as the node knows it. The node has to be a container of this machine's engine, as
/// kind's are.
#[derive(Debug)]
pub struct Process {
    node: String,
    container: String,
}

/// The process in `pod`. It may lead before the node has told Kubernetes that it runs.
pub async fn process(site: &Site, pod: &str) -> Result<Process> {
    patience::eventually(format_args!("the node tells of the container in {pod}"), PATIENCE, async || {
        let pod = site.api::<Pod>().get(pod).await?;
        let node = pod.spec.and_then(|spec| spec.node_name);
        let status = pod.status.and_then(|status| status.container_statuses?.into_iter().next());
        let running =
            status.filter(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()));
        let id = running.and_then(|status| status.container_id);
        let container = id.and_then(|id| Some(id.strip_prefix("containerd://")?.to_owned()));
        Ok(node.zip(container).map(|(node, container)| Process { node, container }))
    })
    .await
}

/// Sends `signal`, such as `SIGKILL`, to the operator in `pod`.
pub async fn signal(site: &Site, pod: &str, signal: &str) -> Result<()> {
    process(site, pod).await?.signal(signal).await
}

impl Process {
    /// Sends `signal`, such as `SIGKILL`: at once, without a word to Kubernetes, which a pod that is deleted by force still is
    /// given time for.
    pub async fn signal(&self, signal: &str) -> Result<()> {
        let Self { node, container } = self;
        let tasks =
            ["exec", node, "ctr", "--namespace", "k8s.io", "tasks", "kill", "--signal", signal, container];
        program("docker").args(tasks).succeeds().await?;
        Ok(())
    }
}

/// Whether Kubernetes says that the pod, of whatever program, is ready.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// What `pod` answers to a request for `path`; by way of the API server.
pub async fn ask(site: &Site, pod: &str, path: &str) -> Result<String> {
    let url = format!("/api/v1/namespaces/{}/pods/{pod}:8080/proxy/{path}", site.namespace);
    let pods: Api<Pod> = site.api();
    Ok(pods.into_client().request_text(http::Request::get(url).body(Vec::new())?).await?)
}

/// What the operator in `pod` costs.
pub async fn cost(site: &Site, pod: &str) -> Result<Cost> {
    const MEBIBYTE: f64 = 1024.0 * 1024.0;
    let text = ask(site, pod, "metrics").await?;
    let value = |name: &str| -> Result<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("the operator tells no {name}"))?.parse()?)
    };
    Ok(Cost {
        cpu: value("process_cpu_seconds_total")?,
        memory: value("process_resident_memory_bytes")? / MEBIBYTE,
        most_memory: value("process_resident_memory_max_bytes")? / MEBIBYTE,
    })
}

/// Waits until the operator in `pod` says that it is ready.
pub async fn wait_until_ready(site: &Site, pod: &str, within: Duration) -> Result<()> {
    patience::eventually(format_args!("{pod} is ready"), within, async || {
        Ok(ask(site, pod, "readyz").await.is_ok().then_some(()))
    })
    .await
}
