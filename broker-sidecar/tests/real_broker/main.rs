//! The sidecar beside a real Mosquitto, with real certificates. It takes Mosquitto 2.1, in `PATH` or named by `MOSQUITTO`:
//!
//! ```text
//! MOSQUITTO=/usr/sbin/mosquitto cargo test -p ca-iot-broker-sidecar -- --include-ignored
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at what it did not expect")]

mod client;
mod mosquitto;
mod site;

use std::time::{Duration, Instant};

use pki::CrlContents;
use rustix::process::Signal;

use crate::client::Session;
use crate::site::{ACL, Authority, Secret, Site};

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_renewed_certificate_reaches_new_handshakes_and_cuts_no_session() {
    let authority = Authority::new(1);
    let (site, _mosquitto) = Site::running(&authority.secret()).await;
    let device = authority.device("device001");
    let mut session = Session::open(site.broker, &device).await.unwrap();

    let renewed = authority.secret();
    let swapped = Instant::now();
    site.mount(&renewed);
    let loaded = site.loads(|loaded| loaded.serial_number == Some(renewed.serial())).await;
    println!("from the swap to the proof: {:?}", swapped.elapsed());

    assert_eq!(loaded.problem, None);
    session.ping().await.expect("the session lives on");
    let other = Session::open(site.broker, &authority.device("device002")).await.unwrap();
    assert_eq!(other.broker_certificate().serial().to_string(), renewed.serial());
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_revoked_device_is_refused_once_the_new_list_is_reported_as_loaded() {
    let mut authority = Authority::new(1);
    let secret = authority.secret();
    let (site, _mosquitto) = Site::running(&secret).await;
    let other = authority.device("other");
    let mut live = Session::open(site.broker, &other).await.unwrap();

    for number in 2..22 {
        let device = authority.device("device001");
        Session::open(site.broker, &device).await.expect("not revoked yet");
        authority.revoke(&device.certificate);
        let swapped = Instant::now();
        site.mount(&Secret { ca_crl: authority.crl(), ..secret.clone() });
        site.loads(|loaded| loaded.crl_numbers.get(&authority.fingerprint()) == Some(&number)).await;
        println!("from the swap to the proof: {:?}", swapped.elapsed());
        let refused = Session::open(site.broker, &device).await.err().expect("revoked");
        assert!(refused.to_string().contains("CertificateRevoked"), "{refused}");
    }

    Session::open(site.broker, &authority.device("device002")).await.expect("others are let in");
    authority.revoke(&other.certificate);
    site.mount(&Secret { ca_crl: authority.crl(), ..secret });
    site.loads(|loaded| loaded.crl_numbers.get(&authority.fingerprint()) == Some(&22)).await;
    live.ping().await.expect("a reload cuts nobody: that is the operator's part");
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn as_many_devices_as_fit_into_a_secret_are_revoked() {
    let mut authority = Authority::new(1);
    let secret = authority.secret();
    let (site, _mosquitto) = Site::running(&secret).await;
    let device = authority.device("device001");
    for _ in 0..14_000 {
        authority.revoke_serial(pki::SerialNumber::generate().unwrap());
    }
    authority.revoke(&device.certificate);
    let list = Secret { ca_crl: authority.crl(), ..secret };
    println!("a list of {} bytes", list.ca_crl.len());
    let swapped = Instant::now();
    site.mount(&list);
    let number = authority.crl.number;
    site.loads(|loaded| loaded.crl_numbers[&authority.fingerprint()] == number).await;
    println!("from the swap to the proof: {:?}", swapped.elapsed());
    let refused = Session::open(site.broker, &device).await.err().expect("revoked");
    assert!(refused.to_string().contains("CertificateRevoked"), "{refused}");
    Session::open(site.broker, &authority.device("device002")).await.expect("others are let in");
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn bad_files_are_kept_out_and_reported_and_the_broker_goes_on() {
    let authority = Authority::new(1);
    let good = authority.secret();
    let (site, mut mosquitto) = Site::running(&good).await;
    let other = authority.device("device002");
    let mut session = Session::open(site.broker, &authority.device("device001")).await.unwrap();

    let stranger = Authority::new(1);
    let bad = [
        ("tls.key does not belong", Secret { tls_key: stranger.secret().tls_key, ..good.clone() }),
        ("expired at", Secret { ca_crl: authority.expired_crl(), ..good.clone() }),
        ("tls.crt against ca.crt", Secret { ca_crt: stranger.certificate(), ..good.clone() }),
        ("ca.crl against ca.crt", Secret { ca_crl: stranger.crl(), ..good.clone() }),
        ("ca.crl: ", Secret { ca_crl: "garbage".to_owned(), ..good.clone() }),
        ("tls.crt: ", Secret { tls_crt: good.tls_crt[..300].to_owned(), ..good.clone() }),
    ];
    for (problem, secret) in bad {
        site.mount(&secret);
        let loaded = site.loads(|it| it.problem.as_ref().is_some_and(|it| it.contains(problem))).await;
        println!("{}", loaded.problem.unwrap());
        assert_eq!(loaded.serial_number, Some(good.serial()), "{problem}");
        session.ping().await.unwrap();
        Session::open(site.broker, &other).await.expect(problem);
        site.answers("/readyz", 200).await;
    }
    assert!(mosquitto.is_running());

    site.mount(&authority.secret());
    site.loads(|loaded| loaded.problem.is_none()).await;
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_broker_that_restarts_never_meets_bad_files_and_is_proved_again() {
    let authority = Authority::new(1);
    let good = authority.secret();
    let (site, mosquitto) = Site::running(&good).await;
    let first = site.loaded().await;
    site.mount(&Secret { ca_crl: "garbage".to_owned(), ..good.clone() });
    site.loads(|loaded| loaded.problem.is_some()).await;

    drop(mosquitto);
    let told = site.answers("/readyz", 503).await;
    assert!(told.contains("mosquitto is not running"), "{told}");
    assert_eq!(site.loaded().await.serial_number, None, "nothing is loaded");

    let mut again = site.start_mosquitto().await;
    let loaded = site.loads(|loaded| loaded.serial_number == Some(good.serial())).await;
    site.answers("/readyz", 200).await;
    assert_ne!(loaded.loaded_at, first.loaded_at);
    assert!(again.is_running());
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_broker_is_not_started_before_there_are_good_files() {
    let authority = Authority::new(1);
    let good = authority.secret();
    let site = Site::new(&Secret { tls_key: authority.secret().tls_key, ..good.clone() }).await;
    site.loads(|loaded| loaded.problem.as_ref().is_some_and(|it| it.contains("tls.key"))).await;
    let told = site.answers("/startupz", 503).await;
    assert!(told.contains("tls.key does not belong to tls.crt"), "{told}");
    site.mount(&good);
    site.answers("/startupz", 200).await;
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_list_is_not_reported_as_loaded_while_the_broker_hangs() {
    let mut authority = Authority::new(1);
    let secret = authority.secret();
    let (site, mosquitto) = Site::running(&secret).await;
    mosquitto.signal(Signal::STOP);
    authority.crl.number = 2;
    site.mount(&Secret { ca_crl: authority.crl(), ..secret });

    let told = site.answers("/readyz", 503).await;
    assert!(told.contains("no answer to a TLS handshake"), "{told}");
    assert_eq!(site.loaded().await.crl_numbers[&authority.fingerprint()], 1);

    mosquitto.signal(Signal::CONT);
    site.loads(|loaded| loaded.crl_numbers[&authority.fingerprint()] == 2).await;
    site.answers("/readyz", 200).await;
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_broker_that_reads_other_files_is_noticed_however_slowly_it_answers() {
    let authority = Authority::new(1);
    // The third handshake ends just before the sidecar stops asking, the fourth after that.
    let site = Site::slow(&authority.secret(), Duration::from_secs(3)).await;
    site.answers("/startupz", 200).await;
    let elsewhere = Site::new(&authority.secret()).await;
    elsewhere.answers("/startupz", 200).await;
    let _mosquitto = site.start_mosquitto_with(&elsewhere).await;
    let other = "mosquitto serves another certificate than the one in place";
    site.loads(|loaded| loaded.problem.as_ref().is_some_and(|it| it.contains(other))).await;
    site.answers("/readyz", 503).await;
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn an_access_rule_takes_effect_without_a_restart() {
    let authority = Authority::new(1);
    let (site, _mosquitto) = Site::running(&authority.secret()).await;
    let mut session = Session::open(site.broker, &authority.device("device001")).await.unwrap();
    assert!(session.may_publish("devices/device001/status").await.unwrap());
    assert!(!session.may_publish("weather").await.unwrap());

    let before = site.loaded().await.loaded_at;
    site.mount_acl(&format!("{ACL}user device001\ntopic write weather\n"));
    site.loads(|loaded| loaded.loaded_at != before).await;
    assert!(session.may_publish("weather").await.unwrap(), "in the same session");

    site.mount_acl(&format!("{ACL}user device001\ntopic sometimes weather\n"));
    let loaded = site.loads(|loaded| loaded.problem.is_some()).await;
    assert!(loaded.problem.unwrap().contains("line 4 of the ACL"));
    assert!(session.may_publish("weather").await.unwrap(), "the last good rules stay");
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn devices_of_a_second_root_are_let_in_once_it_is_reported_as_loaded() {
    let (old, new) = (Authority::new(1), Authority::new(2));
    let secret = old.secret();
    let (site, _mosquitto) = Site::running(&secret).await;
    let mut device = new.device("device001");
    device.roots = old.certificate();
    Session::open(site.broker, &device).await.err().expect("its root is unknown");

    let ca_crt = old.certificate() + &new.certificate();
    site.mount(&Secret { ca_crt, ca_crl: old.crl() + &new.crl(), ..secret });
    site.loads(|loaded| loaded.roots.contains(&new.fingerprint())).await;
    Session::open(site.broker, &device).await.expect("its root is trusted");
    Session::open(site.broker, &old.device("device002")).await.expect("so is the old one");
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_list_that_runs_out_is_reported_and_a_new_one_opens_the_door_again() {
    let mut authority = Authority::new(1);
    authority.crl.valid_for = Duration::from_secs(6);
    let secret = authority.secret();
    let (site, mut mosquitto) = Site::running(&secret).await;
    let device = authority.device("device001");
    let first = site.loaded().await.loaded_at;

    let told = site.answers("/readyz", 503).await;
    assert!(told.contains("revocation list 1"), "{told}");
    site.loads(|loaded| loaded.loaded_at != first).await; // tickets are forgotten right after the end
    Session::open(site.broker, &device).await.err().expect("without a list nobody is let in");

    authority.crl = CrlContents { number: 2, valid_for: Duration::from_mins(10), revoked: Vec::new() };
    site.mount(&Secret { ca_crl: authority.crl(), ..secret });
    site.answers("/readyz", 200).await;
    Session::open(site.broker, &device).await.expect("let in again");
    assert!(mosquitto.is_running());
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn the_broker_survives_a_storm_of_changes() {
    let authority = Authority::new(1);
    let (site, mut mosquitto) = Site::running(&authority.secret()).await;
    let pid = mosquitto.pid();
    let mut session = Session::open(site.broker, &authority.device("device001")).await.unwrap();

    let mut last = authority.secret();
    for round in 0..100 {
        last = authority.secret();
        site.mount(&last);
        if round % 10 == 0 {
            site.loads(|loaded| loaded.serial_number == Some(last.serial())).await;
        }
        tokio::task::yield_now().await;
    }
    site.loads(|loaded| loaded.serial_number == Some(last.serial())).await;
    assert!(mosquitto.is_running() && mosquitto.pid() == pid);
    session.ping().await.expect("the session lives on");
}

#[tokio::test]
#[ignore = "needs Mosquitto 2.1"]
async fn a_sidecar_that_restarts_adopts_what_is_in_place() {
    let authority = Authority::new(1);
    let good = authority.secret();
    let (mut site, mut mosquitto) = Site::running(&good).await;
    let mut session = Session::open(site.broker, &authority.device("device001")).await.unwrap();
    site.mount(&Secret { tls_crt: String::new(), ..good.clone() });

    site.restart_sidecar().await;
    site.answers("/startupz", 200).await;
    let loaded = site.loads(|loaded| loaded.serial_number == Some(good.serial())).await;
    assert!(loaded.problem.unwrap().contains("tls.crt"));
    assert!(mosquitto.is_running());
    session.ping().await.expect("the session lives on");
}
