//! Roots that OpenSSL made, imported: OpenSSL accepts what they sign here.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use pki::{KeyAlgorithm, PrivateKey, RevocationReason, SigningRoot};

use crate::openssl::{is_list_of, openssl, verify};
use crate::program::{Said, run, succeed};
use crate::site::{self, entry};

const SAMPLE: &str = include_str!("../../../../deploy/samples/imported-root.yaml");

#[test]
fn the_root_of_the_sample_signs_certificates_and_lists_that_openssl_accepts() -> Result<()> {
    let folder = tempfile::tempdir()?;
    succeed(Command::new("sh").current_dir(&folder).args(["-c", &command_of_the_sample()?]))?;
    judge(folder.path())
}

#[test]
fn so_does_a_root_with_a_name_that_nobody_would_choose_today() -> Result<()> {
    for key in ["rsa:2048", "ed25519"] {
        let folder = tempfile::tempdir()?;
        let mut command = openssl(folder.path(), &["req", "-x509", "-noenc", "-newkey", key]);
        command
            .args(["-subj", "/DC=com/DC=example/O=Example Ltd+OU=Plant/serialNumber=7/CN=Plant root"])
            .args(["-addext", "basicConstraints=critical,CA:TRUE"])
            .args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"])
            .args(["-keyout", "plant.key", "-out", "plant.crt"]);
        succeed(&mut command)?;
        judge(folder.path()).context(key)?;
    }
    Ok(())
}

/// The command that the sample tells people to use, without the comment signs in front.
fn command_of_the_sample() -> Result<String> {
    let lines = SAMPLE.lines().map(|line| line.trim_start_matches('#').trim());
    let mut command = Vec::new();
    for line in lines.skip_while(|line| !line.starts_with("openssl req")) {
        command.push(line);
        if !line.ends_with('\\') {
            return Ok(command.join("\n"));
        }
    }
    anyhow::bail!("the sample has no openssl command")
}

/// Imports `plant.crt` with `plant.key` and lets OpenSSL judge what it signs.
fn judge(folder: &Path) -> Result<()> {
    let read = |name: &str| fs::read_to_string(folder.join(name));
    let root = SigningRoot::load(&read("plant.crt")?, &read("plant.key")?)?;
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
    let kept = site::issue(&root, &site::device(key.algorithm()), &key)?;
    let revoked = site::issue(&root, &site::device(key.algorithm()), &key)?;
    let list = vec![entry(&revoked, RevocationReason::CessationOfOperation)];

    let write = |name: &str, text: String| fs::write(folder.join(name), text);
    write("ca.crt", root.certificate().to_pem())?;
    write("kept.crt", kept.to_pem())?;
    write("revoked.crt", revoked.to_pem())?;
    write("empty.crl", site::crl(&root, 1, Vec::new())?.to_pem())?;
    write("ca.crl", site::crl(&root, 2, list)?.to_pem())?;

    for crl in ["empty.crl", "ca.crl"] {
        ensure!(is_list_of(folder, crl, "ca.crt")?, "{crl} is not the root's");
        succeed(&mut verify(folder, crl, "sslclient", "kept.crt"))?;
    }
    succeed(&mut verify(folder, "empty.crl", "sslclient", "revoked.crt"))?;
    let Said { success, text } = run(&mut verify(folder, "ca.crl", "sslclient", "revoked.crt"))?;
    ensure!(!success && text.contains("certificate revoked"), "{text}");
    Ok(())
}
