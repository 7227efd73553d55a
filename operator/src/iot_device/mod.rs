//! `IotDevice` → a Secret with a client certificate; on request a simulated thermometer that uses it.

pub mod revocation;

use std::sync::Arc;

use api::conditions::{Reason, Verdict};
use api::{IotDevice, names};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;

use crate::certificate::request::{Request, Role};
use crate::certificate::{self, Outcome, report};
use crate::cluster::Written;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::roots::Kind;
use crate::workloads::{broker_service, thermometer};

/// Makes `device` what it should be.
pub async fn reconcile(device: Arc<IotDevice>, context: Arc<Context>) -> Result<Action> {
    let asked = Request::parse(&*device, role(&device));
    let standing = revocation::standing(&device);
    let Some(mut outcome) = certificate::keep_valid(&context, &*device, asked, standing).await? else {
        return Ok(Action::await_change());
    };
    revocation::advance(&device, &context, &mut outcome, context.now());
    let worked = run_thermometer(&device, &context, &mut outcome).await;

    if let Some(refusal) = worked.as_ref().err().and_then(Error::refusal) {
        outcome.degraded = Some(Verdict::yes(Reason::ApplyRefused, refusal));
    }
    let now = context.now();
    let status = report::status(&outcome, device.status.as_ref(), device.metadata.generation, now);
    certificate::tell(
        &context,
        &*device,
        &outcome,
        &status,
        device.status.as_ref() != Some(&status),
        &status,
    )
    .await?;
    worked?;
    Ok(report::look_again_in(&outcome, now).map_or_else(Action::await_change, Action::requeue))
}

/// A device's common name is its name: one DNS label, which no other kind's is.
fn role(device: &IotDevice) -> Role {
    Role {
        common_name: device.name_any(),
        kind: Kind::Device,
        csr: device.spec.csr.clone(),
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
    }
}

async fn run_thermometer(device: &IotDevice, context: &Context, outcome: &mut Outcome) -> Result<()> {
    let namespace = device.namespace().unwrap_or_default();
    if device.spec.thermometer.is_none() {
        let name = names::owned::<IotDevice>(&device.name_any());
        return context.cluster.delete::<Deployment>(&namespace, &name).await;
    }
    // Without its Secret the pod would only wait for it, and longer than need be.
    let Some(secret) = outcome.current.as_ref().map(|current| current.certificate.secret_name.clone()) else {
        return Ok(());
    };
    let broker = match context.objects.broker(&namespace, device.spec.broker_ref.as_ref()) {
        Ok(broker) => broker,
        Err(verdict) => {
            outcome.degraded = Some(Verdict { holds: true, ..verdict });
            return Ok(());
        }
    };
    let address = broker_service::address(&broker);
    if let Some(deployment) = thermometer::deployment(device, &address, &secret, &context.images)
        && let Written::Foreign(foreign) = context.cluster.apply(&deployment).await?
    {
        outcome.degraded = Some(Verdict::yes(Reason::NameTaken, foreign.to_string()));
    }
    context.cluster.touch_pods(device, &secret).await
}
