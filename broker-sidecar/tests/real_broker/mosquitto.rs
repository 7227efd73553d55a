//! A real Mosquitto: the program named by `MOSQUITTO`, or the one in `PATH`.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A running broker. It is killed when this goes out of scope.
pub(crate) struct Mosquitto {
    child: Child,
    entry: PathBuf,
}

impl Mosquitto {
    /// Starts a broker that reads its files from `run`. `table` is the process table that is shown to the sidecar: here it
    /// is a directory in place of the pod's process namespace, with this broker alone. Its name is written there, because
    /// one that is started by its own program loader bears the loader's.
    pub(crate) fn start(directory: &Path, run: &Path, table: &Path, listen: SocketAddr) -> Self {
        let run = run.display();
        let (address, port) = (listen.ip(), listen.port());
        let config = directory.join("mosquitto.conf");
        let text = format!(
            "listener {port} {address}\n\
             cafile {run}/pki/ca.crt\n\
             certfile {run}/pki/tls.crt\n\
             keyfile {run}/pki/tls.key\n\
             crlfile {run}/pki/ca.crl\n\
             require_certificate true\n\
             use_identity_as_username true\n\
             use_username_as_clientid true\n\
             tls_version tlsv1.2\n\
             allow_anonymous false\n\
             acl_file {run}/acl\n\
             user root\n\
             log_dest stdout\n"
        );
        fs::write(&config, text).unwrap();
        let program = std::env::var("MOSQUITTO").unwrap_or_else(|_| "mosquitto".to_owned());
        let log = File::options().create(true).append(true).open(directory.join("mosquitto.log")).unwrap();
        let child = Command::new(&program)
            .arg("-c")
            .arg(&config)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{program}: {error}; install mosquitto 2.1 or name the program in MOSQUITTO")
            });
        let pid = child.id().to_string();
        let entry = table.join(&pid);
        fs::create_dir(&entry).unwrap();
        fs::write(entry.join("comm"), "mosquitto\n").unwrap();
        symlink(Path::new("/proc").join(pid).join("stat"), entry.join("stat")).unwrap();
        Self { child, entry }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id().cast_signed()).unwrap(), signal).unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        fs::remove_dir_all(&self.entry).unwrap();
    }
}
