//! The clock is stepped an hour forth and back, as by a machine whose time was set wrong: nothing is issued without a reason. The clock of a
//! container cannot be stepped apart from its node's, so this is where it is shown.

use api::IotDevice;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;

use crate::support::resources::{DAY, HOUR, device, device_with};
use crate::support::{Site, ready};

/// Name and version of every Secret: what was written since shows.
fn secrets(site: &Site) -> Vec<(String, Option<String>)> {
    site.server.all::<Secret>().iter().map(|secret| (secret.name_any(), secret.resource_version())).collect()
}

#[tokio::test]
async fn an_hour_forth_and_back_changes_nothing() {
    let site = Site::with_everything().await;
    let (start, before) = (site.now(), secrets(&site));
    let running = site.operator();
    for moment in [start + HOUR, start, start - HOUR, start + HOUR, start - HOUR, start] {
        site.wait_until(moment);
        running.settle().await;
        assert_eq!(secrets(&site), before, "by the one that runs, at {moment}");
        // one that knows nothing yet judges the same
        site.operator().settle().await;
        assert_eq!(secrets(&site), before, "by one that was just started, at {moment}");
    }
    for name in ["door", "boiler"] {
        assert_eq!(ready(&site.device(name).conditions).status, "True");
    }
}

#[tokio::test]
async fn what_was_issued_an_hour_ahead_is_kept_when_the_clock_is_put_right() {
    let site = Site::with_everything().await;
    let start = site.now();
    site.wait_until(start + HOUR);
    let running = site.operator();
    site.server.put(&device("window"));
    running.settle().await;
    let before = secrets(&site);
    site.wait_until(start);
    running.settle().await;
    site.operator().settle().await;
    assert_eq!(secrets(&site), before);
    // while it stands in nobody's way: it is in force within the hour, and says so
    site.wait_until(start + HOUR);
    running.settle().await;
    assert_eq!(secrets(&site), before);
    assert_eq!(ready(&site.device("window").conditions).status, "True");
}

#[tokio::test]
async fn what_was_issued_forty_days_ahead_is_issued_anew_when_the_clock_is_put_right() {
    let site = Site::with_everything().await;
    let start = site.now();
    site.wait_until(start + 40 * DAY);
    let running = site.operator();
    site.server.put(&device("window"));
    running.settle().await;
    site.wait_until(start);
    for operator in [running, site.operator()] {
        operator.settle().await;
        let told = site.device("window");
        assert!(told.certificate.unwrap().not_before.0 <= start);
        assert_eq!(ready(&told.conditions).status, "True");
    }
    assert!(site.told_last("window").contains("the clock was ahead"), "{}", site.told_last("window"));
}

#[tokio::test]
async fn a_renewal_that_a_wrong_clock_has_caused_is_the_only_one() {
    let site = Site::with_everything().await;
    let short = api::CertificateSpec { duration: (2 * HOUR).into(), ..api::CertificateSpec::default() };
    site.server.put(&device_with("short", short));
    let running = site.operator();
    running.settle().await;
    let (start, others) = (site.now(), secrets(&site));
    // past its renewal time: the clock is all there is to tell
    site.wait_until(start + HOUR + HOUR / 2);
    running.settle().await;
    let renewed = secrets(&site);
    let changed = renewed.iter().zip(&others).filter(|(now, before)| now != before);
    assert_eq!(changed.map(|(now, _)| now.0.as_str()).collect::<Vec<_>>(), ["iotdevice-short"]);
    site.wait_until(start);
    running.settle().await;
    site.operator().settle().await;
    assert_eq!(secrets(&site), renewed);
    let status = site.server.get::<IotDevice>("short").unwrap().status.unwrap();
    assert_eq!(status.superseded.len(), 1, "the one before is within its dates: it is not forgotten");
}
