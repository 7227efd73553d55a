//! A namespace with the chart in it, and what is written and awaited there.

use std::{
    fmt::Debug,
    net::IpAddr,
    panic::AssertUnwindSafe,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use api::{
    CertificateHolder as _, Dashboard, IotDevice, MqttBroker, RootCA,
    conditions::{READY, holds},
    names,
};
use futures::FutureExt as _;
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Namespace, Node, Pod, Secret, Service},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::wait::{await_condition, conditions::is_deleted},
};
use link::BrokerAddress;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use crate::{environment, evidence, handshake, identity::Identity, page::Page, patience, program};

/// The release's name, as everybody calls it.
pub const RELEASE: &str = "ca-iot";

/// On everything that a test writes: which test.
const LABEL: &str = "ca-iot.dev/e2e";

/// How long something may take that has no promise of its own: two cores, and four tests at once.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// Tests run beside each other; one that measures a promise made for an idle cluster runs alone.
static CLUSTER: RwLock<()> = RwLock::const_new(());

/// A namespace, and what is in it. See [`site`] and [`default_site`].
pub struct Site {
    client: Client,
    /// Its name.
    pub namespace: String,
    /// A node's address: where Services of type `NodePort` are reached from this machine.
    pub node: IpAddr,
    test: String,
    scratch: TempDir,
    beside_others: Mutex<Option<RwLockReadGuard<'static, ()>>>,
}

/// A kind that the operator reports on.
pub trait Reported:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Send
    + Serialize
    + DeserializeOwned
    + 'static
{
    /// What is reported.
    fn conditions(&self) -> &[Condition];

    /// Whether it is Ready, as it is written now.
    fn is_ready(&self) -> bool {
        let ready = self.conditions().iter().find(|condition| condition.type_ == READY);
        ready.is_some_and(|ready| ready.observed_generation == self.meta().generation)
            && holds(self.conditions(), READY)
    }

    /// Why it is not Ready; empty while nothing was reported or it is.
    fn reason(&self) -> &str {
        let ready = self.conditions().iter().find(|condition| condition.type_ == READY);
        ready.filter(|ready| ready.status == "False").map_or("", |ready| ready.reason.as_str())
    }
}

/// Runs `test` in a namespace of its own, in which an operator runs and nothing else; both go afterwards.
pub async fn site(test: &str, body: impl AsyncFnOnce(&Site) -> Result<()>) -> Result<()> {
    empty_site(test, async |site| {
        site.install(&environment::chart(), &json!({"site": {"enabled": false}})).await?;
        body(site).await
    })
    .await
}

/// Runs `test` in a namespace of its own with nothing in it.
pub async fn empty_site(test: &str, body: impl AsyncFnOnce(&Site) -> Result<()>) -> Result<()> {
    let site = Site::connect(test).await?;
    let namespaces: Api<Namespace> = Api::all(site.client.clone());
    let namespace: Namespace = serde_json::from_value(json!({
        "metadata": {
            "generateName": format!("e2e-{test}-"),
            "labels": {LABEL: test, "pod-security.kubernetes.io/enforce": "restricted"},
        },
    }))?;
    let namespace = namespaces.create(&PostParams::default(), &namespace).await?.name_any();
    let site = Site { namespace: namespace.clone(), ..site };
    let outcome = site.run(body).await;

    let params = DeleteParams::background();
    namespaces.delete(&namespace, &params).await.context("the namespace cannot be deleted")?;
    let deleted =
        patience::eventually(format_args!("the namespace {namespace} is gone"), PATIENCE, async || {
            await_condition(namespaces.clone(), &namespace, is_gone).await?;
            Ok(Some(()))
        })
        .await;
    outcome.and(deleted)
}

/// Runs `test` beside the site that a user gets from `helm install` and the two samples. What it writes goes
/// afterwards, the site stays.
pub async fn default_site(test: &str, body: impl AsyncFnOnce(&Site) -> Result<()>) -> Result<()> {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let site = Site { namespace: "default".to_owned(), ..Site::connect(test).await? };
    INSTALLED.get_or_try_init(|| site.complete()).await?;
    let outcome = site.run(body).await;
    let ours = ListParams::default().labels(&format!("{LABEL}={test}"));
    site.api::<IotDevice>().delete_collection(&DeleteParams::default(), &ours).await?;
    outcome
}

impl Site {
    async fn connect(test: &str) -> Result<Self> {
        static DEFINITIONS: OnceCell<()> = OnceCell::const_new();
        let beside_others = CLUSTER.read().await;
        DEFINITIONS.get_or_try_init(refresh_definitions).await?;
        let client = Client::try_default()
            .await
            .context("no cluster: set KUBECONFIG, or run `cargo xtask test e2e`, which makes one")?;
        let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
        let addresses = nodes.items.into_iter().filter_map(|node| node.status?.addresses).flatten();
        let node = addresses
            .filter(|address| address.type_ == "InternalIP")
            .find_map(|address| address.address.parse().ok())
            .context("no node has an address")?;
        Ok(Self {
            client,
            namespace: String::new(),
            node,
            test: test.to_owned(),
            scratch: tempfile::tempdir()?,
            beside_others: Mutex::new(Some(beside_others)),
        })
    }

    /// Runs the test; when it fails, keeps what tells why.
    async fn run(&self, body: impl AsyncFnOnce(&Self) -> Result<()>) -> Result<()> {
        let outcome = AssertUnwindSafe(body(self)).catch_unwind().await;
        let folder = environment::artifacts().join(&self.test);
        let mut left = vec![format!("what is left of it: {}", folder.display())];
        if !matches!(outcome, Ok(Ok(()))) {
            if let Err(error) = evidence::collect(&self.namespace, &folder).await {
                left.push(format!("and what is left of it could not be kept: {error:#}"));
            }
            match evidence::pods_in_trouble(&self.client, &self.namespace).await {
                Ok(trouble) => left.push(trouble),
                Err(error) => left.push(format!("and its pods cannot be listed: {error:#}")),
            }
        }
        match outcome {
            Ok(outcome) => outcome.with_context(|| left.join("\n")),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// From now on this test counts as idle: it makes next to no load.
    pub fn is_light(&self) {
        self.beside_others.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Waits until no other test makes load, and keeps it so for as long as what it returns is kept.
    pub async fn alone(&self) -> RwLockWriteGuard<'static, ()> {
        self.is_light();
        CLUSTER.write().await
    }

    /// Installs `chart` here as the release [`RELEASE`].
    pub async fn install(&self, chart: &std::path::Path, values: &Value) -> Result<()> {
        self.helm("install", chart, values).await
    }

    /// Installs `chart` here with its values for production, and with `values` on top of them.
    pub async fn install_for_production(&self, chart: &std::path::Path, values: &Value) -> Result<()> {
        self.helm_for_production("install", chart, values).await
    }

    /// Upgrades what [`Self::install_for_production`] has installed.
    pub async fn upgrade_for_production(&self, chart: &std::path::Path, values: &Value) -> Result<()> {
        self.helm_for_production("upgrade", chart, values).await
    }

    async fn helm_for_production(&self, verb: &str, chart: &std::path::Path, values: &Value) -> Result<()> {
        let production = format!("--values={}", chart.join("values-production.yaml").display());
        // two cores are for all tests: with its priority, one would have the pods of the others evicted
        let modest = "--set=priorityClassName=,resources.requests.cpu=20m";
        self.helm_with(verb, chart, &[&production, modest], values).await
    }

    /// Runs `helm install` or `helm upgrade`, and waits until the operator is ready.
    pub async fn helm(&self, verb: &str, chart: &std::path::Path, values: &Value) -> Result<()> {
        self.helm_with(verb, chart, &[], values).await
    }

    async fn helm_with(
        &self,
        verb: &str,
        chart: &std::path::Path,
        also: &[&str],
        values: &Value,
    ) -> Result<()> {
        program("helm")
            .args([verb, RELEASE, "--namespace", &self.namespace])
            .args(also)
            .args(["--values=-", "--wait", "--timeout=120s"])
            .arg(chart)
            .input(values.to_string())
            .within(PATIENCE + Duration::from_secs(10))
            .succeeds()
            .await?;
        Ok(())
    }

    /// Makes the default site and the two sample devices, where they are missing, and waits for all of it.
    async fn complete(&self) -> Result<()> {
        let helm = || program("helm").args(["status", RELEASE, "--namespace", &self.namespace]);
        if helm().fails().await.is_ok() {
            self.install(&environment::chart(), &json!({})).await?;
        }
        for sample in ["device001", "device002"] {
            self.kubectl(&["apply", "--filename", &format!("deploy/samples/{sample}.yaml")]).await?;
            self.ready::<IotDevice>(sample).await?;
        }
        self.ready::<RootCA>("root-ca").await?;
        self.ready::<MqttBroker>("mosquitto").await?;
        self.ready::<Dashboard>("dashboard").await?;
        let page = Page { address: environment::dashboard() };
        patience::eventually("the page hears the broker", PATIENCE, async || {
            let state = page.state().await?;
            Ok((state["sources"]["broker"]["health"] == "up").then_some(()))
        })
        .await?;
        // right after a rollout the first connection through a mapped port may end at once
        let (broker, device) = (environment::broker()?, self.identity::<IotDevice>("device001").await?);
        patience::eventually("the broker answers outside of the cluster", PATIENCE, async || {
            handshake::served(&broker, &device).await.map(Some)
        })
        .await?;
        Ok(())
    }

    /// kubectl in this namespace, from the workspace's root; returns what it printed.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_program().args(arguments).succeeds().await
    }

    /// kubectl in this namespace, from the workspace's root.
    pub fn kubectl_program(&self) -> program::Program {
        program("kubectl").in_folder(environment::workspace()).args(["--namespace", &self.namespace])
    }

    /// The objects of a kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Writes an object with this spec, as `kubectl apply --server-side` does.
    pub async fn apply<K: Reported>(&self, name: &str, spec: Value) -> Result<K> {
        let object = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": name, "labels": {LABEL: self.test}},
            "spec": spec,
        });
        let params = PatchParams::apply("e2e").force();
        Ok(self.api::<K>().patch(name, &params, &Patch::Apply(object)).await?)
    }

    /// Waits until the object `name` is there and `condition` holds of it.
    pub async fn wait<K>(
        &self,
        name: &str,
        within: Duration,
        what: &str,
        condition: impl Fn(&K) -> bool,
    ) -> Result<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + Send
            + Serialize
            + DeserializeOwned
            + 'static,
    {
        let holds = |object: Option<&K>| object.is_some_and(&condition);
        // a watch that breaks is begun again
        let watch = async || Ok(await_condition(self.api::<K>(), name, holds).await?);
        if let Ok(found) = patience::eventually(what, within, watch).await {
            return Ok(found);
        }
        let last = match self.api::<K>().get_opt(name).await? {
            Some(object) => serde_json::to_value(object)?["status"].to_string(),
            None => "there is no such object".to_owned(),
        };
        bail!("{} {name}: not {what} within {} s; {last}", K::kind(&()), within.as_secs_f32());
    }

    /// Waits until the object `name` is Ready.
    pub async fn ready<K: Reported>(&self, name: &str) -> Result<K> {
        self.wait(name, PATIENCE, "Ready", K::is_ready).await
    }

    /// Waits until the object `name` is not Ready, for this reason.
    pub async fn refused<K: Reported>(&self, name: &str, reason: &str) -> Result<K> {
        self.wait(name, PATIENCE, reason, |object: &K| object.reason() == reason).await
    }

    /// Deletes an object and waits until it is gone.
    pub async fn delete<K: Reported>(&self, name: &str) -> Result<()> {
        let api = self.api::<K>();
        let uid = api.get(name).await?.uid().unwrap_or_default();
        api.delete(name, &DeleteParams::background()).await?;
        patience::eventually(format_args!("{} {name} is gone", K::kind(&())), PATIENCE, async || {
            await_condition(api.clone(), name, is_deleted(&uid)).await?;
            Ok(Some(()))
        })
        .await
    }

    /// A Secret's data.
    pub async fn secret(&self, name: &str) -> Result<Secret> {
        self.api::<Secret>().get(name).await.with_context(|| format!("Secret {name}"))
    }

    /// The certificate of an object, with its key and what it trusts, from its Secret.
    pub async fn identity<K: Reported>(&self, name: &str) -> Result<Identity> {
        let secret = self.secret(&names::owned::<K>(name)).await?;
        Identity::of_secret(&secret, &self.folder()?)
    }

    /// The root `name` with its key, from its Secret: for signing what the operator never would.
    pub async fn root_key(&self, name: &str) -> Result<pki::SigningRoot> {
        let secret = self.secret(&names::owned::<RootCA>(name)).await?;
        let part = |key| crate::identity::part(&secret, key);
        Ok(pki::SigningRoot::load(&part("g1.crt")?, &part("g1.key")?)?)
    }

    /// A new folder that is gone after the test.
    pub fn folder(&self) -> Result<std::path::PathBuf> {
        Ok(tempfile::tempdir_in(self.scratch.path())?.keep())
    }

    /// The spec of a broker that is reached from this machine, with more fields as in `also`.
    pub fn broker_spec(&self, also: Value) -> Value {
        let mut spec = json!({"service": {"type": "NodePort"}, "ipAddresses": [self.node]});
        if let (Value::Object(spec), Value::Object(also)) = (&mut spec, also) {
            spec.extend(also);
        }
        spec
    }

    /// Where the broker `name` is reached from this machine.
    pub async fn broker_address(&self, name: &str) -> Result<BrokerAddress> {
        let port = self.node_port(&names::owned::<MqttBroker>(name)).await?;
        Ok(BrokerAddress { host: self.node.to_string(), port })
    }

    /// Where the page of the dashboard `name` is reached from this machine, `HOST:PORT`.
    pub async fn page_address(&self, name: &str) -> Result<String> {
        let port = self.node_port(&names::owned::<Dashboard>(name)).await?;
        Ok(format!("{}:{port}", self.node))
    }

    /// Where the operator's CRLs and roots are reached from this machine, `HOST:PORT`.
    pub async fn publication_address(&self) -> Result<String> {
        let port = self.node_port(&format!("{RELEASE}-operator-publication")).await?;
        Ok(format!("{}:{port}", self.node))
    }

    /// The port of a Service on the nodes, once it takes connections: kube-proxy hears of a pod that is ready no
    /// sooner than the test does, and refuses until then.
    async fn node_port(&self, service: &str) -> Result<u16> {
        let service = self.api::<Service>().get(service).await?;
        let port = service.spec.as_ref().and_then(|spec| spec.ports.as_ref()?.first()?.node_port);
        let port: u16 = port
            .with_context(|| format!("Service {} has no port on the nodes", service.name_any()))?
            .try_into()?;
        let open = format!("port {port} on the nodes, of Service {}, takes connections", service.name_any());
        patience::eventually(open, PATIENCE, async || {
            TcpStream::connect((self.node, port)).await?;
            Ok(Some(port))
        })
        .await
    }

    /// The pods of an object.
    pub async fn pods<K: Reported>(&self, name: &str) -> Result<Vec<Pod>> {
        let of = format!("{}={},{}={name}", names::LABEL_KIND, K::kind(&()), names::LABEL_NAME);
        Ok(self.api::<Pod>().list(&ListParams::default().labels(&of)).await?.items)
    }
}

/// Helm leaves definitions alone that an earlier installation has left behind.
async fn refresh_definitions() -> Result<()> {
    let kubectl = || program("kubectl");
    if kubectl().args(["get", "customresourcedefinition", "rootcas.ca-iot.dev"]).run().await?.succeeded() {
        kubectl()
            .args(["apply", "--server-side", "--force-conflicts", "--field-manager=ca-iot", "--filename"])
            .arg(environment::chart().join("crds"))
            .succeeds()
            .await?;
    }
    Ok(())
}

fn is_gone(namespace: Option<&Namespace>) -> bool {
    namespace.is_none()
}

// === impl Reported ===

impl Reported for RootCA {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}

impl Reported for IotDevice {
    fn conditions(&self) -> &[Condition] {
        self.holder_status().map_or(&[], |status| &status.conditions)
    }
}

impl Reported for MqttBroker {
    fn conditions(&self) -> &[Condition] {
        self.holder_status().map_or(&[], |status| &status.conditions)
    }
}

impl Reported for Dashboard {
    fn conditions(&self) -> &[Condition] {
        self.holder_status().map_or(&[], |status| &status.conditions)
    }
}
