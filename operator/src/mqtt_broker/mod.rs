//! `MqttBroker` → a Secret with a server certificate, and a Mosquitto that uses it.

mod loaded;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use api::conditions::{Reason, Verdict};
use api::{BrokerStatus, Loaded, MqttBroker, names};
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use pki::Usage;

use crate::certificate::request::{Request, Role};
use crate::certificate::{self, Outcome, report};
use crate::cluster::Written;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::pods;
use crate::workloads::{broker_config, broker_deployment, broker_service, broker_storage};

/// How often the broker is asked while it does not use its new certificate yet.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long a new certificate may take to be in use: a mounted Secret is seen within 90 s even when nobody touches the pod.
const LOADED_WITHIN: Duration = Duration::from_secs(90);

/// Makes `broker` what it should be.
pub async fn reconcile(broker: Arc<MqttBroker>, context: Arc<Context>) -> Result<Action> {
    let asked = Request::parse(&*broker, role(&broker));
    let Some(mut outcome) = certificate::keep_valid(&context, &*broker, asked).await? else {
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
        usage: Usage::Server,
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
    if outcome.written {
        cluster.touch_pods(broker, now).await?;
    }
    let pods = cluster.pods_of(broker).await?;
    let Some(pod) = pods::ready(&pods) else {
        if outcome.ready.holds {
            outcome.ready = pods::waiting(broker);
        }
        return Ok(());
    };
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let wanted = current.certificate.serial_number.as_str();
    match loaded::ask(address.as_deref()).await {
        Ok(answer) => {
            let problem = answer.problem.clone();
            *loaded = answer.into_status().or(loaded.take());
            if loaded.as_ref().map(|loaded| loaded.serial_number.as_str()) != Some(wanted) {
                let problem = problem.unwrap_or_else(|| format!("certificate {wanted} is not in use yet"));
                not_loaded(outcome, current.certificate.not_before.0, &problem, now);
            } else if let Some(problem) = problem {
                outcome.degraded = Some(Verdict::yes(Reason::NotLoaded, problem));
                outcome.retry_in = Some(outcome.retry_in.unwrap_or(LOADED_WITHIN).min(LOADED_WITHIN));
            }
        }
        Err(problem) => not_loaded(outcome, current.certificate.not_before.0, &problem, now),
    }
    Ok(())
}

/// A certificate that was just issued may take its time; after that it is worth telling.
fn not_loaded(outcome: &mut Outcome, not_before: Timestamp, problem: &str, now: Timestamp) {
    let late = now > not_before + pki::BACKDATE + LOADED_WITHIN;
    if late {
        outcome.degraded = Some(Verdict::yes(Reason::NotLoaded, format!("the running broker: {problem}")));
    }
    let again = if late { ASK_AGAIN * 15 } else { ASK_AGAIN };
    outcome.retry_in = Some(outcome.retry_in.unwrap_or(again).min(again));
}
