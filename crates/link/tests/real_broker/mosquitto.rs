//! A real Mosquitto, the program named by `MOSQUITTO` or the one in `PATH`, configured as the operator does.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use link::BrokerAddress;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{authority::Secret, volume::Volume};

/// What the operator writes, with the observer in the dashboard's place.
const ACL: &str = "\
pattern write devices/%u/#
pattern read cmd/%u/#
user observer.dashboard
topic read devices/#
topic read $SYS/#
user operator.ca-iot
topic readwrite cmd/#
";
const PATIENCE: Duration = Duration::from_secs(20);

/// A broker that can be stopped and started again. It is killed when this goes out of scope; a test that
/// fails shows what it said.
pub(crate) struct Mosquitto {
    directory: TempDir,
    pub(crate) volume: Volume,
    port: u16,
    process: Option<Child>,
}

impl Mosquitto {
    /// A broker with this Secret, listening.
    pub(crate) fn start(secret: &Secret) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut broker = Self { directory, volume: Volume::mount(secret), port, process: None };
        broker.configure();
        broker.start_again();
        broker
    }

    pub(crate) fn address(&self) -> BrokerAddress {
        BrokerAddress { host: "localhost".to_owned(), port: self.port }
    }

    /// Starts after [`Self::stop`]; returns once it listens.
    pub(crate) fn start_again(&mut self) {
        let program = std::env::var("MOSQUITTO").unwrap_or_else(|_| "mosquitto".to_owned());
        let log = File::options().create(true).append(true).open(self.file("log")).unwrap();
        let process = Command::new(&program)
            .arg("-c")
            .arg(self.file("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; name Mosquitto 2.1 in MOSQUITTO"));
        self.process = Some(process);
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) {
            assert!(Instant::now() < deadline, "Mosquitto does not listen: {error}");
            assert!(self.running().try_wait().unwrap().is_none(), "Mosquitto has ended");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it with `signal` and waits until it is gone.
    pub(crate) fn stop(&mut self, signal: Signal) {
        self.signal(signal);
        self.running().wait().unwrap();
        self.process = None;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it runs");
        kill_process(Pid::from_raw(process.id().cast_signed()).unwrap(), signal).unwrap();
    }

    /// Loses every session and every retained message. Only while it is stopped.
    pub(crate) fn forget_everything(&self) {
        assert!(self.process.is_none(), "it would write them again");
        fs::remove_file(self.file("data/mosquitto.db")).unwrap();
    }

    fn configure(&self) {
        let (port, pki) = (self.port, self.volume.path().display());
        let (acl, data) = (self.file("acl"), self.file("data"));
        fs::write(&acl, ACL).unwrap();
        fs::create_dir(&data).unwrap();
        let text = format!(
            "listener {port} 127.0.0.1\n\
             cafile {pki}/ca.crt\n\
             certfile {pki}/tls.crt\n\
             keyfile {pki}/tls.key\n\
             crlfile {pki}/ca.crl\n\
             require_certificate true\n\
             use_identity_as_username true\n\
             use_username_as_clientid true\n\
             tls_version tlsv1.2\n\
             allow_anonymous false\n\
             acl_file {}\n\
             persistence true\n\
             persistence_location {}/\n\
             autosave_on_changes true\n\
             autosave_interval 1\n\
             user root\n\
             log_dest stdout\n\
             log_dest topic\n",
            acl.display(),
            data.display()
        );
        fs::write(self.file("mosquitto.conf"), text).unwrap();
    }

    fn running(&mut self) -> &mut Child {
        self.process.as_mut().expect("it runs")
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        if std::thread::panicking() {
            println!("Mosquitto said:\n{}", fs::read_to_string(self.file("log")).unwrap_or_default());
        }
    }
}
