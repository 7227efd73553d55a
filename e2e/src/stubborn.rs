//! A device that does not give up: thrown out or refused, it is back at once, again and again. It speaks MQTT 3.1.1
//! itself, a handful of packets, for no client library is as rude as what has to be kept out: a stolen device is not ours.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use jiff::Timestamp;
use link::{
    BrokerAddress,
    topic::Channel,
    wire::{Reading, Sequence},
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::Identity;

/// How often it speaks and how soon it is back.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two readings.
    pub interval: Duration,
    /// Between a refusal, or the end of a session, and the next attempt.
    pub retry: Duration,
}

/// How long a broker may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// A device in this process. It ends when this is dropped.
#[derive(Debug)]
pub struct Stubborn {
    /// Its name.
    pub name: String,
    diary: Arc<Mutex<Diary>>,
    task: JoinHandle<()>,
}

/// What has happened to it.
#[derive(Clone, Debug, Default)]
pub struct Diary {
    /// When the broker accepted it.
    pub accepted: Vec<Instant>,
    /// When a session ended, and how.
    pub cut: Vec<(Instant, String)>,
    /// The number of the last reading before the first session ended.
    pub last_before_cut: Option<u64>,
    /// When the broker refused it, and how.
    pub refused: Vec<(Instant, String)>,
    /// When no broker answered at all.
    pub unreachable: Vec<(Instant, String)>,
    /// The first and last number of its readings.
    pub sent: Option<(u64, u64)>,
    /// How many readings the broker has acknowledged, and when it acknowledged the last one.
    pub acknowledged: u64,
    /// See [`Self::acknowledged`].
    pub last_acknowledged: Option<Instant>,
}

enum Attempt {
    Accepted(Box<TlsStream<TcpStream>>),
    Refused(String),
    Unreachable(String),
}

impl Stubborn {
    /// Starts one that sends readings at QoS 1.
    pub fn start(name: &str, broker: &BrokerAddress, identity: &Identity, pace: Pace) -> Result<Self> {
        let diary = Arc::new(Mutex::new(Diary::default()));
        let door = Door {
            host: ServerName::try_from(broker.host.clone())?,
            address: (broker.host.clone(), broker.port),
            tls: Arc::new(identity.client_config()?),
        };
        let device = Device { name: name.to_owned(), door, pace, diary: Arc::clone(&diary) };
        Ok(Self { name: name.to_owned(), diary, task: tokio::spawn(device.go_on()) })
    }

    /// What has happened so far.
    pub fn diary(&self) -> Diary {
        lock(&self.diary).clone()
    }
}

/// What a broker says to one who comes with `identity`, whatever the broker itself has to show: a thief does not care whom
/// it talks to.
pub async fn knock(broker: &BrokerAddress, identity: &Identity) -> Result<Answer> {
    let door = Door {
        host: ServerName::try_from(broker.host.clone())?,
        address: (broker.host.clone(), broker.port),
        tls: Arc::new(identity.credulous_client_config()?),
    };
    Ok(match door.knock().await {
        Attempt::Accepted(_) => Answer::Accepted,
        Attempt::Refused(why) => Answer::Refused(why),
        Attempt::Unreachable(why) => Answer::Unreachable(why),
    })
}

/// See [`knock`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Come in.
    Accepted,
    /// No, and in which words.
    Refused(String),
    /// Nobody was there to answer.
    Unreachable(String),
}

impl Drop for Stubborn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Diary {
    /// Whether it is connected now.
    pub fn is_connected(&self) -> bool {
        self.accepted.len() > self.cut.len()
    }

    /// The first refusal after `moment`.
    pub fn refused_after(&self, moment: Instant) -> Option<&(Instant, String)> {
        self.refused.iter().find(|(at, _)| *at > moment)
    }
}

fn lock(diary: &Mutex<Diary>) -> MutexGuard<'_, Diary> {
    diary.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where to knock, and as whom.
struct Door {
    host: ServerName<'static>,
    address: (String, u16),
    tls: Arc<ClientConfig>,
}

struct Device {
    name: String,
    door: Door,
    pace: Pace,
    diary: Arc<Mutex<Diary>>,
}

impl Door {
    async fn knock(&self) -> Attempt {
        let reach = async {
            let tcp = TcpStream::connect(&self.address).await?;
            tcp.set_nodelay(true)?;
            io::Result::Ok(tcp)
        };
        let tcp = match timeout(ANSWER, reach).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(tcp) => tcp,
            Err(error) => return Attempt::Unreachable(error.to_string()),
        };
        // TLS 1.3 refuses a client only after the handshake: accepted is who gets a CONNACK
        let introduce = async {
            let connector = TlsConnector::from(Arc::clone(&self.tls));
            let mut stream = connector.connect(self.host.clone(), tcp).await?;
            stream.write_all(&connect_packet()).await?;
            match packet(&mut stream).await? {
                Packet::Connack(0) => Ok(stream),
                Packet::Connack(code) => Err(io::Error::other(format!("CONNACK with code {code}"))),
                Packet::Puback => Err(io::Error::other("a PUBACK instead of a CONNACK")),
                Packet::Other(kind) => Err(io::Error::other(format!("packet {kind} instead of a CONNACK"))),
            }
        };
        match timeout(ANSWER, introduce).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => Attempt::Accepted(Box::new(stream)),
            // a port that is forwarded to a pod which is not there any more
            Err(error) if is_closed(&error) => Attempt::Unreachable(error.to_string()),
            Err(error) => Attempt::Refused(error.to_string()),
        }
    }
}

impl Device {
    async fn go_on(self) {
        let mut numbers = Sequence::starting_at(Timestamp::now());
        loop {
            match self.door.knock().await {
                Attempt::Accepted(stream) => {
                    lock(&self.diary).accepted.push(Instant::now());
                    let end = self.report(*stream, &mut numbers).await;
                    let mut diary = lock(&self.diary);
                    diary.last_before_cut = diary.last_before_cut.or(diary.sent.map(|(_, last)| last));
                    diary.cut.push((Instant::now(), end.to_string()));
                }
                Attempt::Refused(why) => lock(&self.diary).refused.push((Instant::now(), why)),
                Attempt::Unreachable(why) => lock(&self.diary).unreachable.push((Instant::now(), why)),
            }
            sleep(self.pace.retry).await;
        }
    }

    /// Sends readings until the session ends, and says how it ended.
    async fn report(&self, stream: TlsStream<TcpStream>, numbers: &mut Sequence) -> io::Error {
        let (mut from_broker, mut to_broker) = tokio::io::split(stream);
        let topic = Channel::Telemetry.topic(&self.name);
        let listen = async {
            loop {
                match packet(&mut from_broker).await {
                    Ok(Packet::Puback) => {
                        let mut diary = lock(&self.diary);
                        diary.acknowledged += 1;
                        diary.last_acknowledged = Some(Instant::now());
                    }
                    Ok(Packet::Connack(_)) => return io::Error::other("a second CONNACK"),
                    Ok(Packet::Other(kind)) => {
                        return io::Error::other(format!("packet {kind}, not asked for"));
                    }
                    Err(error) => return error,
                }
            }
        };
        let speak = async {
            let mut clock = interval(self.pace.interval);
            clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for id in (1..=u16::MAX).cycle() {
                clock.tick().await;
                let Some(seq) = numbers.next() else { break };
                let reading = Reading::new(Timestamp::now(), seq, 21.0).to_json();
                {
                    let mut diary = lock(&self.diary);
                    let first = diary.sent.map_or(seq, |(first, _)| first);
                    diary.sent = Some((first, seq));
                }
                if let Err(error) = to_broker.write_all(&publish_packet(&topic, id, &reading)).await {
                    return error;
                }
                if let Err(error) = to_broker.flush().await {
                    return error;
                }
            }
            io::ErrorKind::WriteZero.into()
        };
        tokio::select! { end = listen => end, end = speak => end }
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::TimedOut
    )
}

/// What a broker says to one who only publishes.
#[derive(Debug)]
enum Packet {
    Connack(u8),
    Puback,
    Other(u8),
}

/// MQTT 3.1.1, 3.1: a clean session, a keep-alive of half a minute, no client id, for the broker takes the common name.
fn connect_packet() -> Vec<u8> {
    const CLEAN_SESSION: u8 = 0x02;
    let mut packet = vec![0x10, 12, 0, 4];
    packet.extend(b"MQTT");
    packet.extend([4, CLEAN_SESSION, 0, 30, 0, 0]);
    packet
}

/// MQTT 3.1.1, 3.3, at QoS 1.
fn publish_packet(topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(topic.len()).unwrap_or(u16::MAX);
    let mut body = length.to_be_bytes().to_vec();
    body.extend(topic.as_bytes());
    body.extend(id.to_be_bytes());
    body.extend(payload);
    let mut packet = vec![0x32];
    packet.extend(remaining_length(body.len()));
    packet.extend(body);
    packet
}

/// MQTT 3.1.1, 2.2.3: seven bits at a time, the lowest first.
fn remaining_length(mut length: usize) -> Vec<u8> {
    let mut encoded = Vec::new();
    loop {
        let digit = u8::try_from(length % 128).unwrap_or_default();
        length /= 128;
        if length == 0 {
            encoded.push(digit);
            return encoded;
        }
        encoded.push(digit | 0x80);
    }
}

async fn packet(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Packet> {
    let kind = stream.read_u8().await?;
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let digit = stream.read_u8().await?;
        length |= usize::from(digit & 0x7f) << shift;
        shift += 7;
        if digit & 0x80 == 0 {
            break;
        }
        if shift > 21 {
            return Err(io::Error::other("a packet of impossible length"));
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(match (kind >> 4, body.as_slice()) {
        (2, [_, code]) => Packet::Connack(*code),
        (4, _) => Packet::Puback,
        (other, _) => Packet::Other(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_those_of_the_standard() {
        assert_eq!(
            connect_packet(),
            [0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 30, 0, 0],
            "the length counts what follows it"
        );
        assert_eq!(publish_packet("a", 7, b"xy"), [0x32, 7, 0, 1, b'a', 0, 7, b'x', b'y']);
        assert_eq!(remaining_length(0), [0]);
        assert_eq!(remaining_length(127), [127]);
        assert_eq!(remaining_length(128), [0x80, 1]);
        assert_eq!(remaining_length(16_384), [0x80, 0x80, 1]);
    }

    #[tokio::test]
    async fn a_brokers_answers_are_understood() {
        let mut answers: &[u8] = &[0x20, 2, 0, 5, 0x40, 2, 0, 1, 0xd0, 0];
        assert!(matches!(packet(&mut answers).await.unwrap(), Packet::Connack(5)));
        assert!(matches!(packet(&mut answers).await.unwrap(), Packet::Puback));
        assert!(matches!(packet(&mut answers).await.unwrap(), Packet::Other(13)));
        assert!(packet(&mut answers).await.is_err());
    }
}
