//! The command line.

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};

/// Certificates for a fleet of IoT devices, on Kubernetes.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controllers.
    Run(Box<Options>),
    /// Print the custom resource definitions that this program speaks.
    Crds {
        /// Write them to the cluster instead.
        #[arg(long)]
        apply: bool,
    },
}

/// How to run.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The namespace to work in; absent: all of them.
    #[arg(long, env = "CA_IOT_NAMESPACE")]
    pub namespace: Option<String>,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, env = "CA_IOT_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Where CRLs and roots are served to everybody: /crl/NAMESPACE/ROOT.crl and /roots/NAMESPACE/ROOT.pem.
    #[arg(long, env = "CA_IOT_PUBLISH", default_value = "0.0.0.0:8081")]
    pub publish: SocketAddr,
    /// The image of simulated thermometers.
    #[arg(long, env = "CA_IOT_THERMOMETER_IMAGE", default_value = concat!("ca-iot/thermometer:", env!("CARGO_PKG_VERSION")))]
    pub thermometer_image: String,
    /// The image of dashboards whose spec names none.
    #[arg(long, env = "CA_IOT_DASHBOARD_IMAGE", default_value = concat!("ca-iot/dashboard:", env!("CARGO_PKG_VERSION")))]
    pub dashboard_image: String,
    /// The image of the program beside each broker.
    #[arg(long, env = "CA_IOT_SIDECAR_IMAGE", default_value = concat!("ca-iot/broker-sidecar:", env!("CARGO_PKG_VERSION")))]
    pub sidecar_image: String,
    /// The image of brokers whose spec names none.
    #[arg(long, env = "CA_IOT_MOSQUITTO_IMAGE", default_value = "eclipse-mosquitto:2.1.2")]
    pub mosquitto_image: String,
    /// When the kubelet pulls these images.
    #[arg(long, env = "CA_IOT_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    pub image_pull_policy: String,
    /// Where certificates say that their CRL is, unless the `RootCA` says otherwise: the URL under which devices reach this
    /// operator's /crl, without that. Absent: they do not say.
    #[arg(long, env = "CA_IOT_CRL_URL")]
    pub crl_url: Option<String>,
    /// How log lines look.
    #[arg(long, env = "CA_IOT_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// This replica's name in the lease and in events.
    #[arg(long, env = "POD_NAME", default_value = "ca-iot-operator")]
    pub identity: String,
    /// Where the lease is.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub lease_namespace: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Prints the definitions as YAML documents.
pub fn print_crds() -> anyhow::Result<()> {
    std::io::stdout().write_all(api::crds::to_yaml()?.as_bytes())?;
    Ok(())
}

/// Writes the definitions to the cluster, over what an older release left there.
pub async fn apply_crds() -> anyhow::Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(Client::try_default().await?);
    for crd in api::crds::all() {
        let name = crd.name_any();
        crds.patch(&name, &PatchParams::apply(api::names::MANAGER).force(), &Patch::Apply(&crd))
            .await
            .with_context(|| format!("cannot write the definition {name}"))?;
        writeln!(std::io::stdout(), "{name} applied")?;
    }
    Ok(())
}
