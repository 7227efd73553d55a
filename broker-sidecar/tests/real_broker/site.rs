//! What the pod of a broker has around the sidecar: a mounted Secret, a mounted `ConfigMap`, a directory to run in, a
//! process table and a Mosquitto.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use broker_sidecar::{Config, Loaded};
use jiff::Timestamp;
use pki::{
    Certificate, CrlContents, KeyAlgorithm, LeafProfile, PrivateKey, RevocationReason, RevokedCertificate,
    RootProfile, SerialNumber, SigningRoot, Subject, Usage, Validity,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::client::Identity;
use crate::mosquitto::Mosquitto;

const DAY: Duration = Duration::from_hours(24);
const PATIENCE: Duration = Duration::from_secs(30);
/// What the operator writes for devices.
pub(crate) const ACL: &str = "pattern write devices/%u/#\npattern read cmd/%u/#\n";

/// A root that people trust, and what it has issued.
pub(crate) struct Authority {
    root: SigningRoot,
    pub(crate) crl: CrlContents,
}

/// The four files of the broker's Secret.
#[derive(Clone)]
pub(crate) struct Secret {
    pub(crate) tls_crt: String,
    pub(crate) tls_key: String,
    pub(crate) ca_crt: String,
    pub(crate) ca_crl: String,
}

/// A pod.
pub(crate) struct Site {
    pub(crate) directory: TempDir,
    pub(crate) broker: SocketAddr,
    http: SocketAddr,
    /// What the sidecar connects to.
    door: SocketAddr,
    sidecar: JoinHandle<()>,
}

// === impl Authority ===

impl Authority {
    pub(crate) fn new(generation: u32) -> Self {
        let profile = RootProfile {
            subject: Subject::new("root-ca").unwrap(),
            generation,
            key_algorithm: KeyAlgorithm::EcdsaP256,
            duration: 10 * DAY,
        };
        let root =
            SigningRoot::generate(&profile, SerialNumber::generate().unwrap(), Timestamp::now()).unwrap();
        Self { root, crl: CrlContents { number: 1, valid_for: DAY, revoked: Vec::new() } }
    }

    pub(crate) fn certificate(&self) -> String {
        self.root.certificate().to_pem()
    }

    pub(crate) fn fingerprint(&self) -> String {
        self.root.certificate().fingerprint()
    }

    pub(crate) fn crl(&self) -> String {
        self.root.sign_crl(&self.crl, Timestamp::now()).unwrap().to_pem()
    }

    /// A list that ran out a minute ago.
    pub(crate) fn expired_crl(&self) -> String {
        let contents = CrlContents { valid_for: Duration::ZERO, ..self.crl.clone() };
        self.root.sign_crl(&contents, Timestamp::now() - Duration::from_mins(1)).unwrap().to_pem()
    }

    pub(crate) fn revoke(&mut self, certificate: &str) {
        self.revoke_serial(Certificate::from_pem(certificate).unwrap().serial());
    }

    pub(crate) fn revoke_serial(&mut self, serial: SerialNumber) {
        let (revoked_at, reason) = (Timestamp::now(), RevocationReason::KeyCompromise);
        self.crl.number += 1;
        self.crl.revoked.push(RevokedCertificate { serial, revoked_at, reason });
    }

    /// A device's certificate and key, trusting this root.
    pub(crate) fn device(&self, name: &str) -> Identity {
        let (certificate, key) = self.issue(name, Usage::Client);
        Identity { certificate, key, roots: self.certificate() }
    }

    /// A new broker certificate with the current CRL.
    pub(crate) fn secret(&self) -> Secret {
        let (tls_crt, tls_key) = self.issue("mosquitto.broker", Usage::Server);
        Secret { tls_crt, tls_key, ca_crt: self.certificate(), ca_crl: self.crl() }
    }

    fn issue(&self, name: &str, usage: Usage) -> (String, String) {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let profile = LeafProfile {
            subject: Subject::new(name).unwrap(),
            dns_names: vec!["localhost".to_owned()],
            ip_addresses: Vec::new(),
            uris: Vec::new(),
            usage,
            key_algorithm: KeyAlgorithm::EcdsaP256,
            duration: DAY,
            crl_distribution_url: None,
        };
        let validity = Validity::plan(DAY, None, name, self.root.certificate(), Timestamp::now()).unwrap();
        let serial = SerialNumber::generate().unwrap();
        let certificate = self.root.issue(&profile, key.public_key(), serial, validity).unwrap();
        (certificate.to_pem(), key.to_pem().to_string())
    }
}

impl Secret {
    pub(crate) fn serial(&self) -> String {
        Certificate::from_pem(&self.tls_crt).unwrap().serial().to_string()
    }
}

// === impl Site ===

impl Site {
    /// A pod with this Secret and the usual ACL, in which the sidecar runs.
    pub(crate) async fn new(secret: &Secret) -> Self {
        let broker = free_address();
        Self::with(secret, broker, broker).await
    }

    /// A pod in which every connection of the sidecar to the broker takes so long.
    pub(crate) async fn slow(secret: &Secret, delay: Duration) -> Self {
        let broker = free_address();
        let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = door.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut client, _) = door.accept().await.unwrap();
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    if let Ok(mut broker) = TcpStream::connect(broker).await {
                        let _ = copy_bidirectional(&mut client, &mut broker).await;
                    }
                });
            }
        });
        Self::with(secret, broker, address).await
    }

    async fn with(secret: &Secret, broker: SocketAddr, door: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["pki", "config", "run", "proc"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let (http, sidecar) = run_sidecar(directory.path(), door).await;
        let site = Self { directory, broker, http, door, sidecar };
        site.mount(secret);
        site.mount_acl(ACL);
        site
    }

    /// Starts Mosquitto as the kubelet does: not before the sidecar's startup probe succeeds.
    pub(crate) async fn start_mosquitto(&self) -> Mosquitto {
        self.start_mosquitto_with(self).await
    }

    /// Starts Mosquitto with what is in place at another site.
    pub(crate) async fn start_mosquitto_with(&self, other: &Self) -> Mosquitto {
        self.answers("/startupz", 200).await;
        Mosquitto::start(self.path(), &other.path().join("run"), &self.path().join("proc"), self.broker)
    }

    /// A pod in which everything runs and is proved.
    pub(crate) async fn running(secret: &Secret) -> (Self, Mosquitto) {
        let site = Self::new(secret).await;
        let mosquitto = site.start_mosquitto().await;
        site.loads(|loaded| loaded.serial_number == Some(secret.serial())).await;
        (site, mosquitto)
    }

    /// Ends the sidecar and starts another.
    pub(crate) async fn restart_sidecar(&mut self) {
        self.sidecar.abort();
        (self.http, self.sidecar) = run_sidecar(self.path(), self.door).await;
    }

    /// Replaces the files of the mounted Secret as the kubelet does: a new directory, and a link turned to it.
    pub(crate) fn mount(&self, secret: &Secret) {
        let Secret { tls_crt, tls_key, ca_crt, ca_crl } = secret;
        let files: [(&str, &str); 4] =
            [("tls.crt", tls_crt), ("tls.key", tls_key), ("ca.crt", ca_crt), ("ca.crl", ca_crl)];
        swap(&self.path().join("pki"), &files);
    }

    pub(crate) fn mount_acl(&self, acl: &str) {
        swap(&self.path().join("config"), &[("acl", acl)]);
    }

    pub(crate) async fn loaded(&self) -> Loaded {
        serde_json::from_str(&self.get("/loaded").await.1).unwrap()
    }

    /// Waits until `/loaded` says what is wanted.
    pub(crate) async fn loads(&self, is_wanted: impl Fn(&Loaded) -> bool) -> Loaded {
        self.until(async || {
            let loaded = self.loaded().await;
            if is_wanted(&loaded) { Ok(loaded) } else { Err(format!("{loaded:?}")) }
        })
        .await
    }

    /// Waits until `path` is answered with `status`; returns the text.
    pub(crate) async fn answers(&self, path: &str, status: u16) -> String {
        self.until(async || {
            let (got, body) = self.get(path).await;
            if got == status { Ok(body) } else { Err(format!("{path}: {got} {body}")) }
        })
        .await
    }

    async fn get(&self, path: &str) -> (u16, String) {
        get(self.http, path).await
    }

    /// Tries until it works. A failure shows what was seen last and what Mosquitto said.
    async fn until<T>(&self, mut attempt: impl AsyncFnMut() -> Result<T, String>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match attempt().await {
                Ok(done) => return done,
                Err(seen) if Instant::now() > deadline => {
                    let log = fs::read_to_string(self.path().join("mosquitto.log")).unwrap_or_default();
                    panic!("not within {PATIENCE:?}; at last: {seen}\nmosquitto:\n{log}");
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// An address of this broker alone. On 127.0.0.1 a client's connection might be given the port while nobody listens.
fn free_address() -> SocketAddr {
    static LAST: AtomicU8 = AtomicU8::new(1);
    let host = Ipv4Addr::new(127, 0, 0, LAST.fetch_add(1, Ordering::Relaxed) + 1);
    std::net::TcpListener::bind((host, 0)).unwrap().local_addr().unwrap()
}

async fn run_sidecar(directory: &Path, broker: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let http = listener.local_addr().unwrap();
    let config = Config {
        pki: directory.join("pki"),
        acl_source: directory.join("config/acl"),
        run: directory.join("run"),
        broker,
        reload_every: Duration::from_mins(15),
        proc: directory.join("proc"),
    };
    let sidecar = async { broker_sidecar::run(config, listener, std::future::pending()).await.unwrap() };
    (http, tokio::spawn(sidecar))
}

/// The answer to a GET request: the status and the body.
pub(crate) async fn get(server: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn swap(mount: &Path, files: &[(&str, &str)]) {
    let data = mount.join("..data");
    let older = fs::read_link(&data).ok();
    let set = tempfile::Builder::new().prefix("..").tempdir_in(mount).unwrap().keep();
    for (name, content) in files {
        fs::write(set.join(name), content).unwrap();
        let link = mount.join(name);
        if !link.is_symlink() {
            symlink(Path::new("..data").join(name), &link).unwrap();
        }
    }
    let new = mount.join("..data_tmp");
    symlink(set.file_name().unwrap(), &new).unwrap();
    fs::rename(new, data).unwrap();
    if let Some(older) = older {
        fs::remove_dir_all(mount.join(older)).unwrap();
    }
}
