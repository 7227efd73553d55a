//! Drills whose judge is a real browser: scripts of dashboard/browser-tests against a site made here.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use api::{Dashboard, IotDevice, MqttBroker, RootCA};
use e2e::{Site, environment, program};
use serde::de::DeserializeOwned;
use serde_json::json;

const TESTS: &str = "dashboard/browser-tests";
/// npm brings what is not there yet.
const PREPARE: Duration = Duration::from_mins(5);

/// A site whose broker lets the device `load` speak for all others.
pub(crate) async fn complete(site: &Site) -> Result<()> {
    site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "drill"}})).await?;
    site.ready::<RootCA>("root-ca").await?;
    let access = json!({"access": [{"name": "load", "write": ["devices/#"]}]});
    site.apply::<MqttBroker>("mosquitto", site.broker_spec(access)).await?;
    site.apply::<Dashboard>("dashboard", json!({"service": {"type": "NodePort"}})).await?;
    site.apply::<IotDevice>("load", json!({})).await?;
    site.ready::<MqttBroker>("mosquitto").await?;
    site.ready::<Dashboard>("dashboard").await?;
    site.ready::<IotDevice>("load").await?;
    Ok(())
}

/// Runs `script` with the variables that name the site, and `variables`; returns what it has left in the file `OUT`.
pub(crate) async fn run<T: DeserializeOwned>(
    site: &Site,
    script: &str,
    variables: &[(&str, String)],
    within: Duration,
) -> Result<T> {
    let folder = environment::workspace().join(TESTS);
    let npm = program("npm").args(["ci", "--no-audit", "--no-fund", "--silent"]);
    npm.in_folder(&folder).within(PREPARE).succeeds().await?;
    let out = site.folder()?.join("figures.json");
    let of_site = [
        ("DASHBOARD_URL", format!("http://{}", site.page_address("dashboard").await?)),
        ("BROKER", site.broker_address("mosquitto").await?.to_string()),
        ("NAMESPACE", site.namespace.clone()),
        ("OUT", out.display().to_string()),
    ];
    let variables = of_site.iter().chain(variables).map(|(name, value)| format!("{name}={value}"));
    let node = program("env").args(variables).args(["node", script]);
    node.in_folder(&folder).within(within).succeeds().await?;
    let text = fs::read_to_string(&out).with_context(|| format!("{script} has left no figures"))?;
    Ok(serde_json::from_str(&text)?)
}
