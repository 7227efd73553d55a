//! Python's own TLS: what scripts and gateways in the field use.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::program::succeed;
use crate::site::{BROKER, judge_every_algorithm};

const SCRIPT: &str = include_str!("handshakes.py");

#[test]
fn python_connects_with_every_algorithm_and_a_revoked_device_is_told_that_it_is() -> Result<()> {
    judge_every_algorithm(|site| {
        let files = site.files()?;
        let mut python = Command::new("python3");
        python.args(["-c", SCRIPT]).arg(files.path()).args([BROKER, "device", "revoked"]);
        let said = succeed(&mut python)?;
        ensure!(said == "TLSv1.3 device001\nSSLV3_ALERT_CERTIFICATE_REVOKED\n", "{said}");
        Ok(())
    })
}
