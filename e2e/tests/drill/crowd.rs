//! A root, a broker, a hundred devices that talk all the time, and who hears them all.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use api::{IotDevice, MqttBroker, RootCA};
use e2e::{
    Site,
    figures::Figures,
    fleet::Secrets,
    listener::Listener,
    patience::eventually,
    site::PATIENCE,
    stubborn::{Pace, Stubborn},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use link::BrokerAddress;
use serde_json::{Value, json};

/// Readings five times a second, and back within a twentieth of a second.
pub(crate) const RUDE: Pace = Pace { interval: Duration::from_millis(200), retry: Duration::from_millis(50) };

/// Requests at once when many objects are made.
const AT_ONCE: usize = 16;

/// How long the last reading may take.
const DELIVERED_WITHIN: Duration = Duration::from_secs(15);

/// See [`gather`].
pub(crate) struct Crowd {
    pub(crate) broker: BrokerAddress,
    pub(crate) listener: Listener,
    /// Those to whom nothing is done.
    pub(crate) bystanders: Vec<Stubborn>,
    _secrets: Secrets,
}

/// Makes root, broker and devices, and connects the listener and `bystanders`.
pub(crate) async fn gather(site: &Site, bystanders: usize, others: &[String]) -> Result<Crowd> {
    site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "drill"}})).await?;
    let spec = json!({"access": [{"name": "watcher", "read": ["devices/#"]}]});
    site.apply::<MqttBroker>("mosquitto", site.broker_spec(spec)).await?;
    let names: Vec<_> = (1..=bystanders).map(|number| format!("device{number:03}")).collect();
    let mut all = vec!["watcher".to_owned()];
    all.extend(names.iter().chain(others).cloned());
    enrol(site, &all, &json!({})).await?;
    site.ready::<MqttBroker>("mosquitto").await?;
    let broker = site.broker_address("mosquitto").await?;
    let secrets = Secrets::follow(site);
    let listener = Listener::open(secrets.observer(broker.clone(), "watcher").await?, Duration::ZERO).await?;
    let mut crowd = Crowd { broker, listener, bystanders: Vec::new(), _secrets: secrets };
    for name in &names {
        let device = crowd.join(site, name, RUDE).await?;
        crowd.bystanders.push(device);
    }
    Ok(crowd)
}

/// Makes devices, and waits until each is Ready.
pub(crate) async fn enrol(site: &Site, names: &[String], spec: &Value) -> Result<()> {
    stream::iter(names)
        .map(|name| async move {
            site.apply::<IotDevice>(name, spec.clone()).await?;
            site.ready::<IotDevice>(name).await?;
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<_>>()
        .await?;
    Ok(())
}

impl Crowd {
    /// Connects a device, and returns when its first reading was heard.
    pub(crate) async fn join(&self, site: &Site, name: &str, pace: Pace) -> Result<Stubborn> {
        let identity = site.identity::<IotDevice>(name).await?;
        let device = Stubborn::start(name, &self.broker, &identity, pace)?;
        eventually(format_args!("{name} is heard"), PATIENCE, async || {
            ensure!(device.diary().refused.is_empty(), "{:?}", device.diary().refused);
            Ok(self.listener.last_reading(name))
        })
        .await?;
        Ok(device)
    }

    /// Puts into the table what those have suffered to whom nothing was done.
    pub(crate) async fn bystanders_figures(&self, figures: &mut Figures) -> Result<()> {
        let (mut missing, mut readings, mut cuts) = (0, 0, 0);
        for device in &self.bystanders {
            let diary = device.diary();
            let (first, last) = diary.sent.unwrap_or_default();
            let all = eventually("all readings are heard", DELIVERED_WITHIN, async || {
                Ok((self.listener.voice(&device.name).missing(first, last) == 0).then_some(()))
            });
            if all.await.is_err() {
                missing += self.listener.voice(&device.name).missing(first, last);
            }
            readings += last + 1 - first;
            cuts += diary.cut.len() + diary.accepted.len().saturating_sub(1);
        }
        figures.note("readings of the other devices", readings);
        figures.exactly("readings of the other devices that are missing", 0, missing);
        figures.exactly("sessions of the other devices that ended", 0, cuts);
        figures.exactly("sessions of the listener that ended", 0, self.listener.losses().len());
        Ok(())
    }
}

/// What a device has gone through since `from`.
pub(crate) struct KeptOut {
    /// Until its session ended.
    pub(crate) cut: Duration,
    /// Until it was refused for the first time.
    pub(crate) refused: Duration,
    /// In these words.
    pub(crate) how: String,
}

/// Waits until the device's session has ended and the broker refuses it.
pub(crate) async fn kept_out(device: &Stubborn, from: Instant, within: Duration) -> Result<KeptOut> {
    eventually(format_args!("{} is cut and refused", device.name), within, async || {
        let diary = device.diary();
        let Some((cut, _)) = diary.cut.iter().find(|(at, _)| *at > from) else { return Ok(None) };
        let Some((refused, how)) = diary.refused_after(*cut) else { return Ok(None) };
        Ok(Some(KeptOut { cut: *cut - from, refused: *refused - from, how: how.clone() }))
    })
    .await
}
