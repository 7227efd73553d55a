//! The programs that everything needs: found, or prepared on a Debian machine that has none of them.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    program::{Program, in_front, is_on_path},
    progress::{detail, say},
};

/// What a kind node built here is called, so that `kind create cluster` finds it.
pub(crate) const LOCAL_NODE_IMAGE: &str = "ca-iot-node:local";

/// Builds the node image, kind, helm and kubectl where they cannot be had otherwise.
const KIND_NODE: &str = "deploy/kind-node";

/// Where the project is, where its caches are, and the PATH on which its programs are found.
pub(crate) struct Tools {
    root: PathBuf,
    cache: PathBuf,
    path: OsString,
}

impl Tools {
    /// Looks around; prepares nothing yet.
    ///
    /// # Errors
    /// When it was not started by cargo, or there is no home to keep caches in.
    pub(crate) fn find() -> Result<Self> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR").context("start this as `cargo xtask`")?;
        let root = Path::new(&manifest).parent().context("xtask is a folder of the workspace")?.to_path_buf();
        let cache = match env::var_os("XDG_CACHE_HOME") {
            Some(cache) => PathBuf::from(cache),
            None => env::home_dir().context("no home directory: set HOME or XDG_CACHE_HOME")?.join(".cache"),
        }
        .join("ca-iot");
        fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
        let mut tools = Self { root, cache, path: env::var_os("PATH").unwrap_or_default() };
        // last: a kind, helm or kubectl that the user has installed is the user's choice
        if let Ok(bin) = tools.kind_node_script("build").arg("--bin").output() {
            tools.path = env::join_paths(env::split_paths(&tools.path).chain([PathBuf::from(bin)]))?;
        }
        Ok(tools)
    }

    /// The workspace's root.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder for what is expensive to make and can always be made again.
    pub(crate) fn cache(&self) -> &Path {
        &self.cache
    }

    /// Puts `folder` first on the PATH.
    pub(crate) fn prefer(&mut self, folder: &Path) -> Result<()> {
        self.path = in_front([folder], &self.path)?;
        Ok(())
    }

    /// A program, run from the workspace's root.
    pub(crate) fn program(&self, name: impl AsRef<OsStr>) -> Program {
        Program::new(name, &self.path).current_dir(&self.root)
    }

    /// Runs a script of deploy/kind-node, and tells what it does as it does it.
    pub(crate) fn kind_node(&self, script: &str, arguments: &[&str]) -> Result<()> {
        let log = self.cache.join(format!("kind-node-{}.log", script.replace('/', "-")));
        // that a thing is ready, and the path of it, is for people who run the script themselves
        let unneeded = |line: &str| line.contains("] ready: ") || Path::new(line).is_absolute();
        let tell = |line: &str| {
            if !unneeded(line) {
                detail(line);
            }
        };
        if self.kind_node_script(script).args(arguments).logged(&log, tell)? {
            return Ok(());
        }
        bail!("{KIND_NODE}/{script} failed, see above; {KIND_NODE}/README.md tells what it needs")
    }

    fn kind_node_script(&self, script: &str) -> Program {
        self.program("bash").arg(self.root.join(KIND_NODE).join(script))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        is_on_path(name, &self.path)
    }

    /// Makes sure that a Docker engine answers.
    pub(crate) fn docker(&self) -> Result<()> {
        if self.program("docker").arg("info").succeeds() {
            return Ok(());
        }
        if !self.is_debian() {
            bail!("no Docker engine answers `docker info`: install or start one, then run this again");
        }
        say("no Docker engine answers: preparing one");
        self.kind_node("host", &[])
    }

    /// Makes sure that Docker, kind, helm and kubectl are there.
    pub(crate) fn cluster_programs(&self) -> Result<()> {
        self.docker()?;
        let missing: Vec<_> =
            ["kind", "helm", "kubectl"].into_iter().filter(|name| !self.has(name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let missing = missing.join(", ");
        if !self.is_debian() {
            bail!("not on the PATH: {missing}. Install what is missing, then run this again");
        }
        say(format_args!(
            "not on the PATH: {missing}. Building them, and a node image; 10 to 15 minutes, once"
        ));
        self.local_node_image()
    }

    /// Builds the node image, kind, helm and kubectl out of Debian packages and Go modules.
    pub(crate) fn local_node_image(&self) -> Result<()> {
        self.kind_node("host", &[])?;
        self.kind_node("build", &[LOCAL_NODE_IMAGE])
    }

    /// Makes sure that static programs can be built for `target`.
    pub(crate) fn static_target(&self, target: &str) -> Result<()> {
        let installed = self.program("rustup").args(["target", "list", "--installed"]).output();
        if installed.is_ok_and(|list| !list.lines().any(|line| line == target)) {
            say(format_args!("adding the Rust target {target}"));
            self.program("rustup").args(["target", "add", target]).run()?;
        }
        self.packages(&[("musl-gcc", "musl-tools")])
    }

    /// Installs the packages of those commands that are missing.
    pub(crate) fn packages(&self, wanted: &[(&str, &str)]) -> Result<()> {
        let missing: Vec<_> =
            wanted.iter().filter(|(command, _)| !self.has(command)).map(|(_, package)| *package).collect();
        if missing.is_empty() { Ok(()) } else { self.install(&missing) }
    }

    /// Installs Debian packages.
    pub(crate) fn install(&self, packages: &[&str]) -> Result<()> {
        let names = packages.join(" ");
        if !self.is_debian() {
            bail!("missing: {names} (Debian's names). Install what is missing, then run this again");
        }
        say(format_args!("installing {names}"));
        self.apt().arg("update").run()?;
        self.apt().args(["install", "--yes", "--no-install-recommends"]).args(packages).run()
    }

    /// The files of a Debian package, unpacked into the cache and not installed: for one program of a package that would start
    /// a service.
    pub(crate) fn unpacked(&self, package: &str) -> Result<PathBuf> {
        let home = self.cache.join(format!("debian-{package}"));
        if home.is_dir() {
            return Ok(home);
        }
        if !self.is_debian() {
            bail!("missing: {package} (Debian's name). Install it, then run this again");
        }
        let unfinished = self.cache.join(format!("debian-{package}.new"));
        let _ = fs::remove_dir_all(&unfinished);
        fs::create_dir_all(&unfinished)?;
        let download = || self.program("apt-get").args(["download", package]).current_dir(&unfinished);
        if !download().succeeds() {
            self.apt().arg("update").run()?;
            download().run()?;
        }
        let archive = fs::read_dir(&unfinished)?.next().context("apt-get has downloaded nothing")??.path();
        self.program("dpkg-deb").arg("--extract").arg(&archive).arg(&unfinished).run()?;
        fs::remove_file(&archive)?;
        fs::rename(&unfinished, &home)?;
        Ok(home)
    }

    fn apt(&self) -> Program {
        let program =
            if self.is_root() { self.program("apt-get") } else { self.program("sudo").arg("apt-get") };
        program.env("DEBIAN_FRONTEND", "noninteractive")
    }

    fn is_debian(&self) -> bool {
        self.has("apt-get")
    }

    fn is_root(&self) -> bool {
        self.program("id").arg("-u").output().is_ok_and(|id| id == "0")
    }
}
