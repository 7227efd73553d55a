//! What cannot be is refused: at once by the API server where the schema can tell, otherwise by a condition. Either names
//! the field and what to write, and nobody else suffers.

use std::time::Duration;

use anyhow::{Result, ensure};
use api::{Dashboard, IotDevice, MqttBroker, RootCA};
use e2e::{Site, site, site::Reported};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

/// How long a good device may take that is written among all these.
const GOOD_WITHIN: Duration = Duration::from_secs(3);

/// What is wrong in a spec of this name, and words that the answer has in it.
type Bad = (&'static str, Value, &'static [&'static str]);

fn devices() -> Vec<Bad> {
    let long = "x".repeat(300);
    vec![
        ("a.b", json!({}), &["metadata.name", "no dots"]),
        ("Upper", json!({}), &["metadata.name", "lower case"]),
        ("under_score", json!({}), &["metadata.name"]),
        (
            "n23456789012345678901234567890123456789012345678901234567890123456789",
            json!({}),
            &["metadata.name", "63"],
        ),
        ("duration-short", json!({"duration": "30s"}), &["spec.duration must be at least 1m"]),
        ("duration-zero", json!({"duration": "0s"}), &["spec.duration must be at least 1m"]),
        ("duration-negative", json!({"duration": "-1h"}), &["spec.duration", "should match"]),
        ("duration-days", json!({"duration": "90d"}), &["spec.duration", "should match"]),
        ("duration-empty", json!({"duration": ""}), &["spec.duration", "should match"]),
        ("duration-number", json!({"duration": 90}), &["spec.duration", "string"]),
        (
            "renew-equal",
            json!({"duration": "1h", "renewBefore": "1h"}),
            &["spec.renewBefore must be shorter"],
        ),
        (
            "renew-longer",
            json!({"duration": "1h", "renewBefore": "90m"}),
            &["spec.renewBefore must be shorter"],
        ),
        (
            "renew-soon",
            json!({"duration": "1h", "renewBefore": "1s"}),
            &["spec.renewBefore must be at least 10s"],
        ),
        ("dns-wildcard", json!({"dnsNames": ["*.example.com"]}), &["spec.dnsNames", "should match"]),
        ("dns-international", json!({"dnsNames": ["bücher.example"]}), &["spec.dnsNames", "should match"]),
        ("dns-underscore", json!({"dnsNames": ["a_b.example"]}), &["spec.dnsNames", "should match"]),
        ("dns-hyphen", json!({"dnsNames": ["-a.example"]}), &["spec.dnsNames", "should match"]),
        ("dns-control", json!({"dnsNames": ["a\u{7}b.example"]}), &["spec.dnsNames"]),
        ("dns-empty", json!({"dnsNames": [""]}), &["spec.dnsNames"]),
        ("dns-long", json!({"dnsNames": [long]}), &["spec.dnsNames", "253"]),
        ("dns-twice", json!({"dnsNames": ["a.example", "a.example"]}), &["spec.dnsNames", "Duplicate"]),
        ("ip-mask", json!({"ipAddresses": ["192.0.2.7/24"]}), &["spec.ipAddresses", "without a mask"]),
        ("ip-range", json!({"ipAddresses": ["300.1.1.1"]}), &["spec.ipAddresses", "IPv4 or IPv6"]),
        ("ip-name", json!({"ipAddresses": ["localhost"]}), &["spec.ipAddresses", "IPv4 or IPv6"]),
        ("uri-relative", json!({"uris": ["example"]}), &["spec.uris", "should match"]),
        ("uri-space", json!({"uris": ["urn:a b"]}), &["spec.uris", "should match"]),
        ("subject-long", json!({"subject": {"organization": long}}), &["spec.subject.organization", "64"]),
        ("subject-empty", json!({"subject": {"organization": ""}}), &["spec.subject.organization"]),
        ("subject-control", json!({"subject": {"organization": "A\u{7}"}}), &["organization", "control"]),
        ("subject-blank", json!({"subject": {"locality": " "}}), &["locality"]),
        ("country-small", json!({"subject": {"country": "tw"}}), &["spec.subject.country", "should match"]),
        ("country-three", json!({"subject": {"country": "TWN"}}), &["spec.subject.country", "should match"]),
        (
            "subject-name",
            json!({"subject": {"commonName": "me"}}),
            &["unknown field", "spec.subject.commonName"],
        ),
        ("field-unknown", json!({"durration": "1h"}), &["unknown field", "spec.durration"]),
        ("key-weak", json!({"keyAlgorithm": "Rsa1024"}), &["spec.keyAlgorithm", "Rsa2048"]),
        ("csr", json!({"csr": "garbage"}), &["spec.csr", "openssl req"]),
        (
            "csr-thermometer",
            json!({"csr": "garbage", "thermometer": {}}),
            &["spec.csr", "thermometer", "leave one of the two out"],
        ),
        ("revoked-why", json!({"revoked": {"reason": "lost"}}), &["spec.revoked.reason", "keyCompromise"]),
        (
            "revoked-hold",
            json!({"revoked": {"reason": "certificateHold"}}),
            &["spec.revoked", "spec.suspended: true"],
        ),
        (
            "interval-short",
            json!({"thermometer": {"interval": "50ms"}}),
            &["spec.thermometer.interval", "100ms"],
        ),
        ("interval-long", json!({"thermometer": {"interval": "2h"}}), &["spec.thermometer.interval", "1h"]),
        ("mean-word", json!({"thermometer": {"mean": "hot"}}), &["spec.thermometer.mean", "number"]),
        (
            "swing-negative",
            json!({"thermometer": {"swing": -1}}),
            &["spec.thermometer.swing", "greater than or equal to 0"],
        ),
        ("secret-upper", json!({"secretName": "Secret"}), &["spec.secretName", "should match"]),
        ("trigger-empty", json!({"renewal": {"trigger": ""}}), &["spec.renewal.trigger"]),
        ("root-unknown", json!({"rootCARef": {"name": "nobody"}}), &["RootCA nobody", "spec.rootCARef.name"]),
        ("root-empty", json!({"rootCARef": {"name": ""}}), &["spec.rootCARef.name"]),
        (
            "root-which",
            json!({}),
            &["spec.rootCARef", "several RootCAs", "other, root-ca", "write which one"],
        ),
        (
            "root-ends",
            json!({"rootCARef": {"name": "other"}, "duration": "5h", "renewBefore": "2h"}),
            &["would already be due", "root expires", "renewBefore shorter"],
        ),
    ]
}

fn roots() -> Vec<Bad> {
    let subject = || json!({"commonName": "x"});
    vec![
        ("no-subject", json!({}), &["spec.subject", "Required"]),
        ("no-name", json!({"subject": {"commonName": ""}}), &["spec.subject.commonName"]),
        ("long-name", json!({"subject": {"commonName": "x".repeat(59)}}), &["spec.subject.commonName", "58"]),
        ("short", json!({"subject": subject(), "duration": "10m"}), &["spec.duration must be at least 1h"]),
        (
            "crl",
            json!({"subject": subject(), "crl": {"validFor": "1m"}}),
            &["spec.crl.validFor must be at least 2m"],
        ),
        (
            "url",
            json!({"subject": subject(), "crl": {"distributionUrl": "ftp://x/y"}}),
            &["distributionUrl", "should match"],
        ),
        (
            "rotation",
            json!({"subject": subject(), "duration": "10h", "rotation": {"beforeExpiry": "11h"}}),
            &["spec.rotation.beforeExpiry", "spec.duration"],
        ),
        (
            "import",
            json!({"subject": subject(), "importFrom": {"secretName": "nothing"}}),
            &["spec.importFrom.secretName", "no Secret nothing", "kubectl create secret tls"],
        ),
    ]
}

fn brokers() -> Vec<Bad> {
    let root = || json!({"name": "root-ca"});
    vec![
        (
            "filter",
            json!({"access": [{"name": "a", "read": ["a/#/b"]}]}),
            &["spec.access[0].read[0]", "should match"],
        ),
        ("tls", json!({"tls": {"minVersion": "1.1"}}), &["spec.tls.minVersion", "1.2"]),
        ("connections", json!({"maxConnections": 0}), &["spec.maxConnections", "greater than or equal to 1"]),
        ("service", json!({"service": {"type": "ExternalName"}}), &["spec.service.type", "ClusterIP"]),
        ("port", json!({"service": {"nodePort": 70000}}), &["spec.service.nodePort", "65535"]),
        (
            "size",
            json!({"rootCARef": root(), "storage": {"size": "lots"}}),
            &["spec.storage.size", "should match"],
        ),
        (
            "memory",
            json!({"rootCARef": root(), "resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}}),
            &["requests", "must be less than or equal to memory limit"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_bad_spec_is_refused_by_field_and_remedy_and_a_good_one_beside_it_is_ready() -> Result<()> {
    site("refusals", async |site| {
        site.apply::<RootCA>("root-ca", json!({"subject": {"commonName": "e2e"}})).await?;
        site.apply::<RootCA>("other", json!({"subject": {"commonName": "other"}, "duration": "1h"})).await?;
        site.ready::<RootCA>("root-ca").await?;
        site.ready::<RootCA>("other").await?;

        let all = async {
            refuse_all::<IotDevice>(site, devices()).await?;
            refuse_all::<RootCA>(site, roots()).await?;
            // before the brokers: one of them is written, though it cannot run
            let dashboard: Bad = (
                "page",
                json!({"rootCARef": {"name": "root-ca"}}),
                &["there is no MqttBroker", "create one"],
            );
            refuse_all::<Dashboard>(site, vec![dashboard]).await?;
            refuse_all::<MqttBroker>(site, brokers()).await
        };
        let good = async {
            site.apply::<IotDevice>("good", json!({"rootCARef": {"name": "root-ca"}})).await?;
            site.wait("good", GOOD_WITHIN, "Ready beside all these", IotDevice::is_ready).await
        };
        let _alone = site.alone().await;
        tokio::try_join!(all, good)?;
        Ok(())
    })
    .await
}

/// Tells all of them that are not refused as they should be, not only the first.
async fn refuse_all<K: Reported>(site: &Site, bad: Vec<Bad>) -> Result<()> {
    let answers: Vec<Result<()>> =
        stream::iter(bad).map(|bad| refuse::<K>(site, bad)).buffer_unordered(8).collect().await;
    let wrong: Vec<_> =
        answers.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Writes what is bad, and sees that the answer has `words` in it: the API server's, or else the condition's.
async fn refuse<K: Reported>(site: &Site, (name, spec, words): Bad) -> Result<()> {
    let object = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name}, "spec": spec,
    });
    let applied =
        site.kubectl_program().args(["apply", "--filename=-"]).input(object.to_string()).run().await?;
    let answer = if applied.succeeded() {
        let says_why =
            |object: &K| !object.is_ready() && words.iter().all(|word| message(object).contains(word));
        let what = format!("refused with {words:?}");
        message(&site.wait::<K>(name, Duration::from_secs(20), &what, says_why).await?)
    } else {
        applied.stderr
    };
    for word in words {
        ensure!(answer.contains(word), "{} {name}: {word:?} is not in {answer:?}", K::kind(&()));
    }
    Ok(())
}

fn message<K: Reported>(object: &K) -> String {
    let conditions = object.conditions().iter();
    conditions.map(|condition| condition.message.clone()).collect::<Vec<_>>().join("; ")
}
