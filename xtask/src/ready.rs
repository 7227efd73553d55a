//! Waiting until what is wanted is true: every object Ready, every pod running the images of this build.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    cluster::Cluster,
    images::Image,
    progress::{detail, say},
};

/// How long everything may take together: a node's first start of seven pods on two busy cores.
const TIMEOUT: Duration = Duration::from_mins(5);

/// How long nothing may be said about what is still awaited, and how often the same is said again.
const REMINDER: Duration = Duration::from_secs(15);
const REPETITION: Duration = Duration::from_mins(1);

/// What is asked for: our kinds, and the Deployments made for them.
const KINDS: &str =
    "rootcas.ca-iot.dev,mqttbrokers.ca-iot.dev,dashboards.ca-iot.dev,iotdevices.ca-iot.dev,deployments.apps";

/// Why containers wait in the ordinary course of things.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Why an object is not what it should be yet, by `kind/name`; `None` when it is.
type States = BTreeMap<String, Option<String>>;

/// Waits until nothing is pending, and tells what becomes ready and what is awaited.
///
/// # Errors
/// When something is still pending after [`TIMEOUT`]; the error names it and says where to look.
pub(crate) fn wait(cluster: &Cluster<'_>, images: &[Image]) -> Result<()> {
    let from = Instant::now();
    let (mut told, mut last_told) = (Instant::now(), Vec::new());
    let mut ready = BTreeSet::new();
    loop {
        let answer = cluster.kubectl().args(["get", KINDS, "--output", "json"]).output()?;
        let states = states(&serde_json::from_str(&answer).context("kubectl's answer is not JSON")?, images);
        for (object, pending) in &states {
            if pending.is_none() && !object.starts_with("deployment/") && ready.insert(object.clone()) {
                say(format_args!("{object}: Ready"));
            }
        }
        let pending: Vec<_> =
            states.iter().filter_map(|(object, why)| Some(format!("{object}: {}", why.as_ref()?))).collect();
        if pending.is_empty() {
            return Ok(());
        }
        if from.elapsed() > TIMEOUT {
            bail!(
                "not ready after {} s:\n  {}\nLook at `kubectl describe` of it, and at `kubectl logs deployment/ca-iot-operator`.",
                TIMEOUT.as_secs(),
                pending.join("\n  ")
            );
        }
        if told.elapsed() > if pending == last_told { REPETITION } else { REMINDER } {
            say("waiting for");
            detail(&pending.join("\n"));
            (told, last_told) = (Instant::now(), pending);
        }
        thread::sleep(Duration::from_millis(500));
    }
}

/// The state of each object in `list`, and of each Deployment that one of them calls for.
fn states(list: &Value, images: &[Image]) -> States {
    let mut states = States::new();
    let mut wanted = Vec::new();
    let items = || list["items"].as_array().into_iter().flatten();
    for object in items() {
        let kind = object["kind"].as_str().unwrap_or_default();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if kind == "Pod" {
            continue;
        }
        if kind == "Deployment" {
            if is_ours(object, images) {
                let awaited = awaited_of_deployment(object, images).map(|awaited| {
                    let trouble: Vec<_> =
                        items().filter(|pod| belongs_to(pod, object)).filter_map(trouble).collect();
                    if trouble.is_empty() { awaited } else { format!("{awaited} ({})", trouble.join("; ")) }
                });
                states.insert(format!("deployment/{name}"), awaited);
            }
            continue;
        }
        let spec = &object["spec"];
        if spec["suspended"] == true || !spec["revoked"].is_null() {
            continue; // somebody wants it not to be ready
        }
        let kind = kind.to_lowercase();
        if matches!(&*kind, "mqttbroker" | "dashboard") || !spec["thermometer"].is_null() {
            wanted.push(format!("deployment/{kind}-{name}"));
        }
        states.insert(format!("{kind}/{name}"), awaited_of_resource(object));
    }
    for deployment in wanted {
        states.entry(deployment).or_insert_with(|| Some("not there yet".to_owned()));
    }
    states
}

/// What a custom resource's condition Ready says, when that is not True of its present generation.
fn awaited_of_resource(object: &Value) -> Option<String> {
    let status = &object["status"];
    let conditions = status["conditions"].as_array();
    let Some(ready) = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready") else {
        return Some("the operator has not seen it yet".to_owned());
    };
    let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
    if ready["status"] != "True" {
        return Some(format!("{}: {}", text("reason"), text("message")));
    }
    let seen = ready["observedGeneration"].as_i64().or_else(|| status["observedGeneration"].as_i64());
    let generation = object["metadata"]["generation"].as_i64();
    (seen.is_some() && seen < generation).then(|| "changed since the operator last saw it".to_owned())
}

/// What is missing until all pods of a Deployment run what it says, and that is what was built here.
fn awaited_of_deployment(deployment: &Value, images: &[Image]) -> Option<String> {
    if let Some(outdated) =
        containers(deployment).find(|image| images.iter().any(|ours| ours.is_another_tag_of(image)))
    {
        return Some(format!("still has {outdated}"));
    }
    let (status, generation) = (&deployment["status"], deployment["metadata"]["generation"].as_i64());
    let wanted = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    if status["observedGeneration"].as_i64() < generation || count("updatedReplicas") < wanted {
        return Some("new pods are being made".to_owned());
    }
    if count("availableReplicas") < wanted {
        return Some(format!("{} of {wanted} pods available", count("availableReplicas")));
    }
    (count("replicas") > wanted).then(|| "old pods are ending".to_owned())
}

fn is_ours(deployment: &Value, images: &[Image]) -> bool {
    let labels = &deployment["metadata"]["labels"];
    labels["app.kubernetes.io/managed-by"] == "ca-iot"
        || containers(deployment).any(|image| images.iter().any(|ours| ours.is_repository_of(image)))
}

/// Whether the selector of a Deployment picks a pod.
fn belongs_to(pod: &Value, deployment: &Value) -> bool {
    let wanted = deployment["spec"]["selector"]["matchLabels"].as_object();
    pod["kind"] == "Pod"
        && wanted.is_some_and(|labels| {
            labels.iter().all(|(name, value)| pod["metadata"]["labels"][name] == *value)
        })
}

/// Why the first of a pod's containers that is held up does not run: `CrashLoopBackOff: back-off 40s …`.
fn trouble(pod: &Value) -> Option<String> {
    let waiting = ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .flat_map(|field| pod["status"][field].as_array().into_iter().flatten())
        .map(|container| &container["state"]["waiting"])
        .find(|waiting| waiting["reason"].as_str().is_some_and(|reason| !STARTING.contains(&reason)))?;
    let text = |field: &str| waiting[field].as_str().unwrap_or_default();
    Some(format!("{}: {}", text("reason"), text("message")))
}

/// The images of all containers in a Deployment's template.
fn containers(deployment: &Value) -> impl Iterator<Item = &str> {
    let pod = &deployment["spec"]["template"]["spec"];
    ["initContainers", "containers"]
        .into_iter()
        .flat_map(|field| pod[field].as_array().into_iter().flatten())
        .filter_map(|container| container["image"].as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn device(generation: i64, ready: &str) -> Value {
        json!({
            "kind": "IotDevice",
            "metadata": {"name": "device001", "generation": generation},
            "spec": {"thermometer": {}},
            "status": {"conditions": [
                {"type": "Ready", "status": ready, "reason": "WaitingForRoot", "message": "root-ca is not ready", "observedGeneration": 1},
            ]},
        })
    }

    fn deployment(image: &str, available: i64) -> Value {
        json!({
            "kind": "Deployment",
            "metadata": {"name": "iotdevice-device001", "generation": 2, "labels": {"app.kubernetes.io/managed-by": "ca-iot"}},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"ca-iot.dev/name": "device001"}}, "template": {"spec": {"containers": [{"image": image}]}}},
            "status": {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": available},
        })
    }

    fn pending(items: &[Value]) -> Vec<String> {
        let images = [Image::new("ca-iot/thermometer", "aaaa", "images.thermometer")];
        states(&json!({ "items": items }), &images)
            .into_iter()
            .filter_map(|(object, why)| Some(format!("{object}: {}", why?)))
            .collect()
    }

    #[test]
    fn a_ready_device_whose_thermometer_runs_is_not_awaited() {
        assert!(pending(&[device(1, "True"), deployment("ca-iot/thermometer:aaaa", 1)]).is_empty());
    }

    #[test]
    fn what_is_awaited_is_told_with_its_reason() {
        assert_eq!(
            pending(&[device(1, "False"), deployment("ca-iot/thermometer:aaaa", 0)]),
            [
                "deployment/iotdevice-device001: 0 of 1 pods available",
                "iotdevice/device001: WaitingForRoot: root-ca is not ready"
            ]
        );
    }

    #[test]
    fn a_pod_that_crashes_says_why_its_deployment_is_awaited() {
        let pod = json!({
            "kind": "Pod",
            "metadata": {"name": "iotdevice-device001-x", "labels": {"ca-iot.dev/name": "device001"}},
            "status": {"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}}]},
        });
        assert_eq!(
            pending(&[pod, device(1, "True"), deployment("ca-iot/thermometer:aaaa", 0)]),
            ["deployment/iotdevice-device001: 0 of 1 pods available (CrashLoopBackOff: back-off 10s)"]
        );
    }

    #[test]
    fn ready_counts_only_for_the_present_spec() {
        let items = [device(2, "True"), deployment("ca-iot/thermometer:aaaa", 1)];
        assert_eq!(pending(&items), ["iotdevice/device001: changed since the operator last saw it"]);
    }

    #[test]
    fn pods_of_an_earlier_build_are_awaited_and_a_users_own_image_is_not() {
        let with = |image| pending(&[device(1, "True"), deployment(image, 1)]);
        assert_eq!(
            with("ca-iot/thermometer:bbbb"),
            ["deployment/iotdevice-device001: still has ca-iot/thermometer:bbbb"]
        );
        assert!(with("example.org/thermometer:1").is_empty());
    }

    #[test]
    fn a_thermometer_that_does_not_exist_yet_is_awaited() {
        assert_eq!(pending(&[device(1, "True")]), ["deployment/iotdevice-device001: not there yet"]);
    }

    #[test]
    fn a_suspended_device_is_not_awaited() {
        let mut device = device(1, "False");
        device["spec"]["suspended"] = json!(true);
        assert!(pending(&[device]).is_empty());
    }
}
