//! What the API server says, in its own metrics, that it was asked.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context as _, Result};
use k8s_openapi::api::{core::v1::Namespace, flowcontrol::v1::FlowSchema};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

/// How often each verb was asked of each resource, `iotdevices/status` among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests(BTreeMap<(String, String), u64>);

/// Counts all requests of one service account: a `FlowSchema` of its own gives them a line of their own in the API server's metrics,
/// and sends them where they went before.
pub struct Counter {
    client: Client,
    name: String,
}

/// The API server's metrics.
pub async fn metrics(client: &Client) -> Result<String> {
    Ok(client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?)
}

impl Requests {
    /// All requests so far that were answered.
    pub async fn so_far(client: &Client) -> Result<Self> {
        let text = metrics(client).await?;
        let mut requests = Self::default();
        for (labels, count) in series(&text, "apiserver_request_total") {
            let label = |name: &str| label(labels, name).unwrap_or_default();
            let resource = match (label("resource"), label("subresource")) {
                ("", _) => continue,
                (resource, "") => resource.to_owned(),
                (resource, subresource) => format!("{resource}/{subresource}"),
            };
            *requests.0.entry((label("verb").to_owned(), resource)).or_default() += count;
        }
        Ok(requests)
    }

    /// Those after `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let after = self.0.iter().map(|(key, count)| {
            (key.clone(), count.saturating_sub(before.0.get(key).copied().unwrap_or_default()))
        });
        Self(after.filter(|(_, count)| *count > 0).collect())
    }

    /// How often one of `verbs` was asked of `resource`.
    pub fn of(&self, verbs: &[&str], resource: &str) -> u64 {
        let here = |(verb, of): &(String, String)| verbs.contains(&verb.as_str()) && of == resource;
        self.0.iter().filter(|(key, _)| here(key)).map(|(_, count)| count).sum()
    }

    /// Those that concern `resources`, most frequent first.
    pub fn concerning(&self, resources: &[&str]) -> Vec<(&str, &str, u64)> {
        let mut found: Vec<_> = self
            .0
            .iter()
            .filter(|((_, of), _)| resources.iter().any(|resource| of.split('/').next() == Some(resource)))
            .map(|((verb, of), count)| (verb.as_str(), of.as_str(), *count))
            .collect();
        found.sort_by_key(|(_, _, count)| std::cmp::Reverse(*count));
        found
    }
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((verb, resource), count) in &self.0 {
            writeln!(f, "{count:>8} {verb} {resource}")?;
        }
        Ok(())
    }
}

impl Counter {
    /// Counts from now on what `account` of `namespace` asks for.
    pub async fn of(client: &Client, namespace: &str, account: &str) -> Result<Self> {
        let name = format!("count-{namespace}-{account}");
        let everything = json!({
            "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"], "namespaces": ["*"], "clusterScope": true,
        });
        let owner = Api::<Namespace>::all(client.clone()).get(namespace).await?.metadata.uid;
        let schema = json!({
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
            "kind": "FlowSchema",
            "metadata": {
                "name": name,
                // gone with the namespace, if nobody takes it away before
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Namespace", "name": namespace, "uid": owner},
                ],
            },
            "spec": {
                "matchingPrecedence": 1000,
                "priorityLevelConfiguration": {"name": "workload-low"},
                "distinguisherMethod": {"type": "ByUser"},
                "rules": [{
                    "subjects": [
                        {"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": account}},
                    ],
                    "resourceRules": [everything],
                    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
                }],
            },
        });
        let schemas: Api<FlowSchema> = Api::all(client.clone());
        schemas.patch(&name, &PatchParams::apply("e2e").force(), &Patch::Apply(schema)).await?;
        Ok(Self { client: client.clone(), name })
    }

    /// How many requests there were so far, watches among them.
    pub async fn so_far(&self) -> Result<u64> {
        let text = metrics(&self.client).await?;
        let all = series(&text, "apiserver_flowcontrol_dispatched_requests_total");
        let ours = all.filter(|(labels, _)| label(labels, "flow_schema") == Some(&self.name));
        Ok(ours.map(|(_, count)| count).sum())
    }

    /// Counts no more.
    pub async fn end(self) -> Result<()> {
        let schemas: Api<FlowSchema> = Api::all(self.client);
        schemas.delete(&self.name, &DeleteParams::default()).await.context("the FlowSchema stays")?;
        Ok(())
    }
}

/// The labels and values of a metric.
fn series<'a>(text: &'a str, metric: &str) -> impl Iterator<Item = (&'a str, u64)> {
    text.lines().filter_map(move |line| {
        let (labels, value) = line.strip_prefix(metric)?.strip_prefix('{')?.rsplit_once("} ")?;
        // counters are written as `12` or `1.2e+06`
        let value: f64 = value.parse().ok()?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        Some((labels, value as u64))
    })
}

/// The value of one label. None of those looked at here has a quotation mark in its value.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_read_with_its_labels() {
        let text = "# TYPE apiserver_request_total counter\n\
            apiserver_request_total{code=\"200\",resource=\"secrets\",subresource=\"\",verb=\"POST\"} 12\n\
            apiserver_request_total{code=\"200\",resource=\"iotdevices\",subresource=\"status\",verb=\"APPLY\"} 1.2e+06\n";
        let found: Vec<_> = series(text, "apiserver_request_total").collect();
        assert_eq!(found.len(), 2);
        assert_eq!((label(found[0].0, "verb"), found[0].1), (Some("POST"), 12));
        assert_eq!((label(found[1].0, "subresource"), found[1].1), (Some("status"), 1_200_000));
    }

    #[test]
    fn what_was_asked_before_does_not_count() {
        let requests = |count| Requests([(("POST".to_owned(), "secrets".to_owned()), count)].into());
        assert_eq!(requests(7).since(&requests(3)), requests(4));
        assert_eq!(requests(7).since(&requests(7)), Requests::default());
        assert_eq!(requests(7).of(&["POST", "PUT"], "secrets"), 7);
    }
}
