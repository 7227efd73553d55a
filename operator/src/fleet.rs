//! The MQTT side of the fleet: what devices acknowledge, what brokers have loaded, whom a broker lets in, and how a session is cut.
//!
//! The operator holds one session with every broker, with a certificate of its own that it signs for itself and never stores: it
//! lives for a day, and the next one is signed at half of it. Nothing here matters after a crash: acknowledgements are retained
//! by the broker, what it has loaded is asked again, and cutting a session twice does no harm.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::{IotDevice, Loaded, MqttBroker};
use futures::future::BoxFuture;
use jiff::Timestamp;
use link::wire::CertificateAcknowledgement;
use link::{BrokerAddress, Failure, Identity, IdentitySource, Link, LinkOptions, Qos};
use pki::{LeafProfile, PrivateKey, SerialNumber, Subject, Usage, Validity};
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;

use crate::roots::{Signer, UsableRoot};
use crate::triggers::Triggers;

/// The common name of the operator: the dot keeps it apart from every device.
const OPERATOR: &str = "operator.ca-iot";
/// The common name of a client that only wants to know whether it is let in.
const PROBE: &str = "probe.ca-iot";
/// How long the operator's own certificate lives.
const OWN_LIFE: Duration = Duration::from_hours(24);
/// How long a certificate lives that is used at once.
const BRIEF_LIFE: Duration = Duration::from_mins(2);
/// How long a broker may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How many sessions are cut at a time: each is a TLS client for as long as the broker takes to answer.
const CUTS_AT_ONCE: usize = 16;
/// How long after a session could not be cut it is tried again.
pub const CUT_AGAIN: Duration = Duration::from_secs(2);

/// Connects to a broker as somebody, and leaves: see [`link::take_over`].
pub type Connect =
    Arc<dyn Fn(BrokerAddress, Identity) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync>;

/// A namespace, and the name of a device or broker in it.
type Place = (String, String);

/// The MQTT side of the fleet.
pub struct Fleet {
    acknowledged: Mutex<HashMap<Place, CertificateAcknowledgement>>,
    loaded: Mutex<HashMap<Place, Loaded>>,
    sessions: Mutex<HashMap<Place, Session>>,
    /// By device, and by the address of the broker.
    cuts: Mutex<HashMap<Place, HashMap<String, Cut>>>,
    at_once: Arc<Semaphore>,
    connect: Connect,
    triggers: Triggers,
}

/// The operator's session with a broker.
struct Session {
    identity: watch::Sender<Arc<Identity>>,
    signed_by: u32,
    roots: Vec<String>,
    renew_at: Timestamp,
    events: AbortHandle,
    /// Dropped with the rest: that ends the session.
    _link: Link,
}

/// A session of a device that is cut, or was.
#[derive(Clone, Debug)]
struct Cut {
    /// What it is cut for: the number of the CRL, and of the generation, that lists the device.
    because: (u32, i64),
    state: CutState,
}

/// How far the cutting of a session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CutState {
    /// It is under way; who asked for it is woken at its end.
    Running,
    /// The broker let nobody else keep a session under that name after this moment.
    Done(Timestamp),
    /// It could not be done, and is tried again when somebody asks later than a moment after this.
    Failed(Timestamp, String),
}

// === impl Fleet ===

impl Fleet {
    /// Nothing is known yet.
    pub fn new(triggers: Triggers, connect: Connect) -> Self {
        Self {
            acknowledged: Mutex::default(),
            loaded: Mutex::default(),
            sessions: Mutex::default(),
            cuts: Mutex::default(),
            at_once: Arc::new(Semaphore::new(CUTS_AT_ONCE)),
            connect,
            triggers,
        }
    }

    /// The real thing.
    pub fn connect() -> Connect {
        Arc::new(|broker, identity| {
            Box::pin(async move { link::take_over(&broker, &identity, ANSWER_WITHIN).await })
        })
    }

    /// What `device` has acknowledged last.
    pub fn acknowledgement(&self, namespace: &str, device: &str) -> Option<CertificateAcknowledgement> {
        lock(&self.acknowledged).get(&place(namespace, device)).cloned()
    }

    /// A device has acknowledged its certificate and its roots.
    pub fn note_acknowledgement(&self, namespace: &str, device: &str, it: &CertificateAcknowledgement) {
        let before = lock(&self.acknowledged).insert(place(namespace, device), it.clone());
        if before.as_ref() != Some(it) {
            self.triggers.acknowledged(namespace);
        }
    }

    /// What `broker` was known to use when it was asked last.
    pub fn loaded(&self, namespace: &str, broker: &str) -> Option<Loaded> {
        lock(&self.loaded).get(&place(namespace, broker)).cloned()
    }

    /// A broker was asked what it uses. Whether that is news.
    pub fn note_loaded(&self, namespace: &str, broker: &str, loaded: &Loaded) -> bool {
        let before = lock(&self.loaded).insert(place(namespace, broker), loaded.clone());
        before.as_ref() != Some(loaded)
    }

    /// Holds a session with `broker`, under a certificate that `root` signs, and hears what devices acknowledge there. When that
    /// certificate has to be replaced: this wants to be called again then, and whenever the root signs otherwise.
    pub fn follow(
        self: &Arc<Self>,
        namespace: &str,
        broker: &str,
        address: &BrokerAddress,
        root: &UsableRoot,
        now: Timestamp,
    ) -> Result<Timestamp, String> {
        let signer = root.for_operator();
        let roots: Vec<_> =
            root.generations.iter().map(|it| it.signing.certificate().fingerprint()).collect();
        let place = place(namespace, broker);
        let mut sessions = lock(&self.sessions);
        if let Some(session) = sessions.get(&place)
            && session.signed_by == signer.number
            && session.roots == roots
            && session.renew_at > now
        {
            return Ok(session.renew_at);
        }
        let identity = Arc::new(identity(OPERATOR, OWN_LIFE, signer, &root.bundle, now)?);
        let end = identity.not_after();
        let renew_at = now + Duration::try_from(end.duration_since(now)).unwrap_or_default() / 2;
        if let Some(session) = sessions.get_mut(&place) {
            session.identity.send_replace(identity);
            (session.signed_by, session.roots, session.renew_at) = (signer.number, roots, renew_at);
            return Ok(renew_at);
        }
        let (sender, receiver) = watch::channel(identity);
        let options = LinkOptions {
            identity: IdentitySource::Given(receiver),
            subscription_qos: Qos::AtLeastOnce,
            // Acknowledgements are retained: all come again with the next subscription.
            session_expiry: Duration::ZERO,
            ..LinkOptions::observer(address.clone(), "")
        };
        let (link, events) =
            Link::open(options.subscribe("devices/+/cert")).map_err(|problem| problem.to_string())?;
        let listening = tokio::spawn(Arc::clone(self).hear(namespace.to_owned(), broker.to_owned(), events));
        let session = Session {
            identity: sender,
            signed_by: signer.number,
            roots,
            renew_at,
            events: listening.abort_handle(),
            _link: link,
        };
        sessions.insert(place, session);
        Ok(renew_at)
    }

    /// A broker is gone.
    pub fn leave(&self, namespace: &str, broker: &str) {
        let place = place(namespace, broker);
        lock(&self.loaded).remove(&place);
        if let Some(session) = lock(&self.sessions).remove(&place) {
            session.events.abort();
        }
    }

    /// A device is gone, or its sessions need not be cut any more.
    pub fn forget_cut(&self, namespace: &str, device: &str) {
        lock(&self.cuts).remove(&place(namespace, device));
    }

    /// A device is gone for good.
    pub fn forget_device(&self, namespace: &str, device: &str) {
        self.forget_cut(namespace, device);
        lock(&self.acknowledged).remove(&place(namespace, device));
    }

    /// Whether `address` lets in a client whose fresh certificate `signer` signs. The error says why it is not known.
    pub async fn lets_in(
        &self,
        address: &BrokerAddress,
        signer: &Signer,
        bundle: &str,
        now: Timestamp,
    ) -> Result<bool, String> {
        let identity = identity(PROBE, BRIEF_LIFE, signer, bundle, now)?;
        match (self.connect)(address.clone(), identity).await {
            Ok(()) => Ok(true),
            Err(failure) if failure.is_refusal() => Ok(false),
            Err(failure) => Err(failure.to_string()),
        }
    }

    /// Cuts whatever session `device` has at the broker at `address`, by taking it over with a certificate of the same name that
    /// lives for two minutes. `because` tells one cut from the next: a revocation is cut once.
    pub fn cut(
        self: &Arc<Self>,
        namespace: &str,
        device: &str,
        address: &BrokerAddress,
        root: &UsableRoot,
        because: (u32, i64),
        now: Timestamp,
    ) -> CutState {
        let (place, broker) = (place(namespace, device), address.to_string());
        let mut cuts = lock(&self.cuts);
        let known = cuts.get(&place).and_then(|at| at.get(&broker));
        if let Some(cut) = known.filter(|cut| cut.because == because) {
            match &cut.state {
                CutState::Failed(at, _) if *at + CUT_AGAIN <= now => {}
                state => return state.clone(),
            }
        }
        let running = Cut { because, state: CutState::Running };
        cuts.entry(place.clone()).or_default().insert(broker.clone(), running);
        drop(cuts);
        let (fleet, address) = (Arc::clone(self), address.clone());
        let (signer, bundle) = (root.active().clone(), root.bundle.clone());
        tokio::spawn(async move {
            let _permit = fleet.at_once.acquire().await;
            let outcome = match identity(&place.1, BRIEF_LIFE, &signer, &bundle, now) {
                Ok(identity) => {
                    (fleet.connect)(address, identity).await.map_err(|failure| failure.to_string())
                }
                Err(problem) => Err(problem),
            };
            let at = Timestamp::now();
            let state = match outcome {
                Ok(()) => CutState::Done(at),
                Err(problem) => CutState::Failed(at, problem),
            };
            // Whoever was forgotten meanwhile stays so.
            if let Some(cuts) = lock(&fleet.cuts).get_mut(&place) {
                cuts.insert(broker, Cut { because, state });
            }
            let (namespace, device) = place;
            fleet.triggers.one::<IotDevice>(&namespace, &device);
            fleet.triggers.departures();
        });
        CutState::Running
    }

    async fn hear(self: Arc<Self>, namespace: String, broker: String, mut events: link::Events) {
        let mut connected = true;
        while let Some(event) = events.next().await {
            match event {
                link::Event::Message(message) => {
                    let Some((device, link::topic::Channel::Certificate)) =
                        link::topic::Channel::parse(&message.topic)
                    else {
                        continue;
                    };
                    match CertificateAcknowledgement::parse(&message.payload) {
                        Ok(it) => self.note_acknowledgement(&namespace, device, &it),
                        Err(problem) => {
                            tracing::debug!(%namespace, %broker, %device, %problem, "an acknowledgement is not one");
                        }
                    }
                }
                link::Event::Connected { .. } => {
                    connected = true;
                    tracing::info!(%namespace, %broker, "hearing what devices acknowledge");
                }
                link::Event::Disconnected { reason, .. } if connected => {
                    connected = false;
                    tracing::info!(%namespace, %broker, %reason, "no session with the broker; trying again");
                }
                link::Event::IdentityRejected { reason, .. } => {
                    tracing::warn!(%namespace, %broker, %reason, "the operator's own certificate is not accepted");
                }
                link::Event::Disconnected { .. } | link::Event::IdentityChanged(_) => {}
            }
        }
    }
}

/// Where `broker` is reached from inside the cluster.
pub fn address(broker: &MqttBroker) -> Option<BrokerAddress> {
    crate::workloads::broker_service::address(broker).parse().ok()
}

/// A client certificate for `name` that is used by this process alone.
fn identity(
    name: &str,
    life: Duration,
    signer: &Signer,
    bundle: &str,
    now: Timestamp,
) -> Result<Identity, String> {
    let make = || -> Result<Identity, Box<dyn std::error::Error>> {
        let profile = LeafProfile {
            subject: Subject::new(name)?,
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            uris: Vec::new(),
            usage: Usage::Client,
            key_algorithm: pki::KeyAlgorithm::EcdsaP256,
            duration: life,
            crl_distribution_url: None,
        };
        let root = signer.signing.certificate();
        let validity = Validity::plan(life, None, name, root, now)?;
        let key = PrivateKey::generate(profile.key_algorithm)?;
        let serial = SerialNumber::generate().map_err(|_| "the system gives no random octets")?;
        let certificate = signer.signing.issue(&profile, key.public_key(), serial, validity)?;
        Ok(Identity::from_pem(&certificate.to_pem(), &key.to_pem(), bundle, now)?)
    };
    make().map_err(|problem| format!("no certificate for {name}: {problem}"))
}

fn place(namespace: &str, name: &str) -> Place {
    (namespace.to_owned(), name.to_owned())
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
