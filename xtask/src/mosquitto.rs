//! Mosquitto: the image that brokers run, and the programs in it for tests on this machine.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{progress::step, tools::Tools};

/// What the chart names. 2.1 behaves differently from 2.0 where it matters: see the broker's design.
pub(crate) const IMAGE: &str = "eclipse-mosquitto:2.1.2";

/// The programs that tests start.
const PROGRAMS: [&str; 3] = ["mosquitto", "mosquitto_pub", "mosquitto_sub"];

/// Makes sure that the engine has the image: pulled, or built where nothing can be pulled.
pub(crate) fn image(tools: &Tools) -> Result<()> {
    step(&format!("image {IMAGE}"), || {
        if tools.program("docker").args(["image", "inspect", IMAGE]).succeeds() {
            return Ok(None);
        }
        if tools.program("docker").args(["pull", "--quiet", IMAGE]).succeeds_within(Duration::from_mins(2)) {
            return Ok(Some("pulled".to_owned()));
        }
        tools.kind_node("host", &[])?;
        tools.kind_node("mosquitto/build", &[])?;
        Ok(Some("built".to_owned()))
    })
}

/// The programs of the image, runnable here: returns the folder to put on the PATH.
pub(crate) fn programs(tools: &Tools) -> Result<PathBuf> {
    let home = tools.cache().join(IMAGE.replace(':', "-") + "-programs");
    let bin = home.join("bin");
    if bin.is_dir() {
        return Ok(bin);
    }
    tools.docker()?;
    image(tools)?;
    let _ = fs::remove_dir_all(&home);
    let root = home.join("root");
    fs::create_dir_all(&root)?;
    let container = tools.program("docker").args(["create", IMAGE]).output()?;
    let archive = home.join("root.tar");
    let exported = tools.program("docker").args(["export", "--output"]).arg(&archive).arg(&container).run();
    tools.program("docker").args(["rm", &container]).run()?;
    exported?;
    tools
        .program("tar")
        .arg("-xf")
        .arg(&archive)
        .arg("-C")
        .arg(&root)
        .args(["--exclude=dev/*", "--no-same-owner"])
        .run()?;
    fs::remove_file(&archive)?;
    let unfinished = home.join("bin.new");
    fs::create_dir_all(&unfinished)?;
    for name in PROGRAMS {
        let wrapper = unfinished.join(name);
        fs::write(&wrapper, wrapper_of(&root, name)?)?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    }
    fs::rename(unfinished, &bin)?;
    Ok(bin)
}

/// A script that starts a program of the tree at `root` with that tree's own loader and libraries.
fn wrapper_of(root: &Path, name: &str) -> Result<String> {
    let program = ["usr/sbin", "usr/bin"]
        .map(|folder| root.join(folder).join(name))
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| format!("{IMAGE} has no {name}"))?;
    let loader = [
        "lib64/ld-linux-x86-64.so.2",
        "lib/ld-linux-aarch64.so.1",
        "lib/ld-musl-x86_64.so.1",
        "lib/ld-musl-aarch64.so.1",
    ]
    .map(|file| root.join(file))
    .into_iter()
    .find(|path| path.is_file())
    .with_context(|| format!("{IMAGE} has no program loader"))?;
    let libraries = ["usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib", "lib"]
        .map(|folder| root.join(folder).display().to_string())
        .join(":");
    Ok(format!(
        "#!/bin/sh\n# {name} of {IMAGE}\nexec '{}' --library-path '{libraries}' '{}' \"$@\"\n",
        loader.display(),
        program.display()
    ))
}
