//! `MqttBroker` → a Secret with a server certificate, and a Mosquitto that uses it.

mod loaded;
mod wanted;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use api::conditions::{Reason, Verdict};
use api::{BrokerStatus, Loaded, MqttBroker, names};
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;

use self::wanted::Wanted;
use crate::certificate::request::{self, Request, Role};
use crate::certificate::{self, Outcome, Standing, report};
use crate::cluster::Written;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::fleet;
use crate::iot_device::revocation;
use crate::key::Key;
use crate::pods;
use crate::roots::{Kind, UsableRoot};
use crate::workloads::{broker_config, broker_deployment, broker_service, broker_storage};

/// How often the broker is asked while it does not use yet what its Secret holds.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// How often it is asked when that takes longer than it should.
const ASK_SELDOM: Duration = Duration::from_secs(15);
/// How long it may take: a mounted Secret is seen within 90 s even when nobody touches the pod.
const LOADED_WITHIN: Duration = Duration::from_secs(90);

/// Makes `broker` what it should be.
pub async fn reconcile(broker: Arc<MqttBroker>, context: Arc<Context>) -> Result<Action> {
    let asked = Request::parse(&*broker, role(&broker));
    let Some(mut outcome) = certificate::keep_valid(&context, &*broker, asked, Standing::InForce).await?
    else {
        return Ok(Action::await_change());
    };
    let before = broker.status.as_ref();
    let mut loaded = before.and_then(|status| status.loaded.clone());
    let worked = run_mosquitto(&broker, &context, &mut outcome, &mut loaded).await;

    if let Some(refusal) = worked.as_ref().err().and_then(Error::refusal) {
        outcome.ready = Verdict::no(Reason::ApplyRefused, refusal);
    }
    let now = context.now();
    let holder =
        report::status(&outcome, before.map(|status| &status.holder), broker.metadata.generation, now);
    let endpoint = Some(broker_service::address(&broker));
    let status = BrokerStatus { holder, endpoint, loaded };
    certificate::tell(&context, &*broker, &outcome, &status.holder, before != Some(&status), &status).await?;
    worked?;
    Ok(report::look_again_in(&outcome, now).map_or_else(Action::await_change, Action::requeue))
}

/// The names of its Service, most complete first, and this machine's: what clients inside and `kubectl port-forward` use.
fn role(broker: &MqttBroker) -> Role {
    let name = broker.name_any();
    let namespace = broker.namespace().unwrap_or_default();
    let service = names::owned::<MqttBroker>(&name);
    Role {
        common_name: format!("{name}.broker"),
        kind: Kind::Broker,
        csr: None,
        dns_names: vec![
            names::broker_host(&name, &namespace),
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}"),
            service,
            "localhost".to_owned(),
        ],
        ip_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
    }
}

async fn run_mosquitto(
    broker: &MqttBroker,
    context: &Context,
    outcome: &mut Outcome,
    loaded: &mut Option<Loaded>,
) -> Result<()> {
    let Some(current) = outcome.current.clone() else { return Ok(()) };
    let secret = &current.certificate.secret_name;
    let cluster = &context.cluster;
    let dashboards: BTreeSet<String> = context.objects.dashboards_in(&broker.namespace().unwrap_or_default());
    let mut written = vec![
        cluster.apply(&broker_config::config_map(broker, &dashboards)).await?,
        cluster.apply(&broker_service::service(broker)).await?,
    ];
    if let Some(claim) = broker_storage::claim(broker) {
        written.push(cluster.apply(&claim).await?);
    }
    written.push(cluster.apply(&broker_deployment::deployment(broker, secret, &context.images)).await?);
    if let Some(foreign) = written.into_iter().find_map(Written::foreign) {
        outcome.ready = Verdict::no(Reason::NameTaken, foreign.to_string());
        return Ok(());
    }

    let now = context.now();
    let name = broker.name_any();
    let namespace = broker.namespace().unwrap_or_default();
    let root = request::root_of(context, &namespace, broker);
    // A spec that cannot be fulfilled must not have the broker run out of CRLs: it would refuse every device.
    let in_order = outcome.ready.holds && outcome.retry_in.is_none();
    if !in_order && let Some(root) = &root {
        certificate::keep_trust(context, broker, secret, root).await?;
    }
    cluster.touch_pods(broker, secret).await?;
    let pods = cluster.pods_of(broker).await?;
    let Some(pod) = pods::ready(&pods) else {
        if outcome.ready.holds {
            outcome.ready = pods::waiting(broker);
        }
        return Ok(());
    };
    let Some(root) = root else { return Ok(()) };
    let sidecar = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let wanted = Wanted::of(&current.certificate.serial_number, &root);
    let answer = match &*loaded {
        // A mounted Secret takes its time. A CRL proves itself, so the broker need not wait for it.
        Some(loaded) if !wanted.crls_are_in(loaded) => {
            loaded::push_crls(sidecar.as_deref(), &root.crls).await
        }
        _ => loaded::ask(sidecar.as_deref()).await,
    };
    match answer {
        Ok(answer) => {
            let problem = answer.problem.clone();
            *loaded = answer.into_status().or(loaded.take());
            if let Some(loaded) = &*loaded
                && context.fleet.note_loaded(&namespace, &name, loaded)
            {
                revocation::wake(context, &namespace);
                context.triggers.departures();
            }
            match loaded
                .as_ref()
                .map_or(Some("nothing is in use yet".to_owned()), |loaded| wanted.missing_in(loaded))
            {
                None => {
                    context.waiting.over(&Key::of::<MqttBroker>(&namespace, &name));
                    if let Some(problem) = problem {
                        outcome.degraded = Some(Verdict::yes(Reason::NotLoaded, problem));
                        ask_again_in(outcome, LOADED_WITHIN);
                    }
                }
                Some(missing) => not_loaded(broker, context, outcome, &problem.unwrap_or(missing), now),
            }
        }
        Err(problem) => not_loaded(broker, context, outcome, &problem, now),
    }
    follow(broker, context, outcome, &root, now);
    Ok(())
}

/// Hears what devices acknowledge at a broker that runs.
fn follow(broker: &MqttBroker, context: &Context, outcome: &mut Outcome, root: &UsableRoot, now: Timestamp) {
    let (namespace, name) = (broker.namespace().unwrap_or_default(), broker.name_any());
    let Some(address) = fleet::address(broker) else { return };
    match context.fleet.follow(&namespace, &name, &address, root, now) {
        Ok(renew_at) => {
            outcome.look_at = Some(outcome.look_at.map_or(renew_at, |look_at| look_at.min(renew_at)));
        }
        Err(problem) => {
            tracing::warn!(%namespace, broker = %name, %problem, "no session with the broker");
            outcome.degraded = Some(Verdict::yes(Reason::NotLoaded, problem));
        }
    }
}

/// What was written just now may take its time; after that it is worth telling.
fn not_loaded(broker: &MqttBroker, context: &Context, outcome: &mut Outcome, problem: &str, now: Timestamp) {
    let key = Key::of::<MqttBroker>(&broker.namespace().unwrap_or_default(), &broker.name_any());
    let since = context.waiting.since(&key, now);
    let late = now > since + LOADED_WITHIN;
    if late {
        outcome.degraded = Some(Verdict::yes(Reason::NotLoaded, format!("the running broker: {problem}")));
    }
    ask_again_in(outcome, if late { ASK_SELDOM } else { ASK_AGAIN });
}

fn ask_again_in(outcome: &mut Outcome, wait: Duration) {
    outcome.retry_in = Some(outcome.retry_in.unwrap_or(wait).min(wait));
}
