//! The `ConfigMap` of a broker: `mosquitto.conf`, which Mosquitto reads when it starts, and `acl`, which the sidecar puts in
//! place while it runs. What stands in them was measured with Mosquitto 2.1.2: with `log_type information`, one subscriber
//! to its log with QoS 1 makes it save without end, 2 000 times a second.

use std::collections::{BTreeMap, BTreeSet};

use api::{MqttBroker, TlsVersion};
use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::api::core::v1::ConfigMap;

use super::metadata::metadata;

/// The key with Mosquitto's configuration; a change of it takes a restart.
pub(super) const CONF: &str = "mosquitto.conf";
/// The key with the access rules; a change of it does not.
pub(super) const ACL: &str = "acl";

/// Where the Secret is mounted, for the sidecar alone.
pub(super) const PKI: &str = "/mosquitto/pki";
/// Where the `ConfigMap` is mounted: one key for each container.
pub(super) const CONFIG: &str = "/mosquitto/config";
/// Where the sidecar puts what it has checked: the set `pki/` and the file `acl`.
pub(super) const RUN: &str = "/mosquitto/run";
/// Where Mosquitto keeps its database.
pub(super) const DATA: &str = "/mosquitto/data";
/// Where clients connect to.
pub(super) const PORT: i32 = 8883;

/// Connections beyond `spec.maxConnections`, for ourselves: the operator's session, its probe, the one that takes over
/// a revoked session, and the sidecar's handshake. Mosquitto refuses what is too much before TLS, so it cannot tell.
const RESERVED: i32 = 4;

/// `read` or `write`, and a topic filter.
type Right<'a> = (&'a str, &'a str);
/// What the operator and dashboards read: all that devices and the broker say.
const WATCH: [Right<'_>; 2] = [("read", "devices/#"), ("read", "$SYS/#")];

/// Both files of `broker`; `dashboards` are the names of the Dashboards that read from it.
pub fn config_map(broker: &MqttBroker, dashboards: &BTreeSet<String>) -> ConfigMap {
    ConfigMap {
        metadata: metadata(broker),
        data: Some([(CONF.into(), conf(broker)), (ACL.into(), acl(broker, dashboards))].into()),
        ..ConfigMap::default()
    }
}

/// SHA-256 of `mosquitto.conf`, lower-case hex: what a running Mosquitto was started with.
pub(super) fn conf_hash(broker: &MqttBroker) -> String {
    hex::encode(digest(&SHA256, conf(broker).as_bytes()))
}

fn conf(broker: &MqttBroker) -> String {
    let tls_version = match broker.spec.tls.min_version {
        TlsVersion::V12 => "tlsv1.2",
        TlsVersion::V13 => "tlsv1.3",
    };
    let max_connections = broker.spec.max_connections.map_or(-1, |clients| clients.saturating_add(RESERVED));
    format!(
        "\
# Written by the operator of ca-iot. A change restarts the broker.
listener {PORT}
max_connections {max_connections}

# Mutual TLS; the sidecar checks these files before Mosquitto sees them.
tls_version {tls_version}
cafile {RUN}/pki/ca.crt
certfile {RUN}/pki/tls.crt
keyfile {RUN}/pki/tls.key
crlfile {RUN}/pki/ca.crl
require_certificate true

# The common name is the user and the client id: nobody can speak for another or throw another out.
allow_anonymous false
use_identity_as_username true
use_username_as_clientid true
acl_file {RUN}/acl

# Every change is on disk at once: no kill loses a message.
persistence true
persistence_location {DATA}
autosave_on_changes true
autosave_interval 1

# What a subscriber that is away gets later, at most, each: a backend that follows a fleet misses more than the usual 1 000 in
# seconds. Beyond it, messages are dropped.
max_queued_messages 100000
max_queued_bytes 33554432

# Without `information`: it tells of every save, and what it tells, once queued for a subscriber, is saved again.
log_dest stdout
log_dest topic
log_type error
log_type warning
log_type notice
"
    )
}

fn acl(broker: &MqttBroker, dashboards: &BTreeSet<String>) -> String {
    let devices = "\
# Written by the operator of ca-iot. A change is applied without a restart.
pattern write devices/%u/#
pattern read cmd/%u/#
"
    .to_owned();
    let operator = user("operator.ca-iot", WATCH.into_iter().chain([("write", "cmd/#")]));
    let dashboards = dashboards.iter().map(|name| user(&format!("{name}.dashboard"), WATCH));
    let backends = backends(broker).into_iter().map(|(name, rights)| user(name, rights));
    [devices, operator].into_iter().chain(dashboards).chain(backends).collect::<Vec<_>>().join("\n")
}

fn user<'a>(name: &str, rights: impl IntoIterator<Item = Right<'a>>) -> String {
    let rights = rights.into_iter().map(|(access, filter)| format!("topic {access} {filter}\n"));
    rights.fold(format!("user {name}\n"), |rules, right| rules + &right)
}

/// What `spec.access` grants, by user: each right once, in an order that does not depend on the spec's.
fn backends(broker: &MqttBroker) -> BTreeMap<&str, BTreeSet<Right<'_>>> {
    let mut backends = BTreeMap::<_, BTreeSet<_>>::new();
    for api::Access { name, read, write } in &broker.spec.access {
        let read = read.iter().map(|filter| ("read", filter.as_str()));
        let write = write.iter().map(|filter| ("write", filter.as_str()));
        backends.entry(name.as_str()).or_default().extend(read.chain(write));
    }
    backends
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads::fixtures;

    #[test]
    fn the_files_say_who_may_connect_and_do_what() {
        let broker = fixtures::broker();
        let config = config_map(&broker, &["wall", "dashboard"].map(str::to_owned).into());
        assert_eq!(config.metadata, metadata(&broker));
        let files = config.data.unwrap().into_iter().map(|(name, text)| format!("=== {name}\n{text}\n"));
        insta::assert_snapshot!(files.collect::<String>());
    }

    #[test]
    fn a_broker_without_wishes_takes_tls_1_2_and_any_number_of_clients() {
        let conf = conf(&MqttBroker::new("mosquitto", api::MqttBrokerSpec::default()));
        assert!(conf.contains("\ntls_version tlsv1.2\n"));
        assert!(conf.contains("\nmax_connections -1\n"));
    }

    #[test]
    fn the_order_of_the_spec_does_not_reload_the_broker() {
        let broker = fixtures::broker();
        let mut turned = broker.clone();
        turned.spec.access.reverse();
        assert_eq!(acl(&turned, &BTreeSet::new()), acl(&broker, &BTreeSet::new()));
    }

    #[test]
    fn new_rights_do_not_restart_the_broker_but_a_new_minimum_of_tls_does() {
        let broker = fixtures::broker();
        let mut changed = broker.clone();
        changed.spec.access.clear();
        assert_eq!(conf_hash(&changed), conf_hash(&broker));
        assert_ne!(acl(&changed, &BTreeSet::new()), acl(&broker, &BTreeSet::new()));
        changed.spec.tls.min_version = TlsVersion::V12;
        assert_ne!(conf_hash(&changed), conf_hash(&broker));
    }
}
