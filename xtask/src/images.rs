//! Our images: static programs, FROM scratch, named after their content, so that what has not changed is never built,
//! loaded or restarted again.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::{cluster::Cluster, mosquitto, program::Program, progress::step, tools::Tools};

const DOCKERFILE: &str = "deploy/images/Dockerfile";

/// The tag that a plain `helm install` looks for: the chart's appVersion.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One program that becomes an image.
struct Recipe {
    package: &'static str,
    /// Name of the program, of the image and of the Dockerfile's target.
    name: &'static str,
    /// Its place among the chart's values.
    value: &'static str,
}

const RECIPES: [Recipe; 4] = [
    Recipe { package: "ca-iot-operator", name: "operator", value: "images.operator" },
    Recipe { package: "ca-iot-thermometer", name: "thermometer", value: "images.thermometer" },
    Recipe { package: "ca-iot-dashboard", name: "dashboard", value: "images.dashboard" },
    Recipe { package: "ca-iot-broker-sidecar", name: "broker-sidecar", value: "images.brokerSidecar" },
];

/// An image that the engine has.
pub(crate) struct Image {
    /// `ca-iot/operator`, behind the registry if there is one.
    repository: String,
    /// The first digits of the content's SHA-256.
    tag: String,
    value: &'static str,
}

impl Image {
    #[cfg(test)]
    pub(crate) fn new(repository: &str, tag: &str, value: &'static str) -> Self {
        Self { repository: repository.to_owned(), tag: tag.to_owned(), value }
    }

    /// Whether `reference` is this image, in whatever version.
    pub(crate) fn is_repository_of(&self, reference: &str) -> bool {
        reference.strip_prefix(&*self.repository).is_some_and(|rest| rest.starts_with([':', '@']))
    }

    /// Whether `reference` is this image in another version.
    pub(crate) fn is_another_tag_of(&self, reference: &str) -> bool {
        self.is_repository_of(reference) && reference != self.reference()
    }

    pub(crate) fn reference(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }

    /// The reference that the chart's defaults name.
    fn plain(&self) -> String {
        format!("{}:{VERSION}", self.repository)
    }

    /// `images.operator=ca-iot/operator:0123456789ab`, for `helm --set`.
    pub(crate) fn chart_value(&self) -> String {
        format!("{}={}", self.value, self.reference())
    }
}

/// Builds the programs and of each the image, unless the engine has it.
pub(crate) fn build(tools: &Tools, registry: Option<&str>) -> Result<Vec<Image>> {
    let target = target();
    let packages = RECIPES.iter().flat_map(|recipe| ["--package", recipe.package]);
    build_static(tools, "programs", packages)?;
    let context = build_context(tools, &target)?;
    RECIPES.iter().map(|recipe| build_image(tools, recipe, &context, registry)).collect()
}

/// Builds one program the way those in the images are built, out of the same parts; returns where it is.
pub(crate) fn static_program(tools: &Tools, package: &str, name: &str) -> Result<PathBuf> {
    build_static(tools, name, ["--package", package, "--bin", name])?;
    Ok(target_folder(tools).join(target()).join("release").join(name))
}

fn build_static<'a>(tools: &Tools, what: &str, arguments: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let target = target();
    tools.static_target(&target)?;
    step(what, || {
        let mut cargo = tools.program("cargo").args(["build", "--release", "--locked", "--target", &target]);
        if std::env::var_os("CARGO_INCREMENTAL").is_none() {
            // a one-line change in the operator: seconds instead of two minutes
            cargo = cargo.env("CARGO_INCREMENTAL", "1");
        }
        cargo.args(arguments).show()?;
        Ok(Some("built".to_owned()))
    })
}

/// What static programs are built for.
fn target() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

fn target_folder(tools: &Tools) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| tools.root().join("target"), PathBuf::from)
}

/// A folder with the programs alone; beside them in cargo's own is a gigabyte that the engine would be sent too.
fn build_context(tools: &Tools, target: &str) -> Result<PathBuf> {
    let target_folder = target_folder(tools);
    let context = target_folder.join("images");
    fs::create_dir_all(&context)?;
    for recipe in &RECIPES {
        let program = target_folder.join(target).join("release").join(recipe.name);
        let copy = context.join(recipe.name);
        fs::copy(&program, &copy).with_context(|| format!("no program {}", program.display()))?;
        // the user that runs it in the image is not the one who built it, whatever that one's umask is
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    }
    Ok(context)
}

fn build_image(tools: &Tools, recipe: &Recipe, context: &PathBuf, registry: Option<&str>) -> Result<Image> {
    let mut hash = Sha256::new();
    hash.update(fs::read(tools.root().join(DOCKERFILE))?);
    hash.update(fs::read(context.join(recipe.name))?);
    let tag = hex::encode(&hash.finalize()[..6]);
    let repository = registry
        .map_or_else(String::new, |registry| format!("{}/", registry.trim_end_matches('/')))
        + "ca-iot/"
        + recipe.name;
    let image = Image { repository, tag, value: recipe.value };
    step(&format!("image {}", image.reference()), || {
        let docker = || tools.program("docker");
        if docker().args(["image", "inspect", &image.reference()]).succeeds() {
            return Ok(None);
        }
        let earlier = docker()
            .args(["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", &image.repository])
            .output()?;
        docker()
            .args([
                "build",
                "--quiet",
                "--file",
                DOCKERFILE,
                "--target",
                recipe.name,
                "--tag",
                &image.reference(),
                "--tag",
                &image.plain(),
            ])
            .arg(context)
            .run()?;
        for reference in earlier.lines().filter(|reference| *reference != image.plain()) {
            // in the way of nobody, and a container may still use it
            let _ = docker().args(["image", "rm", reference]).run();
        }
        Ok(Some("built".to_owned()))
    })?;
    Ok(image)
}

/// Puts the images, and Mosquitto's, into every node of a kind cluster that does not have them.
pub(crate) fn load(tools: &Tools, cluster: &Cluster<'_>, images: &[Image]) -> Result<()> {
    let nodes = cluster.nodes()?;
    let mut missing = Vec::new();
    for node in &nodes {
        let there = containerd(tools, node).args(["list", "--quiet"]).output()?;
        let has = |reference: &str| there.lines().any(|line| line == canonical(reference));
        missing.extend(images.iter().map(Image::reference).filter(|reference| !has(reference)));
        if !has(mosquitto::IMAGE) {
            mosquitto::image(tools)?;
            missing.push(mosquitto::IMAGE.to_owned());
        }
    }
    missing.sort();
    missing.dedup();
    step("images", || {
        if missing.is_empty() {
            return Ok(None);
        }
        cluster.load(&missing)?;
        Ok(Some(format!("loaded {}", missing.join(", "))))
    })?;
    for node in &nodes {
        for image in images {
            containerd(tools, node)
                .args(["tag", "--force", &canonical(&image.reference()), &canonical(&image.plain())])
                .run()?;
        }
    }
    Ok(())
}

/// Pushes the images to the registry that they are named after.
pub(crate) fn push(tools: &Tools, images: &[Image]) -> Result<()> {
    for image in images {
        step(&format!("image {}", image.reference()), || {
            tools.program("docker").args(["push", "--quiet", &image.reference()]).run()?;
            Ok(Some("pushed".to_owned()))
        })?;
    }
    Ok(())
}

/// The image store of a node, where the kubelet looks.
fn containerd(tools: &Tools, node: &str) -> Program {
    tools.program("docker").args(["exec", node, "ctr", "--namespace", "k8s.io", "images"])
}

/// The name under which containerd keeps what Docker calls `reference`.
fn canonical(reference: &str) -> String {
    match reference.split_once('/') {
        None => format!("docker.io/library/{reference}"),
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => reference.to_owned(),
        Some(_) => format!("docker.io/{reference}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containerd_is_asked_for_the_name_that_it_knows() {
        assert_eq!(canonical("eclipse-mosquitto:2.1.2"), "docker.io/library/eclipse-mosquitto:2.1.2");
        assert_eq!(canonical("ca-iot/operator:0.1.0"), "docker.io/ca-iot/operator:0.1.0");
        assert_eq!(canonical("localhost:5001/ca-iot/operator:1"), "localhost:5001/ca-iot/operator:1");
        assert_eq!(
            canonical("registry.example.org/ca-iot/operator:1"),
            "registry.example.org/ca-iot/operator:1"
        );
    }

    #[test]
    fn a_plain_helm_install_finds_the_images_built_here() {
        let chart = include_str!("../../charts/ca-iot/Chart.yaml");
        assert!(chart.lines().any(|line| line == format!("appVersion: {VERSION}")), "{chart}");
        let values = include_str!("../../charts/ca-iot/values.yaml");
        assert!(values.contains(&format!("mosquitto: {}\n", mosquitto::IMAGE)), "{values}");
    }

    #[test]
    fn every_image_is_a_target_of_the_dockerfile_that_starts_its_program() {
        let dockerfile = include_str!("../../deploy/images/Dockerfile");
        for Recipe { name, .. } in RECIPES {
            assert!(dockerfile.contains(&format!("FROM scratch AS {name}\nCOPY {name} /\n")), "{name}");
            assert!(dockerfile.contains(&format!("ENTRYPOINT [\"/{name}\"]")), "{name}");
        }
    }
}
