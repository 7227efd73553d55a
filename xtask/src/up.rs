//! `cargo xtask up`, `down` and `images`.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    Target,
    cluster::{Cluster, DEVELOPMENT},
    crds::CRDS,
    images::{self, Image},
    progress::{plain, say, step},
    ready,
    tools::Tools,
};

/// The release, as everybody calls it.
const RELEASE: &str = "ca-iot";

const CHART: &str = "charts/ca-iot";

const SAMPLES: [&str; 2] = ["deploy/samples/device001.yaml", "deploy/samples/device002.yaml"];

/// How long the page may take to answer once everything is Ready.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Everything, from nothing to a page in the browser.
pub(crate) fn up(tools: &Tools, target: &Target) -> Result<()> {
    let cluster = cluster(tools, target)?;
    let images = put_images(tools, &cluster, target)?;
    install(&cluster, &images, &target.values)?;
    say("everything is Ready");
    let page = if is_ours(target) { page(DEVELOPMENT.dashboard_port)? } else { page_behind_api(&cluster)? };
    plain(closing_words(&page, tools));
    Ok(())
}

/// The chart with its default site, and the two samples; returns when all of it is Ready.
pub(crate) fn install(cluster: &Cluster<'_>, images: &[Image], values: &[PathBuf]) -> Result<()> {
    step("chart", || {
        // Helm leaves definitions alone that an earlier release has left behind
        cluster
            .kubectl()
            .args([
                "apply",
                "--server-side",
                "--force-conflicts",
                "--field-manager=ca-iot",
                "--filename",
                CRDS,
            ])
            .run()?;
        let mut helm = cluster.helm().args(["upgrade", "--install", RELEASE, CHART]);
        for image in images {
            helm = helm.args(["--set", &image.chart_value()]);
        }
        for file in values {
            helm = helm.arg("--values").arg(file);
        }
        helm.run()?;
        Ok(Some("installed".to_owned()))
    })?;
    step("samples", || {
        cluster.kubectl().arg("apply").args(SAMPLES.iter().flat_map(|file| ["--filename", file])).run()?;
        Ok(Some("applied".to_owned()))
    })?;
    ready::wait(cluster, images)
}

/// Deletes the cluster that `up` made.
pub(crate) fn down(tools: &Tools) -> Result<()> {
    if !tools.has("kind") {
        say("no kind, so no cluster of it");
        return Ok(());
    }
    step("cluster", || {
        let existed = Cluster::ours(tools, &DEVELOPMENT, None).delete()?;
        Ok(Some(if existed {
            format!("{} deleted", DEVELOPMENT.name)
        } else {
            format!("no {} to delete", DEVELOPMENT.name)
        }))
    })
}

/// Builds the images and puts them where the cluster finds them.
pub(crate) fn images_only(tools: &Tools, target: &Target) -> Result<()> {
    let cluster = cluster(tools, target)?;
    put_images(tools, &cluster, target).map(drop)
}

/// The cluster to work on; ours is made when it is missing.
pub(crate) fn cluster<'a>(tools: &'a Tools, target: &Target) -> Result<Cluster<'a>> {
    if !is_ours(target) {
        for name in ["helm", "kubectl"] {
            if !tools.has(name) {
                bail!("{name} is not on the PATH: install it, then run this again");
            }
        }
        return Cluster::given(tools, target);
    }
    tools.cluster_programs()?;
    let cluster = Cluster::ours(tools, &DEVELOPMENT, None);
    step(&format!("cluster {}", DEVELOPMENT.name), || {
        cluster.create(&tools.root().join(DEVELOPMENT.config))
    })?;
    Ok(cluster)
}

pub(crate) fn is_ours(target: &Target) -> bool {
    target.context.is_none() && target.kubeconfig.is_none()
}

/// Builds the images and loads or pushes them. None are returned for a cluster that gets its own.
pub(crate) fn put_images(tools: &Tools, cluster: &Cluster<'_>, target: &Target) -> Result<Vec<Image>> {
    let registry = target.registry.as_deref();
    if !cluster.is_kind() && registry.is_none() {
        say("not a kind cluster of this machine, and no --registry: it must find the chart's images itself");
        return Ok(Vec::new());
    }
    tools.docker()?;
    let images = images::build(tools, registry)?;
    if registry.is_some() {
        images::push(tools, &images)?;
    } else {
        images::load(tools, cluster, &images)?;
    }
    Ok(images)
}

/// The page's address on this machine, once it answers.
pub(crate) fn page(port: u16) -> Result<String> {
    let url = format!("http://localhost:{port}");
    let until = Instant::now() + PAGE_TIMEOUT;
    loop {
        match status_line(port) {
            Ok(line) if line.split(' ').nth(1) == Some("200") => return Ok(url),
            answer if Instant::now() > until => {
                let answer = answer.unwrap_or_else(|error| error.to_string());
                bail!("{url} does not answer as it should: {answer}");
            }
            _ => thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// The first line of what a server on this machine answers to a request for its front page.
fn status_line(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n")?;
    let mut start = Vec::new();
    stream.take(4096).read_to_end(&mut start)?;
    let answer = String::from_utf8_lossy(&start);
    Ok(answer.lines().next().context("an empty answer")?.to_owned())
}

/// Asks the dashboard by way of the API server, where this machine has no road of its own to it.
fn page_behind_api(cluster: &Cluster<'_>) -> Result<String> {
    let namespace = cluster
        .kubectl()
        .args(["config", "view", "--minify", "--output", "jsonpath={..namespace}"])
        .output()?;
    let namespace = if namespace.is_empty() { "default" } else { &namespace };
    let path = format!("/api/v1/namespaces/{namespace}/services/dashboard-dashboard:http/proxy/healthz");
    cluster.kubectl().args(["get", "--raw", &path]).run().context("the dashboard does not answer")?;
    Ok("http://localhost:5000, after: kubectl port-forward service/dashboard-dashboard 5000:http".to_owned())
}

fn closing_words(page: &str, tools: &Tools) -> String {
    let on_users_path =
        std::env::var_os("PATH").is_some_and(|path| crate::program::is_on_path("kubectl", &path));
    let path = if on_users_path || !tools.has("kubectl") {
        ""
    } else {
        "\n    export PATH=$(deploy/kind-node/build --bin):$PATH    # kubectl, helm and kind, as built here"
    };
    format!(
        "
ca-iot is up: {page}

Try{path}
    kubectl get iot                              # every certificate holder
    kubectl describe iotdevice device001         # what happened to one
    kubectl apply -f deploy/samples/physical-device.yaml
    cargo xtask down                             # the end of it
"
    )
}
