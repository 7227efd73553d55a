//! OpenSSL's command line, as strict as it can be.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use pki::{KeyAlgorithm, RevocationReason};

use crate::program::{Said, run, succeed};
use crate::site::{self, BROKER, BROKER_ADDRESSES, entry, judge_every_algorithm};

pub(crate) fn openssl(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.current_dir(folder).args(arguments);
    command
}

/// Verifies a leaf against `ca.crt` and a list.
pub(crate) fn verify(folder: &Path, crl: &str, purpose: &str, leaf: &str) -> Command {
    let mut command = openssl(folder, &["verify", "-x509_strict", "-check_ss_sig", "-crl_check"]);
    command.args(["-CAfile", "ca.crt", "-CRLfile", crl, "-purpose", purpose, leaf]);
    command
}

/// `openssl crl` succeeds whatever it finds.
pub(crate) fn is_list_of(folder: &Path, crl: &str, root: &str) -> Result<bool> {
    let said = run(&mut openssl(folder, &["crl", "-verify", "-noout", "-in", crl, "-CAfile", root]))?;
    Ok(said.text.lines().any(|line| line == "verify OK"))
}

fn refused(command: &mut Command, reason: &str) -> Result<()> {
    let Said { success, text } = run(command)?;
    ensure!(!success && text.contains(reason), "{command:?} should find {reason:?}:\n{text}");
    Ok(())
}

#[test]
fn every_certificate_verifies_for_its_own_purpose_only() -> Result<()> {
    judge_every_algorithm(|site| {
        let files = site.files()?;
        for crl in ["empty.crl", "ca.crl"] {
            succeed(&mut verify(files.path(), crl, "sslclient", "device.crt"))?;
            succeed(&mut verify(files.path(), crl, "sslserver", "broker.crt"))?;
        }
        let wrong = "certificate purpose";
        refused(&mut verify(files.path(), "empty.crl", "sslserver", "device.crt"), wrong)?;
        refused(&mut verify(files.path(), "empty.crl", "sslclient", "broker.crt"), wrong)
    })
}

#[test]
fn a_revoked_certificate_verifies_until_the_list_says_so() -> Result<()> {
    judge_every_algorithm(|site| {
        let files = site.files()?;
        succeed(&mut verify(files.path(), "empty.crl", "sslclient", "revoked.crt"))?;
        refused(&mut verify(files.path(), "ca.crl", "sslclient", "revoked.crt"), "certificate revoked")
    })
}

#[test]
fn a_broker_is_found_under_each_of_its_names_and_no_other() -> Result<()> {
    let files = site::ordinary_site()?.files()?;
    let named = |option, name| {
        let options = ["verify", "-x509_strict", "-CAfile", "ca.crt", option, name, "broker.crt"];
        openssl(files.path(), &options)
    };
    succeed(&mut named("-verify_hostname", BROKER))?;
    for address in BROKER_ADDRESSES {
        succeed(&mut named("-verify_ip", address))?;
    }
    refused(&mut named("-verify_hostname", "mosquitto.broker"), "hostname mismatch")?;
    refused(&mut named("-verify_ip", "127.0.0.2"), "IP address mismatch")
}

#[test]
fn a_list_is_its_own_roots_and_nobody_elses() -> Result<()> {
    judge_every_algorithm(|site| {
        let files = site.files()?;
        let namesake = site::root(KeyAlgorithm::EcdsaP256, 1)?;
        fs::write(files.path().join("namesake.crt"), namesake.certificate().to_pem())?;
        for crl in ["empty.crl", "ca.crl"] {
            ensure!(is_list_of(files.path(), crl, "ca.crt")?, "{crl} is not the root's");
            ensure!(!is_list_of(files.path(), crl, "namesake.crt")?, "{crl} is said to be a namesake's");
        }
        Ok(())
    })
}

#[test]
fn while_two_generations_are_trusted_each_answers_for_its_own() -> Result<()> {
    let old = site::ordinary_site()?;
    let new = site::root(KeyAlgorithm::EcdsaP256, 2)?;
    let kept = site::issue(&new, &site::device(old.algorithm), &old.key)?;
    let gone = site::issue(&new, &site::device(old.algorithm), &old.key)?;
    let new_crl = site::crl(&new, 1, vec![entry(&gone, RevocationReason::Superseded)])?;

    let files = old.files()?;
    let write = |name: &str, text: String| fs::write(files.path().join(name), text);
    write("ca.crt", old.root.certificate().to_pem() + &new.certificate().to_pem())?;
    write("ca.crl", old.crl.to_pem() + &new_crl.to_pem())?;
    write("kept.crt", kept.to_pem())?;
    write("gone.crt", gone.to_pem())?;
    for leaf in ["device.crt", "kept.crt"] {
        succeed(&mut verify(files.path(), "ca.crl", "sslclient", leaf))?;
    }
    for leaf in ["revoked.crt", "gone.crt"] {
        refused(&mut verify(files.path(), "ca.crl", "sslclient", leaf), "certificate revoked")?;
    }
    Ok(())
}
