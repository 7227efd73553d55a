//! The operator is killed, again and again, in the middle of its work on many devices; everything ends as it should be.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use api::{IotDevice, RootCA, names};
use e2e::{
    Site, environment,
    figures::{Figures, figures, time},
    observer::Observer,
    operator_pod,
    patience::eventually,
    site::{Reported as _, empty_site},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Pod, Secret},
};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const DEVICES: usize = 300;
const KILLS: usize = 50;
/// How many things users do at a time.
const AT_ONCE: usize = 16;
/// The latest moment of a kill after users have begun to write.
const WITHIN_MS: u64 = 600;
const SETTLED_WITHIN: Duration = Duration::from_mins(5);

/// What users want to be there: the spec of each device.
type Wanted = BTreeMap<String, Value>;

/// What a user does to a device.
#[derive(Clone, Copy)]
enum Wish {
    Create,
    Change,
    Renew,
    Delete,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a drill: cargo xtask drill sigkill"]
async fn killed_at_fifty_moments_among_three_hundred_devices() -> Result<()> {
    empty_site("sigkill", async |site| {
        site.install_for_production(&environment::chart(), &json!({"site": {"enabled": false}})).await?;
        figures("SIGKILL at random moments", async |figures| {
            site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "drill"}})).await?;
            site.ready::<RootCA>("root-ca").await?;
            let root = site.root_key("root-ca").await?.certificate().fingerprint();
            let observer = Observer::start(site).await?;
            let from = Instant::now();
            let wanted = work_and_kill(site, figures).await?;
            let settling = Instant::now();
            let found = settled(site, &wanted).await?;
            figures.note("all of it took", time(from.elapsed()));
            figures.at_most(
                "from the last kill until all is as it should be",
                SETTLED_WITHIN,
                settling.elapsed(),
            );
            figures.exactly(
                "devices with exactly one Secret, whose pair fits and is what status tells",
                wanted.len(),
                found,
            );
            let secrets =
                site.api::<Secret>().list(&ListParams::default().labels(&names::managed_selector())).await?;
            let mut kept: BTreeSet<_> = wanted.keys().map(|name| names::owned::<IotDevice>(name)).collect();
            kept.insert("rootca-root-ca".to_owned());
            let orphans = secrets.iter().filter(|secret| !kept.contains(&secret.name_any())).count();
            figures.exactly("orphaned Secrets", 0, orphans);
            let verdict = observer.stop().await?;
            figures.exactly("roots that were ever there", 1, verdict.roots);
            figures.bounded(
                "the root is the first one",
                "yes",
                "",
                site.root_key("root-ca").await?.certificate().fingerprint() == root,
            );
            figures.note("certificates issued", verdict.certificates);
            verdict.figure(figures);
            Ok(())
        })
        .await
    })
    .await
}

/// Users create, change, renew and delete; the leader is killed while they do. What they want in the end.
async fn work_and_kill(site: &Site, figures: &mut Figures) -> Result<Wanted> {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    figures.note("seed", seed);
    let (mut wanted, mut made, mut done, mut killed) = (Wanted::new(), 0, [0_usize; 4], 0);
    for kill in 0..KILLS {
        let mut wishes: Vec<(Wish, String, Value)> = Vec::new();
        while made < DEVICES * (kill + 1) / KILLS {
            made += 1;
            wishes.push((Wish::Create, format!("device{made:03}"), json!({})));
        }
        let mut touched = BTreeSet::new();
        for _ in 0..6 {
            let Some(place) = (!wanted.is_empty()).then(|| random.usize(..wanted.len())) else { break };
            let Some((name, spec)) =
                wanted.iter().nth(place).map(|(name, spec)| (name.clone(), spec.clone()))
            else {
                break;
            };
            if !touched.insert(name.clone()) {
                continue;
            }
            let number = random.u32(..);
            let mut changed = spec;
            let wish = match random.u8(..8) {
                0 => Wish::Delete,
                1..=3 => {
                    changed["dnsNames"] = json!([format!("n{number}.example")]);
                    Wish::Change
                }
                _ => {
                    changed["renewal"] = json!({"trigger": number.to_string()});
                    Wish::Renew
                }
            };
            wishes.push((wish, name, changed));
        }
        for (wish, name, spec) in &wishes {
            done[*wish as usize] += 1;
            match wish {
                Wish::Delete => drop(wanted.remove(name)),
                Wish::Create | Wish::Change | Wish::Renew => drop(wanted.insert(name.clone(), spec.clone())),
            }
        }
        let leader = operator_pod::wait_for_leader(site).await?;
        let process = operator_pod::process(site, &leader).await?;
        let moment = Duration::from_millis(random.u64(..WITHIN_MS));
        let (written, struck) = tokio::join!(fulfil(site, wishes), async {
            sleep(moment).await;
            process.signal("SIGKILL").await?;
            clear_away(site, &leader).await
        });
        written?;
        struck.with_context(|| format!("kill {kill}"))?;
        killed += 1;
    }
    figures.exactly("SIGKILLs of the leader", KILLS, killed);
    let [created, changed, renewed, deleted] = done;
    figures.note(
        "devices created / changed / renewed / deleted",
        format_args!("{created} / {changed} / {renewed} / {deleted}"),
    );
    Ok(wanted)
}

async fn fulfil(site: &Site, wishes: Vec<(Wish, String, Value)>) -> Result<()> {
    stream::iter(wishes)
        .map(|(wish, name, spec)| async move {
            match wish {
                Wish::Delete => drop(site.api::<IotDevice>().delete(&name, &DeleteParams::default()).await?),
                Wish::Create | Wish::Change | Wish::Renew => {
                    drop(site.apply::<IotDevice>(&name, spec).await?);
                }
            }
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Takes pod and lease of one that was killed away: Kubernetes would start the pod again later and later, and the other would wait
/// a quarter of a minute, fifty times.
async fn clear_away(site: &Site, leader: &str) -> Result<()> {
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::background() };
    site.api::<Pod>().delete(leader, &now).await?;
    // whoever leads already may have made it anew
    if operator_pod::leader(site).await?.as_deref() == Some(leader) {
        site.api::<Lease>().delete("ca-iot-operator", &DeleteParams::default()).await?;
    }
    Ok(())
}

/// Waits until every device is as it is wanted; how many have a pair that fits and is the one that status tells.
async fn settled(site: &Site, wanted: &Wanted) -> Result<usize> {
    let devices = site.api::<IotDevice>();
    let all = eventually(
        "every device is Ready as it is wanted, and no other is there",
        SETTLED_WITHIN,
        async || {
            let there = devices.list(&ListParams::default()).await?.items;
            let late: Vec<_> =
                there.iter().filter(|device| !device.is_ready()).map(kube::ResourceExt::name_any).collect();
            ensure!(
                there.len() == wanted.len() && late.is_empty(),
                "{} of {}; not Ready: {late:?}",
                there.len(),
                wanted.len()
            );
            let secrets = site
                .api::<Secret>()
                .list(&ListParams::default().labels(&names::managed_selector()))
                .await?
                .items;
            ensure!(secrets.len() == wanted.len() + 1, "{} Secrets", secrets.len());
            Ok(Some((there, secrets)))
        },
    );
    let (there, secrets) = all.await?;
    let secrets: BTreeMap<_, _> = secrets.into_iter().map(|secret| (secret.name_any(), secret)).collect();
    let mut found = 0;
    for device in &there {
        let secret = secrets
            .get(&names::owned::<IotDevice>(&device.name_any()))
            .context("a device without a Secret")?;
        let part = |key| e2e::identity::part(secret, key);
        let files = pki::ClientFiles::check(
            &part("tls.crt")?,
            &part("tls.key")?,
            &part("ca.crt")?,
            jiff::Timestamp::now(),
        )?;
        let told = device.status.as_ref().and_then(|status| status.certificate.as_ref());
        let spec = &wanted[&device.name_any()];
        let names = spec["dnsNames"].as_array().map(Vec::len).unwrap_or_default();
        let as_wanted = files.certificate.dns_names().len() == names
            && spec["dnsNames"]
                .as_array()
                .into_iter()
                .flatten()
                .all(|name| files.certificate.dns_names().iter().any(|dns| name == dns));
        found += usize::from(
            as_wanted
                && told.is_some_and(|told| told.serial_number == files.certificate.serial().to_string()),
        );
    }
    Ok(found)
}
