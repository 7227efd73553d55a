//! pkilint: RFC 5280 and its kin, rule by rule.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use pki::LeafProfile;

use crate::program::{Said, run};
use crate::site::{self, judge_every_algorithm};

#[test]
#[ignore = "needs pkilint: cargo xtask test unit"]
fn pkilint_has_nothing_to_say_above_a_notice() -> Result<()> {
    judge_every_algorithm(|site| {
        let files = site.files()?;
        for certificate in ["ca.crt", "device.crt", "revoked.crt", "broker.crt"] {
            no_findings(lint_certificate(&files.path().join(certificate)))?;
        }
        for crl in ["empty.crl", "ca.crl"] {
            no_findings(lint_crl(&files.path().join(crl)))?;
        }
        Ok(())
    })
}

/// pkilint asks the Python package `validators`, which knows nine schemes of URIs and no host without a dot. RFC 5280 allows all of
/// these, and brokers are to be reached as `localhost`.
#[test]
#[ignore = "needs pkilint: cargo xtask test unit"]
fn of_names_that_the_public_internet_does_not_know_pkilint_says_only_that() -> Result<()> {
    let site = site::ordinary_site()?;
    let profile = LeafProfile {
        dns_names: vec!["localhost".into(), "device001.example.com".into()],
        uris: vec!["urn:example:device001".into(), "spiffe://example.com/iot/device001".into()],
        ..site::device(site.algorithm)
    };
    let leaf = site::issue(&site.root, &profile, &site.key)?;
    let findings = findings_about(&leaf.to_pem())?;
    ensure!(
        findings
            == [
                r#"pkix.invalid_domain_name_syntax (ERROR): Invalid domain name syntax: "localhost""#,
                r#"pkix.invalid_uri_syntax (ERROR): Invalid URI syntax: "urn:example:device001""#,
                r#"pkix.invalid_uri_syntax (ERROR): Invalid URI syntax: "spiffe://example.com/iot/device001""#,
            ],
        "{findings:#?}"
    );
    Ok(())
}

#[test]
#[ignore = "needs pkilint: cargo xtask test unit"]
fn of_a_certificate_that_was_made_without_care_pkilint_has_more_to_say() -> Result<()> {
    let careless = rcgen::generate_simple_self_signed([])?.cert.pem();
    let findings = findings_about(&careless)?;
    ensure!(!findings.is_empty());
    println!("{findings:#?}");
    Ok(())
}

/// What pkilint says of a certificate, without the places.
fn findings_about(certificate: &str) -> Result<Vec<String>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("tls.crt");
    fs::write(&file, certificate)?;
    let Said { text, .. } = run(&mut lint_certificate(&file))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains(" @ "));
    Ok(lines.map(str::to_owned).collect())
}

fn no_findings(mut command: Command) -> Result<()> {
    let Said { success, text } = run(&mut command)?;
    ensure!(success && text.trim().is_empty(), "{command:?}:\n{text}");
    Ok(())
}

fn lint_certificate(file: &Path) -> Command {
    linter("lint_pkix_cert", &["lint", "--severity=WARNING"], file)
}

fn lint_crl(file: &Path) -> Command {
    linter("lint_crl", &["lint", "--type=CRL", "--profile=PKIX", "--severity=WARNING"], file)
}

fn linter(program: &str, arguments: &[&str], file: &Path) -> Command {
    let folder = env::var_os("PKILINT_BIN").map(PathBuf::from).unwrap_or_default();
    let mut command = Command::new(folder.join(program));
    command.args(arguments).arg(file);
    command
}
