//! The floor: a client that makes the same writes as a user and the operator together, and does nothing else. No watch, no key,
//! no signature, no second look.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use api::IotDevice;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::{core::v1::Secret, events::v1::Event};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{AT_ONCE, device, device_name};
use crate::Site;

/// What is written for one device; taken from a real one, so that it has the same size.
#[derive(Clone)]
pub(super) struct BareClient {
    devices: Api<IotDevice>,
    secrets: Api<Secret>,
    events: Api<Event>,
    secret: Secret,
    status: Value,
    event: Event,
}

impl BareClient {
    /// Writes into `floor` what the operator of `site` has written for the device `like`.
    pub(super) async fn new(floor: &Site, site: &Site, like: &str) -> Result<Self> {
        let secret = site.secret(&api::names::owned::<IotDevice>(like)).await?;
        let status = site.api::<IotDevice>().get(like).await?.status.context("no status to copy")?;
        let events = site.api::<Event>().list(&kube::api::ListParams::default()).await?;
        let about = |event: &Event| {
            event.regarding.as_ref().is_some_and(|regarding| regarding.name.as_deref() == Some(like))
        };
        let event = events.items.into_iter().find(about).context("no event to copy")?;
        Ok(Self {
            devices: floor.api(),
            secrets: floor.api(),
            events: floor.api(),
            secret,
            status: serde_json::to_value(status)?,
            event,
        })
    }

    /// Creates `count` devices, and for each its Secret and its status, also an Event if `events`.
    pub(super) async fn enrol(&self, count: usize, events: bool) -> Result<Duration> {
        self.all(count, move |this, number| async move {
            let created = this.devices.create(&PostParams::default(), &device(number)).await?;
            let secret = this.secret_of(number, created.controller_owner_ref(&()));
            this.secrets.create(&PostParams::default(), &secret).await?;
            this.report(number).await?;
            if events { this.tell(number, &created).await } else { Ok(()) }
        })
        .await
    }

    /// Asks for a renewal of each of `count` devices, and writes a new Secret and status, also an Event if `events`.
    pub(super) async fn renew(&self, count: usize, trigger: &str, events: bool) -> Result<Duration> {
        let trigger = trigger.to_owned();
        self.all(count, move |this, number| {
            let spec = json!({"spec": {"renewal": {"trigger": trigger.clone()}}});
            async move {
                let name = device_name(number);
                let asked = this.devices.patch(&name, &PatchParams::default(), &Patch::Merge(spec)).await?;
                let secret = this.secret_of(number, None);
                let change =
                    json!({"metadata": {"annotations": secret.annotations()}, "data": secret.data.clone()});
                let name = secret.name_any();
                this.secrets.patch(&name, &PatchParams::default(), &Patch::Merge(change)).await?;
                this.report(number).await?;
                if events { this.tell(number, &asked).await } else { Ok(()) }
            }
        })
        .await
    }

    /// How long `work` takes for all, [`AT_ONCE`] at a time, on as many threads as there are.
    async fn all<F>(
        &self,
        count: usize,
        work: impl Fn(Arc<Self>, usize) -> F + Send + 'static,
    ) -> Result<Duration>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let this = Arc::new(self.clone());
        let from = Instant::now();
        stream::iter(0..count)
            .map(|number| tokio::spawn(work(Arc::clone(&this), number)))
            .buffer_unordered(AT_ONCE)
            .map(|done| done?)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(from.elapsed())
    }

    fn secret_of(
        &self,
        number: usize,
        owner: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference>,
    ) -> Secret {
        let mut labels = self.secret.metadata.labels.clone().unwrap_or_default();
        labels.insert(api::names::LABEL_NAME.to_owned(), device_name(number));
        Secret {
            metadata: ObjectMeta {
                name: Some(api::names::owned::<IotDevice>(&device_name(number))),
                labels: Some(labels),
                annotations: self.secret.metadata.annotations.clone(),
                owner_references: owner.map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            ..self.secret.clone()
        }
    }

    async fn report(&self, number: usize) -> Result<()> {
        let status = json!({"status": &self.status});
        let name = device_name(number);
        self.devices.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
        Ok(())
    }

    async fn tell(&self, number: usize, about: &IotDevice) -> Result<()> {
        let event = Event {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-", device_name(number))),
                ..ObjectMeta::default()
            },
            regarding: Some(about.object_ref(&())),
            ..self.event.clone()
        };
        self.events.create(&PostParams::default(), &event).await?;
        Ok(())
    }
}
