//! What is kept of a site whose test has failed. Secrets are not.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Result;
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::{Api, Client, ResourceExt as _, api::ListParams};

use crate::program;

/// What is asked for, and the file that it goes to.
const KEPT: [(&str, &[&str]); 4] = [
    ("events.txt", &["get", "events", "--sort-by=.metadata.creationTimestamp"]),
    ("resources.txt", &["get", "iot,pods,services,secrets,configmaps,deployments", "--output=wide"]),
    ("resources.yaml", &["get", "iot,pods,services,deployments", "--output=yaml"]),
    ("describe.txt", &["describe", "iot,pods"]),
];

/// Writes events, resources and logs of `namespace` into `folder`.
pub(crate) async fn collect(namespace: &str, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let kubectl = || program("kubectl").args(["--namespace", namespace]);
    for (file, arguments) in KEPT {
        let ended = kubectl().args(arguments).run().await?;
        fs::write(folder.join(file), ended.stdout + &ended.stderr)?;
    }
    let pods = kubectl().args(["get", "pods", "--output=name"]).run().await?.stdout;
    for pod in pods.lines() {
        for (suffix, previous) in [("", "--previous=false"), (".previous", "--previous")] {
            let logs = kubectl().args(["logs", pod, "--all-containers", "--prefix", previous]).run().await?;
            if !logs.stdout.is_empty() {
                let name = pod.trim_start_matches("pod/");
                fs::write(folder.join(format!("{name}{suffix}.log")), logs.stdout)?;
            }
        }
    }
    Ok(())
}

/// What stands in the way of the pods of `namespace`, a line each: it is what most failures come from, and has to be seen
/// where files are not.
pub(crate) async fn pods_in_trouble(client: &Client, namespace: &str) -> Result<String> {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace).list(&ListParams::default()).await?;
    let mut trouble = String::new();
    for pod in &pods {
        let status = pod.status.clone().unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        if containers.is_empty() {
            let conditions = status.conditions.unwrap_or_default();
            let why = conditions.iter().find_map(|condition| condition.message.clone());
            let phase = status.phase.unwrap_or_default();
            writeln!(trouble, "  {}: {phase}: {}", pod.name_any(), why.unwrap_or_default())?;
        }
        for container in containers.into_iter().filter(|container| !container.ready) {
            let states = [container.state, container.last_state].map(|state| told(state.unwrap_or_default()));
            let name = pod.name_any();
            writeln!(trouble, "  {name}/{}: not ready, {}", container.name, states.concat())?;
            let last = program("kubectl").args(["--namespace", namespace, "logs", &name, "--tail=3"]);
            let last = last.args(["--container", &container.name]).run().await?;
            for line in last.stdout.lines().chain(last.stderr.lines()) {
                writeln!(trouble, "    {line}")?;
            }
        }
    }
    Ok(trouble)
}

fn told(state: ContainerState) -> String {
    let mut text = Vec::new();
    if let Some(waiting) = state.waiting {
        let message = waiting.message.unwrap_or_default();
        text.push(format!("waits: {} {message}; ", waiting.reason.unwrap_or_default()));
    }
    if let Some(ended) = state.terminated {
        let message = ended.message.unwrap_or_default();
        text.push(format!(
            "ended with {}: {} {message}; ",
            ended.exit_code,
            ended.reason.unwrap_or_default()
        ));
    }
    if let Some(running) = state.running {
        text.push(format!("runs since {:?}; ", running.started_at.map(|time| time.0)));
    }
    text.concat()
}
