//! `Dashboard` → a Secret with a client certificate, and a web page that uses it.

use std::sync::Arc;

use api::Dashboard;
use api::conditions::{Reason, Verdict};
use kube::ResourceExt as _;
use kube::runtime::controller::Action;

use crate::certificate::request::{Request, Role};
use crate::certificate::{self, Outcome, Standing, report};
use crate::cluster::Written;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::pods;
use crate::roots::Kind;
use crate::workloads::{broker_service, dashboard_access, dashboard_deployment, dashboard_service};

/// Makes `dashboard` what it should be.
pub async fn reconcile(dashboard: Arc<Dashboard>, context: Arc<Context>) -> Result<Action> {
    let asked = Request::parse(&*dashboard, role(&dashboard));
    let Some(mut outcome) = certificate::keep_valid(&context, &*dashboard, asked, Standing::InForce).await?
    else {
        return Ok(Action::await_change());
    };
    let worked = run_page(&dashboard, &context, &mut outcome).await;

    if let Some(refusal) = worked.as_ref().err().and_then(Error::refusal) {
        outcome.ready = Verdict::no(Reason::ApplyRefused, refusal);
    }
    let now = context.now();
    let status = report::status(&outcome, dashboard.status.as_ref(), dashboard.metadata.generation, now);
    let news = dashboard.status.as_ref() != Some(&status);
    certificate::tell(&context, &*dashboard, &outcome, &status, news, &status).await?;
    worked?;
    Ok(report::look_again_in(&outcome, now).map_or_else(Action::await_change, Action::requeue))
}

/// The dot keeps it apart from every device.
fn role(dashboard: &Dashboard) -> Role {
    let common_name = format!("{}.dashboard", dashboard.name_any());
    Role { common_name, kind: Kind::Dashboard, csr: None, dns_names: Vec::new(), ip_addresses: Vec::new() }
}

async fn run_page(dashboard: &Dashboard, context: &Context, outcome: &mut Outcome) -> Result<()> {
    let namespace = dashboard.namespace().unwrap_or_default();
    let Some(secret) = outcome.current.as_ref().map(|current| current.certificate.secret_name.clone()) else {
        return Ok(());
    };
    let broker = match context.objects.broker(&namespace, dashboard.spec.broker_ref.as_ref()) {
        Ok(broker) => broker,
        Err(verdict) => {
            outcome.ready = verdict;
            return Ok(());
        }
    };
    let address = broker_service::address(&broker);
    let cluster = &context.cluster;
    let written = [
        cluster.apply(&dashboard_access::service_account(dashboard)).await?,
        cluster.apply(&dashboard_access::role(dashboard)).await?,
        cluster.apply(&dashboard_access::role_binding(dashboard)).await?,
        cluster.apply(&dashboard_service::service(dashboard)).await?,
        cluster
            .apply(&dashboard_deployment::deployment(dashboard, &address, &secret, &context.images))
            .await?,
    ];
    if let Some(foreign) = written.into_iter().find_map(Written::foreign) {
        outcome.ready = Verdict::no(Reason::NameTaken, foreign.to_string());
        return Ok(());
    }
    cluster.touch_pods(dashboard, &secret).await?;
    if outcome.ready.holds && pods::ready(&cluster.pods_of(dashboard).await?).is_none() {
        outcome.ready = pods::waiting(dashboard);
    }
    Ok(())
}
