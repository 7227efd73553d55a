//! What is done to a site while something important goes on in it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use api::{MqttBroker, RotationPhase};
use e2e::{Site, patience::eventually, program, site::PATIENCE};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt as _, api::DeleteParams};

/// How long the API server is away.
const AWAY: Duration = Duration::from_mins(1);

const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
const AWAY_MANIFEST: &str = "/etc/kubernetes/kube-apiserver.yaml.away";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interference {
    None,
    KillOperator,
    DeleteBroker,
    StopApiServer,
}

impl Interference {
    /// Whether it strikes at the beginning of `phase`: once in each, but the API server is stopped once.
    pub(crate) fn concerns(self, phase: RotationPhase) -> bool {
        match self {
            Self::None => false,
            Self::KillOperator | Self::DeleteBroker => true,
            Self::StopApiServer => phase == RotationPhase::Reissuing,
        }
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::None => "nothing was done",
            Self::KillOperator => "times that the operator was killed (SIGKILL)",
            Self::DeleteBroker => "times that the broker's pod was deleted",
            Self::StopApiServer => "times that the API server was stopped for 60 s",
        }
    }

    /// Does it.
    pub(crate) async fn strike(self, site: &Site, broker: &str) -> Result<()> {
        match self {
            Self::None => Ok(()),
            Self::KillOperator => {
                let operator = "app.kubernetes.io/name=operator";
                let kill = ["delete", "pods", "--selector", operator, "--grace-period=0", "--force"];
                site.kubectl(&kill).await.map(drop)
            }
            Self::DeleteBroker => {
                for pod in site.pods::<MqttBroker>(broker).await? {
                    site.api::<Pod>().delete(&pod.name_any(), &DeleteParams::background()).await?;
                }
                Ok(())
            }
            Self::StopApiServer => stop_api_server(site).await,
        }
    }
}

/// Runs `body` while the kubelet stands still: pods go on, but nobody brings them what changes in their volumes.
pub(crate) async fn while_volumes_lag<T>(site: &Site, body: impl AsyncFnOnce() -> Result<T>) -> Result<T> {
    let node = node(site).await?;
    let kubelet = |signal: &'static str| {
        program("docker").args(["exec", &node, "pkill", signal, "--exact", "kubelet"]).succeeds()
    };
    kubelet("-STOP").await?;
    let outcome = body().await;
    // whatever happened: others use this cluster too
    kubelet("-CONT").await?;
    outcome
}

async fn node(site: &Site) -> Result<String> {
    let node = site.kubectl(&["get", "nodes", "--output=jsonpath={.items[0].metadata.name}"]).await?;
    Ok(node.trim().to_owned())
}

/// Takes the API server's manifest away from the kubelet, and gives it back a minute after the server has gone.
async fn stop_api_server(site: &Site) -> Result<()> {
    let node = node(site).await?;
    let on_node = |arguments: &[&str]| program("docker").args(["exec", &node]).args(arguments);
    on_node(&["mv", MANIFEST, AWAY_MANIFEST]).succeeds().await?;
    let answers =
        async || program("kubectl").args(["get", "--raw", "/readyz", "--request-timeout=2s"]).run().await;
    let gone = eventually("the API server is gone", PATIENCE, async || {
        Ok((!answers().await?.succeeded()).then_some(()))
    })
    .await;
    if gone.is_ok() {
        tokio::time::sleep(AWAY).await;
    }
    // whatever happened: others use this cluster too
    on_node(&["mv", AWAY_MANIFEST, MANIFEST]).succeeds().await?;
    gone?;
    eventually("the API server is back", PATIENCE, async || Ok(answers().await?.succeeded().then_some(())))
        .await
        .context("the manifest is back in its place")?;
    // its Service has no endpoint until it has said that it is there, and kube-proxy has heard, which asks less and less often
    let address =
        ["get", "service", "kubernetes", "--namespace=default", "--output=jsonpath={.spec.clusterIP}"];
    let url = format!("https://{}/readyz", site.kubectl(&address).await?);
    eventually("pods reach the API server", PATIENCE, async || {
        let reached = on_node(&["curl", "--silent", "--insecure", "--max-time", "2", &url]).run().await?;
        Ok(reached.succeeded().then_some(()))
    })
    .await
}
