//! A small site that the tests share.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    Certificate, CrlContents, KeyAlgorithm, LeafProfile, PrivateKey, RootProfile, SerialNumber, SigningRoot,
    Subject, Usage, Validity,
};

pub(crate) const DAY: Duration = Duration::from_hours(24);

pub(crate) fn now() -> Timestamp {
    "2026-03-01T12:00:00.75Z".parse().expect("a timestamp")
}

pub(crate) fn serial(number: u8) -> SerialNumber {
    SerialNumber::from_random([number; SerialNumber::OCTETS])
}

pub(crate) fn root_profile() -> RootProfile {
    RootProfile {
        subject: Subject { country: Some("TW".into()), ..Subject::new("Site CA").expect("a subject") },
        generation: 1,
        key_algorithm: KeyAlgorithm::EcdsaP256,
        duration: 3650 * DAY,
    }
}

pub(crate) fn root() -> SigningRoot {
    SigningRoot::generate(&root_profile(), serial(1), now()).expect("a root")
}

pub(crate) fn leaf_profile(usage: Usage) -> LeafProfile {
    LeafProfile {
        subject: Subject::new("device001").expect("a subject"),
        dns_names: vec!["localhost".into()],
        ip_addresses: vec![[127, 0, 0, 1].into()],
        uris: vec!["urn:example:device001".into()],
        usage,
        key_algorithm: KeyAlgorithm::EcdsaP256,
        duration: 90 * DAY,
        crl_distribution_url: None,
    }
}

pub(crate) fn key() -> PrivateKey {
    PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("a key")
}

pub(crate) fn issue(root: &SigningRoot, profile: &LeafProfile, key: &PrivateKey) -> Certificate {
    let validity =
        Validity::plan(profile.duration, None, "uid", root.certificate(), now()).expect("a validity");
    root.issue(profile, key.public_key(), serial(2), validity).expect("a certificate")
}

pub(crate) fn empty_list(number: u64) -> CrlContents {
    CrlContents { number, valid_for: 7 * DAY, revoked: Vec::new() }
}
