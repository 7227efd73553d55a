//! The Kubernetes cluster: one of kind that is made here, or one that the user names.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    Target,
    program::Program,
    tools::{LOCAL_NODE_IMAGE, Tools},
};

/// A public node image, asked for only to learn whether images can be pulled here; kind knows which one it takes.
const PUBLIC_NODE_IMAGE: &str = "kindest/node:v1.34.0";

/// How long an API server may take to answer after its cluster was created or started.
const API_TIMEOUT: Duration = Duration::from_mins(2);

/// How long the cluster's own pods may take to run after it was created.
const PODS_TIMEOUT: Duration = Duration::from_mins(3);

/// A kind cluster of ours: its name, and the configuration file that says so.
pub(crate) struct KindCluster {
    pub(crate) name: &'static str,
    pub(crate) config: &'static str,
    /// Where its dashboard is on this machine.
    pub(crate) dashboard_port: u16,
    /// Where its broker is on this machine.
    pub(crate) broker_port: u16,
}

/// The cluster of `cargo xtask up`.
pub(crate) const DEVELOPMENT: KindCluster =
    KindCluster { name: "ca-iot", config: "kind-config.yaml", dashboard_port: 5000, broker_port: 8883 };

/// The cluster of `cargo xtask test`.
pub(crate) const E2E: KindCluster = KindCluster {
    name: "ca-iot-e2e",
    config: "deploy/kind-e2e.yaml",
    dashboard_port: 15000,
    broker_port: 18883,
};

/// A cluster, and how its API server is reached.
pub(crate) struct Cluster<'a> {
    tools: &'a Tools,
    kubeconfig: Option<PathBuf>,
    context: Option<String>,
    /// Its name, when it is a kind cluster of this machine's engine.
    kind: Option<String>,
}

impl<'a> Cluster<'a> {
    /// One of ours, whether it exists yet or not. Its access goes to `kubeconfig`, or where the user's is.
    pub(crate) fn ours(tools: &'a Tools, cluster: &KindCluster, kubeconfig: Option<PathBuf>) -> Self {
        let name = cluster.name.to_owned();
        Self { tools, kubeconfig, context: Some(format!("kind-{name}")), kind: Some(name) }
    }

    /// The one that the user asks for.
    ///
    /// # Errors
    /// When kubectl knows no such context.
    pub(crate) fn given(tools: &'a Tools, target: &Target) -> Result<Self> {
        let kubeconfig = target
            .kubeconfig
            .as_ref()
            .map(|file| fs::canonicalize(file).with_context(|| format!("no kubeconfig {}", file.display())))
            .transpose()?;
        let mut cluster = Self { tools, kubeconfig, context: target.context.clone(), kind: None };
        let context = match &cluster.context {
            Some(context) => context.clone(),
            None => cluster.kubectl().args(["config", "current-context"]).output()?,
        };
        let kinds = if tools.has("kind") { kind_clusters(tools).unwrap_or_default() } else { Vec::new() };
        cluster.kind = context.strip_prefix("kind-").map(str::to_owned).filter(|name| kinds.contains(name));
        cluster.wait_for_api()?;
        Ok(cluster)
    }

    /// kubectl, for this cluster.
    pub(crate) fn kubectl(&self) -> Program {
        self.access(self.tools.program("kubectl"), "--context")
    }

    /// helm, for this cluster.
    pub(crate) fn helm(&self) -> Program {
        self.access(self.tools.program("helm"), "--kube-context")
    }

    fn access(&self, mut program: Program, context_flag: &str) -> Program {
        if let Some(file) = &self.kubeconfig {
            program = program.arg("--kubeconfig").arg(file);
        }
        if let Some(context) = &self.context {
            program = program.args([context_flag, context]);
        }
        program
    }

    /// Whether images can be put into its nodes from here.
    pub(crate) fn is_kind(&self) -> bool {
        self.kind.is_some()
    }

    /// Its nodes, which are containers, when it is of kind.
    pub(crate) fn nodes(&self) -> Result<Vec<String>> {
        let Some(name) = &self.kind else { return Ok(Vec::new()) };
        let nodes = self.tools.program("kind").args(["get", "nodes", "--name", name]).output()?;
        Ok(nodes.lines().map(str::to_owned).collect())
    }

    /// Puts images of this machine's engine into every node.
    pub(crate) fn load(&self, images: &[String]) -> Result<()> {
        let name = self.kind.as_ref().context("images can be loaded into a kind cluster only")?;
        self.tools.program("kind").args(["load", "docker-image", "--name", name]).args(images).run()
    }

    /// Creates it where it is missing, starts it where it stands still, and waits for its API server.
    /// Says what was done, if anything was.
    pub(crate) fn create(&self, config: &Path) -> Result<Option<String>> {
        let name = self.kind.as_ref().context("only a kind cluster can be created")?;
        if kind_clusters(self.tools)?.contains(name) {
            let started = self.start(name)?;
            self.tools
                .program("kind")
                .args(["export", "kubeconfig", "--name", name])
                .args(self.kubeconfig_arguments())
                .run()?;
            self.wait_for_api()?;
            return Ok(started.then(|| "started".to_owned()));
        }
        let image = node_image(self.tools)?;
        let mut kind = self.tools.program("kind").args(["create", "cluster", "--config"]).arg(config);
        if let Some(image) = image {
            kind = kind.args(["--image", image]);
        }
        kind.args(self.kubeconfig_arguments())
            .run()
            .with_context(|| format!("cannot create the kind cluster {name}"))?;
        self.wait_for_api()?;
        self.wait_for_pods()?;
        Ok(Some("created".to_owned()))
    }

    /// Deletes it; says whether there was one.
    pub(crate) fn delete(&self) -> Result<bool> {
        let name = self.kind.as_ref().context("only a kind cluster can be deleted")?;
        if !kind_clusters(self.tools)?.contains(name) {
            return Ok(false);
        }
        self.tools
            .program("kind")
            .args(["delete", "cluster", "--name", name])
            .args(self.kubeconfig_arguments())
            .run()?;
        Ok(true)
    }

    fn kubeconfig_arguments(&self) -> Vec<String> {
        self.kubeconfig
            .iter()
            .flat_map(|file| ["--kubeconfig".to_owned(), file.display().to_string()])
            .collect()
    }

    /// Starts those of its nodes that a restart of the engine has left standing.
    fn start(&self, name: &str) -> Result<bool> {
        let label = format!("label=io.x-k8s.kind.cluster={name}");
        let stopped = self
            .tools
            .program("docker")
            .args(["ps", "--all", "--quiet", "--filter", &label, "--filter", "status=exited"])
            .output()?;
        if stopped.is_empty() {
            return Ok(false);
        }
        self.tools.program("docker").arg("start").args(stopped.lines()).run()?;
        Ok(true)
    }

    /// Waits for the cluster's own pods. Once they run, pods can be started here, and reach the API server and each other.
    fn wait_for_pods(&self) -> Result<()> {
        let seconds = PODS_TIMEOUT.as_secs();
        let waited = self
            .kubectl()
            .args(["wait", "deployment", "--all", "--all-namespaces", "--for=condition=Available"])
            .arg(format!("--timeout={seconds}s"))
            .run();
        waited.with_context(|| {
            let ask = |arguments: &[&str]| {
                self.kubectl().args(arguments).output().unwrap_or_else(|error| format!("{error:#}"))
            };
            let pods = ask(&["get", "pods", "--all-namespaces", "--output=wide"]);
            let events = ask(&["get", "events", "--all-namespaces", "--field-selector=type=Warning"]);
            format!("the cluster's own pods do not run after {seconds} s:\n{pods}\n{events}")
        })
    }

    fn wait_for_api(&self) -> Result<()> {
        self.eventually(API_TIMEOUT, &["get", "--raw", "/readyz", "--request-timeout=5s"])
            .context("the API server does not answer")
    }

    /// Asks kubectl until it says yes.
    pub(crate) fn eventually(&self, within: Duration, arguments: &[&str]) -> Result<()> {
        let until = Instant::now() + within;
        loop {
            match self.kubectl().args(arguments).run() {
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(500)),
                Ok(()) => return Ok(()),
            }
        }
    }
}

fn kind_clusters(tools: &Tools) -> Result<Vec<String>> {
    let clusters = tools.program("kind").args(["get", "clusters", "--quiet"]).output()?;
    Ok(clusters.lines().map(str::to_owned).collect())
}

/// The node image to name to kind: the one built here, when there is one or the public one cannot be had.
fn node_image(tools: &Tools) -> Result<Option<&'static str>> {
    let inspect = |image| tools.program("docker").args(["image", "inspect", image]).succeeds();
    if !inspect(LOCAL_NODE_IMAGE) {
        let pull = tools.program("docker").args(["manifest", "inspect", PUBLIC_NODE_IMAGE]);
        if pull.succeeds_within(Duration::from_secs(20)) {
            return Ok(None);
        }
        crate::progress::say(
            "the public node image cannot be pulled here: building one; 10 to 15 minutes, once",
        );
    }
    // quick when there is nothing to do, and up to date when the recipe has changed
    tools.local_node_image()?;
    if !inspect(LOCAL_NODE_IMAGE) {
        bail!("deploy/kind-node/build has not left the image {LOCAL_NODE_IMAGE}");
    }
    Ok(Some(LOCAL_NODE_IMAGE))
}
