//! What is kept of a cluster on which tests failed. Secrets are not.

use std::{fs, path::Path};

use anyhow::Result;

use crate::cluster::Cluster;

/// What is asked for of all namespaces, and the file that it goes to.
const KEPT: [(&str, &[&str]); 4] = [
    ("pods.txt", &["get", "pods", "--all-namespaces", "--output", "wide"]),
    ("events.txt", &["get", "events", "--all-namespaces", "--sort-by", ".lastTimestamp"]),
    ("iot.yaml", &["get", "iot", "--all-namespaces", "--output", "yaml"]),
    ("describe.txt", &["describe", "iot", "--all-namespaces"]),
];

/// Writes pods' logs, events and resources into `folder`.
pub(crate) fn collect(cluster: &Cluster<'_>, folder: &Path) -> Result<()> {
    for (file, arguments) in KEPT {
        // one that cannot be had is said so in its file, and does not cost the others
        let text = cluster.kubectl().args(arguments).output().unwrap_or_else(|error| format!("{error:#}"));
        fs::write(folder.join(file), text)?;
    }
    let dump = format!("--output-directory={}", folder.join("dump").display());
    cluster.kubectl().args(["cluster-info", "dump", "--all-namespaces", "--output=yaml", &dump]).run()
}
