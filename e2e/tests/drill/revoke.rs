//! A revoked device is cut off and kept out, in seconds, while it tries everything to stay, and nobody else notices.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use api::{IotDevice, RootCA};
use e2e::{
    Site,
    figures::{Figures, Times, figures, time},
    observer::Observer,
    patience::eventually,
    site,
    site::PATIENCE,
    stubborn::Pace,
};
use serde_json::{Value, json};

use crate::crowd::{RUDE, gather, kept_out};

/// How often a revocation is tried, one after the other.
const TRIES: usize = 30;

const MEDIAN: Duration = Duration::from_secs(2);
const P95: Duration = Duration::from_secs(4);

/// After it was refused, it goes on trying for so long.
const STAYS_OUT_FOR: Duration = Duration::from_secs(1);

/// How many are revoked at once, and how soon all of them are out.
const AT_ONCE: usize = 50;
const ALL_OUT_WITHIN: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a drill: cargo xtask drill revoke"]
async fn one_of_a_hundred_is_cut_and_kept_out() -> Result<()> {
    site("revoke", async |site| {
        let subject = format!("One of 100 connected devices revoked, {TRIES} times");
        figures(&subject, async |figures| {
            let observer = Observer::start(site).await?;
            let victims: Vec<_> = (1..=TRIES).map(|number| format!("victim{number:02}")).collect();
            let crowd = gather(site, 99, &victims).await?;
            let (mut cuts, mut refusals, mut ways) = (Times::default(), Times::default(), BTreeSet::new());
            let (mut back, mut heard_after, mut untold) = (0, 0, 0);
            for name in &victims {
                let victim = crowd.join(site, name, RUDE).await?;
                let from = Instant::now();
                patch(site, name, &json!({"revoked": {"reason": "keyCompromise", "message": "a drill"}}))
                    .await?;
                let out = kept_out(&victim, from, PATIENCE).await?;
                // it goes on trying: whoever slips back in does so now
                tokio::time::sleep(STAYS_OUT_FOR).await;
                cuts.push(out.cut);
                refusals.push(out.refused);
                ways.insert(out.how);
                let diary = victim.diary();
                back += diary.accepted.len() - 1;
                let last = diary.last_before_cut.unwrap_or_default();
                heard_after += crowd.listener.voice(name).readings.range(last + 1..).count();
                untold += usize::from(!story_is_told(site, name, "Revoked").await?);
            }
            out_figures(figures, "kubectl patch", &cuts, &refusals)?;
            figures.note("the broker refused with", ways.into_iter().collect::<Vec<_>>().join("; "));
            figures.exactly("times that a revoked device came back in", 0, back);
            figures.exactly("messages accepted after the cut", 0, heard_after);
            figures.exactly(
                "devices whose status does not tell listed, loaded and cut in this order",
                0,
                untold,
            );
            crowd.bystanders_figures(figures).await?;
            observer.stop().await?.figure(figures);
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a drill: cargo xtask drill revoke"]
async fn suspended_is_out_and_resumed_is_in_with_the_same_certificate() -> Result<()> {
    site("suspend", async |site| {
        let subject = format!("One of 100 connected devices suspended and resumed, {TRIES} times");
        figures(&subject, async |figures| {
            let observer = Observer::start(site).await?;
            let name = "victim".to_owned();
            let crowd = gather(site, 99, std::slice::from_ref(&name)).await?;
            let before = site.identity::<IotDevice>(&name).await?.certificate()?;
            let victim = crowd.join(site, &name, RUDE).await?;
            let [mut cuts, mut refusals, mut returns] = [(); 3].map(|()| Times::default());
            let (mut back, mut untold) = (0, 0);
            for _ in 0..TRIES {
                let accepted = victim.diary().accepted.len();
                let from = Instant::now();
                patch(site, &name, &json!({"suspended": true})).await?;
                let out = kept_out(&victim, from, PATIENCE).await?;
                tokio::time::sleep(STAYS_OUT_FOR).await;
                back += victim.diary().accepted.len() - accepted;
                cuts.push(out.cut);
                refusals.push(out.refused);
                untold += usize::from(!story_is_told(site, &name, "Suspended").await?);

                let from = Instant::now();
                patch(site, &name, &json!({"suspended": false})).await?;
                let returned = eventually("it is in again", PATIENCE, async || {
                    Ok(victim.diary().accepted.iter().copied().find(|at| *at > from))
                });
                returns.push(returned.await? - from);
                let valid = |device: &IotDevice| {
                    use e2e::site::Reported as _;
                    device.is_ready()
                };
                site.wait(&name, PATIENCE, "Ready again", valid).await?;
            }
            out_figures(figures, "kubectl patch of suspended", &cuts, &refusals)?;
            figures.at_most(
                "resumed: from kubectl patch until it is accepted, median",
                MEDIAN,
                returns.median()?,
            );
            figures.at_most("resumed, p95", P95, returns.percentile(95)?);
            figures.exactly("times that a suspended device came back in", 0, back);
            figures.exactly(
                "suspensions whose status does not tell listed, loaded and cut in this order",
                0,
                untold,
            );
            let after = site.identity::<IotDevice>(&name).await?.certificate()?;
            figures.bounded("the certificate is the same as before", "yes", after.serial(), after == before);
            crowd.bystanders_figures(figures).await?;
            observer.stop().await?.figure(figures);
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a drill: cargo xtask drill revoke"]
async fn fifty_in_one_apply_are_one_or_two_lists() -> Result<()> {
    site("revoke-many", async |site| {
        let subject = format!("{AT_ONCE} of 100 connected devices revoked in one kubectl apply");
        figures(&subject, async |figures| {
            let observer = Observer::start(site).await?;
            let names: Vec<_> = (1..=AT_ONCE).map(|number| format!("victim{number:02}")).collect();
            let crowd = gather(site, 50, &names).await?;
            let mut victims = Vec::new();
            for name in &names {
                // fifty that are back twenty times a second would be a thousand handshakes, more than two cores do
                victims
                    .push(crowd.join(site, name, Pace { retry: Duration::from_millis(500), ..RUDE }).await?);
            }
            let before = crl_number(site).await?;
            let devices: Vec<_> = names.iter().map(|name| revoked(name)).collect();
            let list = json!({"apiVersion": "v1", "kind": "List", "items": devices});

            let from = Instant::now();
            let apply = ["apply", "--server-side", "--force-conflicts", "--filename=-"];
            site.kubectl_program().args(apply).input(list.to_string()).succeeds().await?;
            let applied = from.elapsed();
            let (mut cuts, mut refusals) = (Times::default(), Times::default());
            let (mut back, mut heard_after) = (0, 0);
            for victim in &victims {
                let out = kept_out(victim, from, PATIENCE).await?;
                cuts.push(out.cut);
                refusals.push(out.refused);
            }
            tokio::time::sleep(STAYS_OUT_FOR).await;
            for victim in &victims {
                let diary = victim.diary();
                back += diary.accepted.len() - 1;
                let last = diary.last_before_cut.unwrap_or_default();
                heard_after += crowd.listener.voice(&victim.name).readings.range(last + 1..).count();
            }
            figures.note("kubectl apply took", time(applied));
            figures.at_most(
                "from the start of kubectl apply until all are cut",
                ALL_OUT_WITHIN,
                cuts.longest()?,
            );
            figures.note("until all are cut, and were refused", time(refusals.longest()?));
            let lists = crl_number(site).await? - before;
            figures.bounded("CRL numbers used", "1 or 2", lists, (1..=2).contains(&lists));
            figures.exactly("times that a revoked device came back in", 0, back);
            figures.exactly("messages accepted after the cut", 0, heard_after);
            crowd.bystanders_figures(figures).await?;
            observer.stop().await?.figure(figures);
            Ok(())
        })
        .await
    })
    .await
}

fn out_figures(figures: &mut Figures, from: &str, cuts: &Times, refusals: &Times) -> Result<()> {
    figures.note(format_args!("from {from} until the session is cut"), cuts.summary()?);
    figures.at_most(format_args!("from {from} until cut and refused, median"), MEDIAN, refusals.median()?);
    figures.at_most(format_args!("from {from} until cut and refused, p95"), P95, refusals.percentile(95)?);
    figures.note(format_args!("from {from} until cut and refused"), refusals.summary()?);
    Ok(())
}

/// As a user does it: the time that kubectl takes counts.
async fn patch(site: &Site, name: &str, spec: &Value) -> Result<()> {
    let patch = json!({"spec": spec}).to_string();
    site.kubectl(&["patch", "iotdevice", name, "--type=merge", "--patch", &patch]).await?;
    Ok(())
}

fn revoked(name: &str) -> Value {
    json!({
        "apiVersion": "ca-iot.dev/v1alpha1",
        "kind": "IotDevice",
        "metadata": {"name": name},
        "spec": {"revoked": {"reason": "cessationOfOperation"}},
    })
}

async fn crl_number(site: &Site) -> Result<i64> {
    let root = site.api::<RootCA>().get("root-ca").await?;
    Ok(root.status.and_then(|status| status.crl).context("no CRL is told")?.number)
}

/// Whether the status comes to tell that the device is out, and each step that was confirmed, in this order.
async fn story_is_told(site: &Site, name: &str, state: &str) -> Result<bool> {
    let told = eventually("its story is told", Duration::from_secs(10), async || {
        let device = site.kubectl(&["get", "iotdevice", name, "--output=json"]).await?;
        let status = &serde_json::from_str::<Value>(&device)?["status"];
        let step = |field: &str| status["revocation"][field].as_str()?.parse::<jiff::Timestamp>().ok();
        let steps = (step("listedAt"), step("loadedAt"), step("sessionCutAt"));
        let in_order =
            matches!(steps, (Some(listed), Some(loaded), Some(cut)) if listed <= loaded && loaded <= cut);
        Ok((status["state"] == state && in_order).then_some(()))
    });
    Ok(told.await.is_ok())
}
