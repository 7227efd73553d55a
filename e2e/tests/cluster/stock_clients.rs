//! Other people's MQTT clients with files from a device's Secret: what works, and what is refused and how.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use api::{IotDevice, MqttBroker, RootCA};
use e2e::{
    Identity, Site, default_site, environment,
    identity::{another_root, sign},
    page::Page,
    patience, program,
    program::{Ended, Program, Running},
    site,
    site::PATIENCE,
};
use jiff::Timestamp;
use link::BrokerAddress;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long a broker that does not want to talk keeps the connection, at most.
const ANSWERED: Duration = Duration::from_secs(10);

/// MQTT 3.1.1, section 3.1: a client of the name `x` opens a clean session; and section 3.14: it leaves.
pub(crate) const CONNECT: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x\xe0\x00";
/// Section 3.2: it was accepted.
pub(crate) const ACCEPTED: &str = "\x20\x02\x00\x00";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn stock_clients_work_through_localhost_with_the_files_of_a_devices_secret() -> Result<()> {
    default_site("stock-clients", async |site| {
        let door = enrol(site, "stock-door").await?;
        let broker = environment::broker()?;
        ensure!(broker.host == "localhost", "the name that is checked here is localhost");
        let page = Page { address: environment::dashboard() };

        let reading = |celsius: f64| {
            let now = Timestamp::now().as_millisecond();
            format!(r#"{{"v":1,"ts":{now},"seq":{now},"celsius":{celsius}}}"#)
        };
        let shows = async |celsius: f64| {
            patience::eventually(format_args!("{celsius} °C is on the page"), PATIENCE, async || {
                let latest = page.latest().await?.remove("stock-door");
                Ok(latest.filter(|latest| (latest.celsius - celsius).abs() < 1e-3))
            })
            .await
        };

        let topic = "devices/stock-door/telemetry";
        mosquitto("mosquitto_pub", &broker, &door)
            .args(["-q", "1", "-t", topic, "-m", &reading(19.5)])
            .succeeds()
            .await?;
        shows(19.5).await?;

        // -E: leave as soon as the subscription is granted
        mosquitto("mosquitto_sub", &broker, &door)
            .args(["-E", "-q", "1", "-t", "cmd/stock-door/#"])
            .succeeds()
            .await?;

        let said = script("paho_client.py", &broker, &door)
            .args([topic, &reading(20.5), "cmd/stock-door/#"])
            .succeeds()
            .await?;
        ensure!(said == "connected: Success\nsubscribed: Granted QoS 1\npublished: True\n", "{said}");
        shows(20.5).await?;

        let ended = s_client(&broker, &door)
            .args(["-verify_hostname", "localhost", "-verify_return_error"])
            .run()
            .await?;
        ensure!(ended.stdout.ends_with(ACCEPTED), "{ended:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn whoever_cannot_prove_who_they_are_is_refused_with_the_right_alert() -> Result<()> {
    default_site("refused", async |site| {
        let door = enrol(site, "refused-door").await?;
        let broker = environment::broker()?;
        let s_client = |identity| s_client(&broker, identity);
        // what follows differs from this in one thing each
        let ended = s_client(&door).run().await?;
        ensure!(ended.stdout.ends_with(ACCEPTED), "{ended:?}");

        let stranger = sign(&another_root()?, "refused-door", Timestamp::now())?;
        let stranger = Identity::signed(&stranger, &door, &site.folder()?)?;
        let root = site.root_key("root-ca").await?;
        let expired = sign(&root, "refused-door", Timestamp::now() - Duration::from_mins(3))?;
        let expired = Identity::signed(&expired, &door, &site.folder()?)?;

        // the numbers are those of RFC 8446, section 6
        let without = openssl(&broker).arg("-CAfile").arg(door.ca()).run().await?;
        is_refused(&without, "SSL alert number 116")?; // certificate_required
        is_refused(&s_client(&stranger).run().await?, "SSL alert number 48")?; // unknown_ca
        is_refused(&s_client(&expired).run().await?, "SSL alert number 45")?; // certificate_expired
        let tls_1_1 = ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"];
        is_refused(&s_client(&door).args(tls_1_1).run().await?, "SSL alert number 70")?; // protocol_version
        let tls_1_2 = s_client(&door).args(["-tls1_2", "-cipher", "DEFAULT@SECLEVEL=0"]).run().await?;
        ensure!(tls_1_2.stdout.ends_with(ACCEPTED), "{tls_1_2:?}");

        for wrong in [&stranger, &expired] {
            publish(&broker, wrong).fails().await?;
        }
        publish(&broker, &door).succeeds().await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn plaintext_gets_no_answer() -> Result<()> {
    default_site("plaintext", async |_| {
        let broker = environment::broker()?;
        let (host, port) = (broker.host.as_str(), broker.port.to_string());
        program("mosquitto_pub")
            .args(["-h", host, "-p", &port, "-t", "devices/x/telemetry", "-m", "x"])
            .fails()
            .await?;

        let mut stream = TcpStream::connect((host, broker.port)).await?;
        stream.write_all(CONNECT).await?;
        let mut answer = Vec::new();
        match timeout(ANSWERED, stream.read_to_end(&mut answer)).await {
            // an alert at most: a TLS record of type 21
            Ok(_) => ensure!(answer.first().is_none_or(|first| *first == 21), "{answer:x?}"),
            Err(_) => bail!("the broker keeps the connection"),
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_broker_under_a_name_that_its_certificate_does_not_bear_is_not_believed() -> Result<()> {
    default_site("other-name", async |site| {
        let door = enrol(site, "name-door").await?;
        let broker = environment::broker()?;
        publish(&broker, &door).succeeds().await?;
        // the same broker, by an address that is not in its certificate
        let by_address = site.broker_address("mosquitto").await?;
        let said = publish(&by_address, &door).arg("-d").fails().await?;
        ensure!(said.contains("certificate verify failed"), "{said}");
        let said = script("paho_client.py", &by_address, &door)
            .args(["devices/name-door/x", "x", "cmd/name-door/#"])
            .fails()
            .await?;
        ensure!(said.contains("IP address mismatch"), "{said}");
        let checked =
            |name| s_client(&broker, &door).args(["-verify_return_error", "-verify_hostname", name]);
        let said = checked("broker.example").fails().await?;
        ensure!(said.contains("hostname mismatch") && !said.ends_with(ACCEPTED), "{said}");
        ensure!(checked("localhost").run().await?.stdout.ends_with(ACCEPTED));
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_device_speaks_and_hears_under_its_own_name_only() -> Result<()> {
    site("topics", async |site| {
        let broker = broker_with_backend(site).await?;
        let [door, window, backend] =
            [enrol(site, "door").await?, enrol(site, "window").await?, enrol(site, "backend").await?];

        let publish = |identity, topic, message| {
            mosquitto("mosquitto_pub", &broker, identity).args(["-q", "1", "-t", topic, "-m", message])
        };
        let mut backend_hears =
            listen(&broker, &backend, &["devices/#"], || publish(&door, "devices/door/x", "knock")).await?;
        let forged = publish(&door, "devices/window/telemetry", "forged").run().await?;
        ensure!(forged.stderr.contains("Not authorized"), "{forged:?}");
        publish(&door, "devices/door/telemetry", "genuine").succeeds().await?;
        backend_hears.line_with("devices/door/telemetry genuine", PATIENCE).await?;
        ensure!(!backend_hears.said("forged"), "{backend_hears:?}");

        let filters = ["cmd/door/#", "cmd/window/#"];
        let mut window_hears =
            listen(&broker, &window, &filters, || publish(&backend, "cmd/window/x", "knock")).await?;
        publish(&backend, "cmd/door/open", "for the door").succeeds().await?;
        publish(&backend, "cmd/window/open", "for the window").succeeds().await?;
        window_hears.line_with("cmd/window/open for the window", PATIENCE).await?;
        ensure!(!window_hears.said("for the door"), "{window_hears:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_device_that_calls_itself_by_anothers_client_id_does_not_throw_it_out() -> Result<()> {
    site("client-id", async |site| {
        let broker = broker_with_backend(site).await?;
        let [door, window, backend] =
            [enrol(site, "door").await?, enrol(site, "window").await?, enrol(site, "backend").await?];
        let call = |identity, topic, message| {
            mosquitto("mosquitto_pub", &broker, identity)
                .args(["-q", "1", "-i", "door", "-t", topic, "-m", message])
        };
        let mut door_hears =
            listen(&broker, &door, &["cmd/door/#"], || call(&backend, "cmd/door/x", "knock")).await?;
        // one connection, or more: right after a rollout the first through a mapped port may end at once
        let before = door_hears.connects();

        call(&window, "devices/window/telemetry", "I am the door").succeeds().await?;
        call(&backend, "cmd/door/open", "first").succeeds().await?;
        door_hears.line_with("cmd/door/open first", PATIENCE).await?;
        ensure!(door_hears.connects() == before, "{door_hears:?}");

        // the control: with the door's own certificate it is thrown out, and comes back (and may throw out its rival,
        // which is why that one need not succeed)
        call(&door, "devices/door/telemetry", "I am the door").run().await?;
        until_heard(&mut door_hears, || call(&backend, "cmd/door/open", "second"), "second", PATIENCE)
            .await?;
        ensure!(door_hears.connects() > before, "{door_hears:?}");
        Ok(())
    })
    .await
}

/// A `mosquitto_sub` that is known to listen: it has heard a knock, which was repeated until then. One whose first
/// connection fails gives up at once, and is started again.
async fn listen(
    broker: &BrokerAddress,
    identity: &Identity,
    filters: &[&str],
    knock: impl Fn() -> Program,
) -> Result<Running> {
    patience::eventually("a listener", PATIENCE, async || {
        // -d: it tells of its connections too
        let mut listening = mosquitto("mosquitto_sub", broker, identity)
            .args(["-d", "-q", "1", "-F", "%t %p"])
            .args(filters.iter().flat_map(|filter| ["-t", filter]))
            .start()?;
        until_heard(&mut listening, &knock, "knock", Duration::from_secs(3)).await?;
        Ok(Some(listening))
    })
    .await
}

/// Says something until it is heard.
async fn until_heard(
    listening: &mut Running,
    say: impl Fn() -> Program,
    text: &str,
    within: Duration,
) -> Result<()> {
    patience::eventually(format_args!("{text:?} is heard"), within, async || {
        say().succeeds().await?;
        listening.line_with(text, Duration::from_millis(500)).await.map(Some)
    })
    .await?;
    Ok(())
}

async fn enrol(site: &Site, name: &str) -> Result<Identity> {
    site.apply::<IotDevice>(name, json!({"rootCARef": {"name": "root-ca"}})).await?;
    site.ready::<IotDevice>(name).await?;
    site.identity::<IotDevice>(name).await
}

async fn broker_with_backend(site: &Site) -> Result<BrokerAddress> {
    site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "e2e"}})).await?;
    let access = json!({"access": [{"name": "backend", "read": ["devices/#"], "write": ["cmd/#"]}]});
    site.apply::<MqttBroker>("mosquitto", site.broker_spec(access)).await?;
    site.ready::<MqttBroker>("mosquitto").await?;
    site.broker_address("mosquitto").await
}

fn mosquitto(name: &str, broker: &BrokerAddress, identity: &Identity) -> Program {
    program(name).args(["-V", "mqttv5", "-h", &broker.host, "-p", &broker.port.to_string()]).args([
        "--cafile",
        &identity.ca(),
        "--cert",
        &identity.crt(),
        "--key",
        &identity.key(),
    ])
}

fn publish(broker: &BrokerAddress, identity: &Identity) -> Program {
    mosquitto("mosquitto_pub", broker, identity).args(["-q", "1", "-t", "devices/x/telemetry", "-m", "x"])
}

/// A script in this folder.
pub(crate) fn script(file: &str, broker: &BrokerAddress, identity: &Identity) -> Program {
    let path = format!("{}/tests/cluster/{file}", env!("CARGO_MANIFEST_DIR"));
    program("python3").arg(path).args([&broker.host, &broker.port.to_string()]).arg(identity.folder())
}

/// OpenSSL's client, which sends CONNECT and prints what comes back until the broker ends the connection.
fn openssl(broker: &BrokerAddress) -> Program {
    let address = broker.to_string();
    program("openssl").args(["s_client", "-quiet", "-ign_eof", "-connect", &address]).input(CONNECT)
}

/// The same with a certificate.
pub(crate) fn s_client(broker: &BrokerAddress, identity: &Identity) -> Program {
    openssl(broker).args(["-CAfile", &identity.ca(), "-cert", &identity.crt(), "-key", &identity.key()])
}

fn is_refused(ended: &Ended, alert: &str) -> Result<()> {
    ensure!(ended.stdout.is_empty(), "there was an answer: {ended:?}");
    ensure!(ended.stderr.contains(alert), "not {alert}: {ended:?}");
    Ok(())
}
