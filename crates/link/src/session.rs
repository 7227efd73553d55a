//! The session: one task that owns the MQTT client, its certificate and what is in flight.
//!
//! The MQTT client resumes a session by itself: what was sent and not acknowledged is sent again. It
//! fails those publications if the broker has forgotten the session; they are kept here until they
//! are acknowledged, and go back to the head of the queue.

use std::{collections::VecDeque, future::Future, pin::Pin, sync::Arc, time::Duration};

use futures::FutureExt;
use jiff::Timestamp;
use rumqttc::{
    AsyncClient, Broker, ConnectProperties, ConnectionError, EventLoop, MqttOptions, NetworkOptions,
    Outgoing, Packet, PublishNoticeError, PublishOptions, QoS, SubAck, SubscribeFilterInput,
    SubscribeReasonCode, TlsConfiguration, Transport,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tracing::{debug, info, warn};

use crate::{
    Event, Failure, Identity, IdentityError, LinkOptions, Message, Presence, Publication, Qos,
    announce::last_will,
    backoff::{Backoff, REVOKED},
    outbox::{Backlog, Outbox},
    resume::NothingInFlight,
    watch::Identities,
    wire::ConnectionStatus,
};

/// Publications sent and not acknowledged, at most. Brokers allow fewer: Mosquitto 20.
const WINDOW: u16 = 64;

/// Room for the window, and for what is said at connect on top of it.
const REQUESTS: usize = 4 * WINDOW as usize;

/// Largest packet the broker may send, in bytes.
const MAX_PACKET: u32 = 64 * 1024;

/// In seconds. A silent broker is noticed after twice this by who only listens.
const KEEP_ALIVE: u16 = 15;

/// How long a broker may leave publications unacknowledged. Keep-alive does not see it: each publication
/// puts the next ping off.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(20);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest wait before the next attempt while the link is being closed with something left to deliver.
const LAST_CALL: Duration = Duration::from_secs(1);

/// A connection that held this long starts the back-off anew when it breaks. As long as the longest
/// back-off, so that two processes with one certificate take turns ever more slowly.
const STABLE: Duration = Duration::from_mins(1);

/// Broken attempts, without a word of refusal, after which an untried certificate is taken for refused.
const SUSPICION: u32 = 3;

/// What handles can see of the session.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) connected: bool,
    pub(crate) identity: Arc<Identity>,
    /// Set once, at the end: publications that were not acknowledged.
    pub(crate) unsent: Option<usize>,
}

/// One link's session. The client's event loop is apart from all else, because a poll of it is kept
/// running while the rest goes on: it is dropped only together with the connection.
pub(crate) struct Session {
    mqtt: EventLoop,
    desk: Desk,
}

/// Everything but the event loop.
struct Desk {
    client: AsyncClient,
    options: LinkOptions,
    name: String,
    identities: Identities,
    /// The last set of files that passed the checks.
    newest: Arc<Identity>,
    /// What the current or next connection is made with: the newest, or the one before it.
    dialled: Arc<Identity>,
    /// The last one that a broker accepted.
    proven: Option<Arc<Identity>>,
    /// Set while the newest certificate is refused: when to try it again.
    refused_until: Option<Instant>,
    /// Attempts with an untried certificate that broke without a reason.
    suspicion: u32,
    in_flight: VecDeque<InFlight>,
    /// Since when the broker owes the first acknowledgement.
    waiting_since: Instant,
    subscribed: bool,
    leaving: Leaving,
    outbox: Arc<Outbox>,
    events: mpsc::Sender<Event>,
    status: watch::Sender<Status>,
    close: watch::Receiver<Option<Instant>>,
    backoff: Backoff,
}

struct InFlight {
    publication: Publication,
    acknowledged: Pin<Box<dyn Future<Output = Result<(), PublishNoticeError>> + Send>>,
}

/// How a connection, or an attempt at one, ended.
enum Ended {
    /// Not by us.
    Failed(Failure),
    /// To be made again, with another certificate.
    Replaced,
    /// For good.
    Closed,
}

/// The stages of a goodbye.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    Draining { deadline: Instant },
    SayingOffline { deadline: Instant },
    Disconnecting { deadline: Instant },
}

/// Whether a change of the files needs a new connection.
enum Verdict {
    Stay,
    Reconnect,
}

// === impl Session ===

impl Session {
    pub(crate) fn new(
        options: LinkOptions,
        identity: Arc<Identity>,
        identities: Identities,
        outbox: Arc<Outbox>,
        events: mpsc::Sender<Event>,
        status: watch::Sender<Status>,
        close: watch::Receiver<Option<Instant>>,
    ) -> Self {
        let name = identity.name().to_owned();
        let (client, mqtt) = AsyncClient::builder(mqtt_options(&name, &options)).capacity(REQUESTS).build();
        let desk = Desk {
            client,
            options,
            name,
            identities,
            newest: Arc::clone(&identity),
            dialled: identity,
            proven: None,
            refused_until: None,
            suspicion: 0,
            in_flight: VecDeque::new(),
            waiting_since: Instant::now(),
            subscribed: false,
            leaving: Leaving::No,
            outbox,
            events,
            status,
            close,
            backoff: Backoff::default(),
        };
        Self { mqtt, desk }
    }

    /// Connects, serves, and connects again until the link is closed.
    pub(crate) async fn run(mut self) {
        loop {
            let failure = match self.connect_and_serve().await {
                Ended::Closed => break,
                Ended::Replaced => continue,
                Ended::Failed(failure) => failure,
            };
            self.desk.status.send_modify(|status| status.connected = false);
            if self.desk.fall_back(&failure).await {
                continue;
            }
            if matches!(self.desk.wait_after(failure).await, Ended::Closed) {
                break;
            }
        }
        let unsent = self.desk.unacknowledged();
        self.desk.status.send_modify(|status| {
            status.connected = false;
            status.unsent = Some(unsent);
        });
    }

    async fn connect_and_serve(&mut self) -> Ended {
        let session_present = match self.connect().await {
            Ok(session_present) => session_present,
            Err(ended) => return ended,
        };
        self.mqtt.options.clear_session_store();
        let connected_at = Instant::now();
        self.desk.greet(session_present).await;
        let ended = self.serve().await;
        if connected_at.elapsed() > STABLE {
            self.desk.backoff.reset();
        }
        self.drop_connection().await;
        ended
    }

    /// Keeps what is in flight, and delivers what the client has acknowledged already: the broker will
    /// not send that again. The last will waits long enough for a new connection.
    async fn drop_connection(&mut self) {
        let received = std::mem::take(&mut self.mqtt.state.events);
        self.mqtt.clean();
        for event in received {
            if let rumqttc::Event::Incoming(Packet::Publish(publish)) = event {
                self.desk.deliver(publish).await;
            }
        }
    }

    /// Until the CONNACK: in TLS 1.3 the handshake itself succeeds for a certificate that the broker
    /// is about to refuse.
    async fn connect(&mut self) -> Result<bool, Ended> {
        let Self { mqtt, desk } = self;
        desk.choose();
        mqtt.options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(desk.dialled.tls())));
        if desk.options.presence == Presence::Announced {
            mqtt.options.set_last_will(last_will(&desk.name, Timestamp::now()));
        }
        loop {
            tokio::select! {
                event = mqtt.poll() => match event {
                    Ok(rumqttc::Event::Incoming(Packet::ConnAck(ack))) => return Ok(ack.session_present),
                    Ok(_) => {}
                    Err(error) => return Err(Ended::Failed(Failure::from(&error))),
                },
                change = desk.identities.next() => {
                    if let Verdict::Reconnect = desk.consider(change).await {
                        return Err(Ended::Replaced);
                    }
                }
                () = given_up(&mut desk.close, &desk.outbox) => return Err(Ended::Closed),
            }
        }
    }

    async fn serve(&mut self) -> Ended {
        let Self { mqtt, desk } = self;
        loop {
            let event = {
                let poll = std::pin::pin!(mqtt.poll());
                match desk.attend(poll).await {
                    Ok(event) => event,
                    Err(ended) => return ended,
                }
            };
            match event {
                Ok(rumqttc::Event::Incoming(Packet::Publish(publish))) => desk.deliver(publish).await,
                Ok(rumqttc::Event::Incoming(Packet::SubAck(ack))) => desk.check_subscriptions(&ack),
                Ok(rumqttc::Event::Outgoing(Outgoing::Disconnect)) | Err(ConnectionError::RequestsDone) => {
                    return Ended::Closed;
                }
                Ok(_) => {}
                Err(error) => return Ended::Failed(Failure::from(&error)),
            }
        }
    }
}

// === impl Desk ===

impl Desk {
    /// Does all else until the event loop has something.
    async fn attend<E>(&mut self, mut poll: Pin<&mut impl Future<Output = E>>) -> Result<E, Ended> {
        loop {
            self.send_queued();
            self.proceed_with_goodbye();
            let overdue = self.overdue();
            tokio::select! {
                event = &mut poll => return Ok(event),
                result = first_acknowledgement(&mut self.in_flight) => self.acknowledged(result),
                () = self.outbox.filled() => {}
                change = self.identities.next(), if self.leaving == Leaving::No => {
                    if let Verdict::Reconnect = self.consider(change).await {
                        return Err(Ended::Replaced);
                    }
                }
                () = until(self.refused_until), if self.leaving == Leaving::No => {
                    self.refused_until = None;
                    return Err(Ended::Replaced);
                }
                () = asked_to_close(&mut self.close), if self.leaving == Leaving::No => {
                    match *self.close.borrow() {
                        Some(deadline) => self.leaving = Leaving::Draining { deadline },
                        // All handles are gone, and nobody is left to say goodbye for.
                        None => return Err(Ended::Closed),
                    }
                }
                () = until(overdue) => {
                    let reason = format!("no acknowledgement within {ACKNOWLEDGE_WITHIN:?}");
                    return Err(Ended::Failed(Failure::Lost(reason)));
                }
                () = until(self.leaving.deadline()) => return Err(Ended::Closed),
            }
        }
    }

    /// What a new connection begins with.
    async fn greet(&mut self, session_present: bool) {
        let changed = self.proven.as_ref().is_some_and(|proven| !proven.same_set(&self.dialled));
        self.proven = Some(Arc::clone(&self.dialled));
        self.suspicion = 0;
        self.status.send_modify(|status| {
            status.connected = true;
            status.identity = Arc::clone(&self.dialled);
        });
        let serial_number = self.dialled.serial_number().to_owned();
        info!(broker = %self.options.broker, serial_number, session_present, "connected");

        if !session_present {
            self.take_back();
        }
        self.waiting_since = Instant::now();
        // A new process subscribes in any case: that brings what the broker retains.
        let kept = session_present && self.subscribed;
        if !kept && !self.options.subscriptions.is_empty() {
            let qos = match self.options.subscription_qos {
                Qos::AtMostOnce => QoS::AtMostOnce,
                Qos::AtLeastOnce => QoS::AtLeastOnce,
                Qos::ExactlyOnce => QoS::ExactlyOnce,
            };
            let filters = self.options.subscriptions.iter();
            let filters = filters.map(|filter| SubscribeFilterInput::new(filter, qos));
            match self.client.try_subscribe_many(filters) {
                Ok(()) => self.subscribed = true,
                Err(error) => warn!(%error, "cannot subscribe"),
            }
        }
        if self.options.presence == Presence::Announced {
            self.send(Publication::status(&self.name, ConnectionStatus::online(Timestamp::now())));
            self.send(Publication::acknowledgement(&self.dialled));
        }
        self.emit(Event::Connected { session_present, serial_number }).await;
        if changed {
            self.emit(Event::IdentityChanged(Arc::clone(&self.dialled))).await;
        }
    }

    /// Takes the certificate for the next connection: the newest, unless it was just refused and the
    /// one before it is still good.
    fn choose(&mut self) {
        let fallback = match (&self.proven, self.refused_until) {
            (Some(proven), Some(_)) => proven.trusting_as(&self.newest, Timestamp::now()).ok(),
            _ => None,
        };
        self.dialled = fallback.map_or_else(|| Arc::clone(&self.newest), Arc::new);
    }

    /// Takes note of changed files.
    async fn consider(&mut self, change: Result<Arc<Identity>, IdentityError>) -> Verdict {
        let identity = match change {
            Ok(identity) => identity,
            Err(error) => {
                warn!(%error, "the new certificate files are not used");
                self.emit(Event::IdentityRejected { serial_number: None, reason: error.to_string() }).await;
                return Verdict::Stay;
            }
        };
        if identity.name() != self.name {
            let reason = format!("the certificate is for `{}`, this is `{}`", identity.name(), self.name);
            warn!(reason, "the new certificate files are not used");
            let serial_number = Some(identity.serial_number().to_owned());
            self.emit(Event::IdentityRejected { serial_number, reason }).await;
            return Verdict::Stay;
        }
        let only_roots = identity.same_certificate(&self.newest);
        self.newest = identity;
        if !only_roots {
            self.refused_until = None;
            self.suspicion = 0;
            self.backoff.reset();
            return Verdict::Reconnect;
        }
        self.adopt_roots().await
    }

    /// Other roots concern the next connection; that they are trusted is said at once.
    async fn adopt_roots(&mut self) -> Verdict {
        self.choose();
        let proven = self.proven.as_ref().is_some_and(|proven| proven.same_certificate(&self.dialled));
        if !(proven && self.status.borrow().connected) {
            // The new roots may be what was missing.
            return Verdict::Reconnect;
        }
        self.proven = Some(Arc::clone(&self.dialled));
        self.status.send_modify(|status| status.identity = Arc::clone(&self.dialled));
        if self.options.presence == Presence::Announced {
            self.send(Publication::acknowledgement(&self.dialled));
        }
        info!(roots = ?self.dialled.root_fingerprints(), "trusting other roots from the next connection on");
        self.emit(Event::IdentityChanged(Arc::clone(&self.dialled))).await;
        Verdict::Stay
    }

    /// After a failure: whether to try at once with the certificate that worked before.
    async fn fall_back(&mut self, failure: &Failure) -> bool {
        let untried = self.proven.as_ref().is_some_and(|proven| !proven.same_certificate(&self.newest));
        if self.refused_until.is_some() {
            // The earlier certificate did not help either: the newest has its turn again.
            self.refused_until = None;
            return false;
        }
        if !untried {
            return false;
        }
        if let Failure::Lost(_) = failure {
            self.suspicion += 1;
        }
        if !failure.is_refusal() && self.suspicion < SUSPICION {
            return false;
        }
        warn!(serial_number = self.newest.serial_number(), reason = %failure, "falling back to the earlier certificate");
        self.refused_until = Some(Instant::now() + REVOKED);
        self.suspicion = 0;
        let serial_number = Some(self.newest.serial_number().to_owned());
        self.emit(Event::IdentityRejected { serial_number, reason: failure.to_string() }).await;
        true
    }

    /// Waits before the next attempt; new files end the wait, and so does a goodbye with something left to deliver.
    async fn wait_after(&mut self, failure: Failure) -> Ended {
        let refused = failure == Failure::Revoked;
        let last_call = self.close.borrow().filter(|_| self.unacknowledged() > 0 && !refused);
        let retry_in = match self.backoff.next() {
            _ if refused => REVOKED,
            retry_in if last_call.is_some() => retry_in.min(LAST_CALL),
            retry_in => retry_in,
        };
        warn!(broker = %self.options.broker, reason = %failure, ?retry_in, "not connected");
        let deadline = Instant::now() + retry_in;
        self.emit(Event::Disconnected { reason: failure, retry_in }).await;
        loop {
            tokio::select! {
                () = sleep_until(deadline) => return Ended::Replaced,
                change = self.identities.next() => {
                    if let Verdict::Reconnect = self.consider(change).await {
                        return Ended::Replaced;
                    }
                }
                () = asked_to_close(&mut self.close), if last_call.is_none() => {
                    let anything_left = self.unacknowledged() > 0 && !refused;
                    return if anything_left { Ended::Replaced } else { Ended::Closed };
                }
                () = until(last_call) => return Ended::Closed,
            }
        }
    }

    /// Hands queued publications to the client while the window is open.
    fn send_queued(&mut self) {
        while self.in_flight.len() < usize::from(WINDOW) {
            let Some(publication) = self.outbox.pop() else { break };
            self.send(publication);
        }
    }

    fn send(&mut self, publication: Publication) {
        let Publication { topic, payload, retain } = publication.clone();
        let options = PublishOptions::at_least_once().retain(retain);
        match self.client.try_publish_tracked(topic, payload, options) {
            Ok(notice) => {
                let acknowledged = Box::pin(notice.wait_completion_async());
                if self.in_flight.is_empty() {
                    self.waiting_since = Instant::now();
                }
                self.in_flight.push_back(InFlight { publication, acknowledged });
                self.outbox.note_in_flight(self.in_flight.len());
            }
            // There is room for the window; beyond it are only greetings of connections that broke
            // before they were acknowledged, and another one follows.
            Err(error) => warn!(%error, topic = publication.topic, "not published"),
        }
    }

    /// The first publication in flight is done with, one way or the other.
    fn acknowledged(&mut self, result: Result<(), PublishNoticeError>) {
        let Some(InFlight { publication, .. }) = self.in_flight.pop_front() else { return };
        self.waiting_since = Instant::now();
        self.outbox.note_in_flight(self.in_flight.len());
        if let Err(error) = result {
            self.outbox.note_refused();
            warn!(topic = publication.topic, %error, "the broker refused a publication");
        }
    }

    /// The broker forgot the session: what it did not acknowledge before is sent anew.
    fn take_back(&mut self) {
        let unacknowledged: Vec<_> = self
            .in_flight
            .drain(..)
            .filter_map(|in_flight| match in_flight.acknowledged.now_or_never() {
                Some(Ok(())) => None,
                _ => Some(in_flight.publication),
            })
            .collect();
        if !unacknowledged.is_empty() {
            debug!(count = unacknowledged.len(), "publishing again what the broker forgot");
        }
        self.outbox.put_back(unacknowledged.into_iter());
        self.outbox.note_in_flight(0);
    }

    /// When the broker has been silent for too long.
    fn overdue(&self) -> Option<Instant> {
        (!self.in_flight.is_empty()).then_some(self.waiting_since + ACKNOWLEDGE_WITHIN)
    }

    fn unacknowledged(&self) -> usize {
        self.in_flight.len() + self.outbox.backlog().queued
    }

    /// Once all is published: offline, then DISCONNECT, which withdraws the last will.
    fn proceed_with_goodbye(&mut self) {
        let idle = self.unacknowledged() == 0;
        match self.leaving {
            Leaving::Draining { deadline } if idle => {
                if self.options.presence == Presence::Announced {
                    self.send(Publication::status(&self.name, ConnectionStatus::offline(Timestamp::now())));
                }
                self.leaving = Leaving::SayingOffline { deadline };
                self.proceed_with_goodbye();
            }
            Leaving::SayingOffline { deadline } if idle => {
                if let Err(error) = self.client.try_disconnect() {
                    debug!(%error, "no goodbye");
                }
                self.leaving = Leaving::Disconnecting { deadline };
            }
            _ => {}
        }
    }

    async fn deliver(&mut self, publish: rumqttc::Publish) {
        let rumqttc::Publish { qos, retain, topic, payload, .. } = publish;
        let Ok(topic) = String::from_utf8(topic.to_vec()) else {
            debug!("a message with a topic that is not UTF-8 was dropped");
            return;
        };
        let qos = match qos {
            QoS::AtMostOnce => Qos::AtMostOnce,
            QoS::AtLeastOnce => Qos::AtLeastOnce,
            QoS::ExactlyOnce => Qos::ExactlyOnce,
        };
        self.emit(Event::Message(Message { topic, payload: payload.to_vec(), qos, retain })).await;
    }

    fn check_subscriptions(&self, ack: &SubAck) {
        for (filter, code) in self.options.subscriptions.iter().zip(&ack.return_codes) {
            if !matches!(code, SubscribeReasonCode::Success(_)) {
                warn!(filter, ?code, "the broker refused a subscription");
            }
        }
    }

    /// Waits for a slow reader, but not while the link is being closed.
    async fn emit(&mut self, event: Event) {
        tokio::select! {
            result = self.events.send(event) => {
                if result.is_err() {
                    debug!("nobody reads the events");
                }
            }
            () = asked_to_close(&mut self.close) => {}
        }
    }
}

impl Leaving {
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::No => None,
            Self::Draining { deadline }
            | Self::SayingOffline { deadline }
            | Self::Disconnecting { deadline } => Some(deadline),
        }
    }
}

impl Status {
    pub(crate) fn new(identity: Arc<Identity>) -> Self {
        Self { connected: false, identity, unsent: None }
    }
}

fn mqtt_options(name: &str, options: &LinkOptions) -> MqttOptions {
    let LinkOptions { broker, session_expiry, .. } = options;
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = Some(u32::try_from(session_expiry.as_secs()).unwrap_or(u32::MAX));
    properties.max_packet_size = Some(MAX_PACKET);
    let mut mqtt = MqttOptions::new(name, Broker::tcp(&broker.host, broker.port));
    mqtt.set_connect_properties(properties)
        .set_clean_start(false)
        .set_outgoing_inflight_upper_limit(WINDOW)
        .set_keep_alive(KEEP_ALIVE)
        .set_connect_timeout(CONNECT_TIMEOUT)
        .set_network_options(network)
        .set_session_store(NothingInFlight { window: WINDOW });
    mqtt
}

/// Waits for the oldest publication in flight. Cancel-safe: the wait itself stays in the queue.
async fn first_acknowledgement(in_flight: &mut VecDeque<InFlight>) -> Result<(), PublishNoticeError> {
    match in_flight.front_mut() {
        Some(first) => first.acknowledged.as_mut().await,
        None => std::future::pending().await,
    }
}

/// Waits until there is no connection to be made any more: the link is to be closed, and nothing is left to deliver, or no time.
async fn given_up(close: &mut watch::Receiver<Option<Instant>>, outbox: &Outbox) {
    asked_to_close(close).await;
    let deadline = *close.borrow();
    let Backlog { queued, in_flight, .. } = outbox.backlog();
    if queued + in_flight > 0
        && let Some(deadline) = deadline
    {
        sleep_until(deadline).await;
    }
}

/// Waits until [`crate::Link::close`] was called or all handles are gone.
async fn asked_to_close(close: &mut watch::Receiver<Option<Instant>>) {
    let _ = close.wait_for(Option::is_some).await;
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
