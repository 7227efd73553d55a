//! A site to try the operator on: an API server, a clock, and as many operators as a test wants.

pub(crate) mod api_server;
mod log;
mod operator;
pub(crate) mod resources;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::{HolderStatus, IotDevice, RootCAStatus};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use pki::{ClientFiles, ServerFiles};

pub(crate) use self::api_server::{ApiServer, Fault};
pub(crate) use self::operator::Operator;

/// Where everything happens.
pub(crate) const NAMESPACE: &str = "plant";

/// An API server and a clock.
pub(crate) struct Site {
    pub(crate) server: ApiServer,
    now: Arc<Mutex<Timestamp>>,
    /// What brokers say to whoever connects.
    pub(crate) connect: ::operator::fleet::Connect,
    /// Where its part of the log begins.
    log_from: usize,
}

// === impl Site ===

impl Site {
    /// An empty cluster. The clock stands still, not at a whole second.
    pub(crate) fn new() -> Self {
        log::capture();
        let now = "2026-03-01T12:00:00.4Z".parse().unwrap();
        Self {
            server: ApiServer::default(),
            now: Arc::new(Mutex::new(now)),
            connect: Arc::new(|_, _| Box::pin(async { Ok(()) })),
            log_from: log::length(),
        }
    }

    /// One where `root-ca` signs and the device `door` has its certificate, and the operator that saw to it.
    pub(crate) async fn with_door() -> (Self, Operator) {
        let site = Self::new();
        site.server.put(&resources::root("root-ca"));
        site.server.put(&resources::device("door"));
        let operator = site.operator();
        operator.settle().await;
        site.server.take_requests();
        (site, operator)
    }

    /// One with an object of every kind, all of them settled.
    pub(crate) async fn with_everything() -> Self {
        let site = Self::new();
        site.server.put(&resources::root("root-ca"));
        site.server.put(&resources::broker("mosquitto"));
        site.server.put(&resources::dashboard("dashboard"));
        site.server.put(&resources::device("door"));
        site.server.put(&resources::thermometer("boiler"));
        site.operator().settle().await;
        site
    }

    /// Another site, where all is the same but the future.
    pub(crate) fn copy(&self) -> Self {
        let now = Arc::new(Mutex::new(self.now()));
        Self { server: self.server.copy(), now, connect: Arc::clone(&self.connect), log_from: self.log_from }
    }

    /// An operator that has just started, and knows what a first list tells.
    pub(crate) fn operator(&self) -> Operator {
        let now = Arc::clone(&self.now);
        Operator::start(&self.server, Arc::new(move || *now.lock().unwrap()), Arc::clone(&self.connect))
    }

    pub(crate) fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }

    pub(crate) fn wait_until(&self, moment: Timestamp) {
        *self.now.lock().unwrap() = moment;
    }

    pub(crate) fn wait(&self, duration: Duration) {
        self.wait_until(self.now() + duration);
    }

    /// The writes since the last time, as `create secrets iotdevice-door`.
    pub(crate) fn writes(&self) -> Vec<String> {
        let requests = self.server.take_requests();
        requests.iter().filter(|request| request.writes()).map(ToString::to_string).collect()
    }

    /// The causes told in Events about `name`, as `Issued: issued certificate …`, oldest first.
    pub(crate) fn told(&self, name: &str) -> Vec<String> {
        let mut events = self.server.all::<Event>();
        events
            .sort_by_key(|event| event.metadata.resource_version.as_ref().map(|v| v.parse::<u64>().unwrap()));
        let about = |event: &Event| event.regarding.as_ref().is_some_and(|r| r.name.as_deref() == Some(name));
        let told = events.into_iter().filter(about);
        told.map(|event| format!("{}: {}", event.reason.unwrap(), event.note.unwrap())).collect()
    }

    /// What was told last about `name`.
    pub(crate) fn told_last(&self, name: &str) -> String {
        self.told(name).pop().unwrap_or_default()
    }

    pub(crate) fn device(&self, name: &str) -> HolderStatus {
        self.server.get::<IotDevice>(name).unwrap().status.unwrap_or_default()
    }

    pub(crate) fn root(&self, name: &str) -> RootCAStatus {
        self.server.get::<api::RootCA>(name).unwrap().status.unwrap_or_default()
    }

    /// What a client finds mounted, checked as it would check it.
    pub(crate) fn client_files(&self, secret: &str) -> ClientFiles {
        let part = |key: &str| self.file(secret, key);
        let files = ClientFiles::check(&part("tls.crt"), &part("tls.key"), &part("ca.crt"), self.now());
        files.unwrap_or_else(|problem| panic!("Secret {secret}: {problem}"))
    }

    /// What a broker finds mounted, checked as its sidecar would check it.
    pub(crate) fn server_files(&self, secret: &str) -> ServerFiles {
        let part = |key: &str| self.file(secret, key);
        let files = ServerFiles::check(
            &part("tls.crt"),
            &part("tls.key"),
            &part("ca.crt"),
            &part("ca.crl"),
            self.now(),
        );
        files.unwrap_or_else(|problem| panic!("Secret {secret}: {problem}"))
    }

    /// One file of a Secret; empty when it is not there.
    pub(crate) fn file(&self, secret: &str, key: &str) -> String {
        let secret = self.server.get::<Secret>(secret).unwrap_or_else(|| panic!("no Secret {secret}"));
        let file = secret.data.unwrap_or_default().remove(key).unwrap_or_default();
        String::from_utf8(file.0).unwrap()
    }

    /// Where a private key stands although it should not: in a request that is not about a Secret, or in a log line.
    fn leaks(&self) -> Vec<String> {
        let (keys, elsewhere) = self.server.keys_and_other_requests();
        let log = log::since(self.log_from);
        let found = |text: &str| keys.iter().any(|key| text.contains(key.as_str()));
        let lines = log.lines().filter(|line| found(line));
        let requests = elsewhere.iter().filter(|request| found(request));
        lines.map(str::to_owned).chain(requests.cloned()).collect()
    }
}

/// No test ends with a private key where none may be.
impl Drop for Site {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.leaks(), Vec::<String>::new(), "a private key left its Secret");
        }
    }
}

/// The condition `Ready`.
pub(crate) fn ready(conditions: &[Condition]) -> &Condition {
    condition(conditions, api::conditions::READY)
}

/// A condition that is there.
pub(crate) fn condition<'a>(conditions: &'a [Condition], type_: &str) -> &'a Condition {
    let found = conditions.iter().find(|condition| condition.type_ == type_);
    found.unwrap_or_else(|| panic!("no condition {type_} among {conditions:#?}"))
}

#[tokio::test]
async fn a_key_that_leaves_its_secret_is_found() {
    let site = Site::new();
    site.server.put(&resources::root("root-ca"));
    site.server.put(&resources::device("door"));
    let operator = site.operator();
    operator.settle().await;
    assert!(site.leaks().is_empty());

    let key = site.file("iotdevice-door", "tls.key");
    tracing::trace!("{key}");
    assert!(!site.leaks().is_empty(), "a log line");
    log::forget(&key);
    assert!(site.leaks().is_empty());

    let device = site.server.get::<IotDevice>("door").unwrap();
    let note = operator::note(key);
    operator.told(async { operator.context.cluster.tell(&device, &note, site.now()) }).await;
    assert!(!site.leaks().is_empty(), "an Event");
    site.server.take_history();
}
