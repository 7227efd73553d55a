//! What is kept of a site whose test has failed. Secrets are not.

use std::{fs, path::Path};

use anyhow::Result;

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
