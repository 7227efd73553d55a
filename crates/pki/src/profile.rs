//! What a certificate says: subjects and the profiles of roots and leaves.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use rcgen::string::PrintableString;
use rcgen::{DistinguishedName, DnType, DnValue, SanType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::key::KeyAlgorithm;
use crate::names::{self, NameError};

/// Whom a certificate is for: the distinguished name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// Common name (CN), at most 64 characters.
    pub common_name: String,
    /// Organization (O), at most 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// Organizational unit (OU), at most 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organizational_unit: Option<String>,
    /// Country (C): two capital letters (ISO 3166), such as TW.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// State or province (ST), at most 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Locality (L), at most 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality: Option<String>,
}

/// Which end of a connection a certificate is for: exactly one extended key usage each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Usage {
    /// `clientAuth`: devices, dashboards, the operator itself.
    Client,
    /// `serverAuth`: brokers.
    Server,
}

/// Everything that is asked of a leaf certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafProfile {
    /// The name; the common name is a DNS-1123 name.
    pub subject: Subject,
    /// DNS names, in the order in which they are written.
    pub dns_names: Vec<String>,
    /// IP addresses.
    pub ip_addresses: Vec<IpAddr>,
    /// Absolute URIs.
    pub uris: Vec<String>,
    /// Which end of a connection.
    pub usage: Usage,
    /// The kind of key.
    pub key_algorithm: KeyAlgorithm,
    /// How long it is valid from the moment of signing, unless the root ends sooner.
    pub duration: Duration,
    /// Where clients may fetch the root's CRL.
    pub crl_distribution_url: Option<String>,
}

/// Everything that is asked of a generation of a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootProfile {
    /// The name, to which the generation is appended: many clients cannot tell two roots of the same name apart.
    pub subject: Subject,
    /// Which generation of the root, from 1.
    pub generation: u32,
    /// The kind of key.
    pub key_algorithm: KeyAlgorithm,
    /// How long it is valid from the moment of signing.
    pub duration: Duration,
}

/// Which field cannot go into a certificate, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Required, or present but empty.
    #[error("{field} is empty: write something, or leave it out if it is optional")]
    Blank {
        /// The field, as users write it.
        field: &'static str,
    },
    /// Upper bound of RFC 5280, appendix A.1.
    #[error("{field} has {length} characters: at most {limit} fit")]
    TooLong {
        /// The field, as users write it.
        field: &'static str,
        /// How long it is.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
    /// Line breaks, NUL and their like.
    #[error("{field} holds a control character, or a space at its beginning or end: remove it")]
    BadCharacter {
        /// The field, as users write it.
        field: &'static str,
    },
    /// ISO 3166 codes are two capital letters.
    #[error("country is {0:?}: write the two capital letters of ISO 3166, such as TW")]
    Country(String),
    /// The broker takes the common name for the user name; `+`, `#` and `/` have a meaning there.
    #[error("commonName is {0:?}: write lower-case letters, digits, hyphens and dots (DNS-1123)")]
    CommonName(String),
    /// A subject alternative name.
    #[error("{field}: {problem}")]
    Name {
        /// The field, as users write it.
        field: &'static str,
        /// What is wrong with which name.
        problem: NameError,
    },
    /// Shorter than a second.
    #[error("duration is shorter than a second: dates in certificates are whole seconds")]
    Duration,
}

// === impl Subject ===

impl Subject {
    /// A checked subject of a common name only.
    pub fn new(common_name: impl Into<String>) -> Result<Self, ProfileError> {
        let subject = Self { common_name: common_name.into(), ..Self::default() };
        subject.check()?;
        Ok(subject)
    }

    /// Whether every part fits into a certificate; the error names the field.
    pub fn check(&self) -> Result<(), ProfileError> {
        let Self { common_name, organization, organizational_unit, country, state, locality } = self;
        check_text("commonName", common_name, 64)?;
        for (field, value, limit) in [
            ("organization", organization, 64),
            ("organizationalUnit", organizational_unit, 64),
            ("state", state, 128),
            ("locality", locality, 128),
        ] {
            if let Some(value) = value {
                check_text(field, value, limit)?;
            }
        }
        match country {
            Some(code) if code.len() != 2 || !code.bytes().all(|octet| octet.is_ascii_uppercase()) => {
                Err(ProfileError::Country(code.clone()))
            }
            _ => Ok(()),
        }
    }

    fn to_distinguished_name(&self) -> Result<DistinguishedName, ProfileError> {
        let Self { common_name, organization, organizational_unit, country, state, locality } = self;
        let mut name = DistinguishedName::new();
        if let Some(code) = country {
            // RFC 5280 wants a PrintableString here; rcgen writes a plain string as UTF8String.
            let printable =
                PrintableString::try_from(code.as_str()).map_err(|_| ProfileError::Country(code.clone()))?;
            name.push(DnType::CountryName, DnValue::PrintableString(printable));
        }
        for (kind, value) in [
            (DnType::StateOrProvinceName, state),
            (DnType::LocalityName, locality),
            (DnType::OrganizationName, organization),
            (DnType::OrganizationalUnitName, organizational_unit),
        ] {
            if let Some(value) = value {
                name.push(kind, value.as_str());
            }
        }
        name.push(DnType::CommonName, common_name.as_str());
        Ok(name)
    }
}

// === impl LeafProfile ===

impl LeafProfile {
    /// Whether a certificate can say all this; the error names the field.
    pub fn check(&self) -> Result<(), ProfileError> {
        let Self {
            subject,
            dns_names,
            ip_addresses: _,
            uris,
            usage: _,
            key_algorithm: _,
            duration,
            crl_distribution_url,
        } = self;
        subject.check()?;
        if !is_dns_1123(&subject.common_name) {
            return Err(ProfileError::CommonName(subject.common_name.clone()));
        }
        for name in dns_names {
            names::check_dns_name(name)
                .map_err(|problem| ProfileError::Name { field: "dnsNames", problem })?;
        }
        for uri in uris {
            names::check_uri(uri).map_err(|problem| ProfileError::Name { field: "uris", problem })?;
        }
        if let Some(url) = crl_distribution_url {
            names::check_crl_distribution_url(url)
                .map_err(|problem| ProfileError::Name { field: "crl.distributionUrl", problem })?;
        }
        check_duration(*duration)
    }

    /// A digest of everything in the profile, as 32 hexadecimal digits: two profiles with the same hash ask for the same
    /// certificate. The order and repetition of alternative names do not count.
    pub fn hash(&self) -> String {
        // Taken apart, so that a new field cannot be forgotten.
        let Self {
            subject,
            dns_names,
            ip_addresses,
            uris,
            usage,
            key_algorithm,
            duration,
            crl_distribution_url,
        } = self;
        let Subject { common_name, organization, organizational_unit, country, state, locality } = subject;

        let mut canonical = Canonical::new("ca-iot leaf profile 1");
        canonical.text(common_name);
        for part in [organization, organizational_unit, country, state, locality, crl_distribution_url] {
            canonical.list(part);
        }
        canonical.set(dns_names.iter().map(|name| name.to_ascii_lowercase()));
        canonical.set(ip_addresses.iter().map(IpAddr::to_string));
        canonical.set(uris.iter().cloned());
        canonical.text(match usage {
            Usage::Client => "client",
            Usage::Server => "server",
        });
        canonical.text(&key_algorithm.to_string());
        canonical.text(&format!("{}", duration.as_nanos()));
        canonical.finish()
    }

    pub(crate) fn distinguished_name(&self) -> Result<DistinguishedName, ProfileError> {
        self.subject.to_distinguished_name()
    }

    /// In the order in which they were asked for, repetitions left out.
    pub(crate) fn alternative_names(&self) -> Result<Vec<SanType>, rcgen::Error> {
        let mut alternatives = Vec::new();
        for name in &self.dns_names {
            alternatives.push(SanType::DnsName(name.as_str().try_into()?));
        }
        alternatives.extend(self.ip_addresses.iter().copied().map(SanType::IpAddress));
        for uri in &self.uris {
            alternatives.push(SanType::URI(uri.as_str().try_into()?));
        }
        let mut seen = std::collections::HashSet::new();
        alternatives.retain(|alternative| seen.insert(alternative.clone()));
        Ok(alternatives)
    }
}

// === impl RootProfile ===

impl RootProfile {
    /// Whether a certificate can say all this; the error names the field.
    pub fn check(&self) -> Result<(), ProfileError> {
        let Self { subject, generation: _, key_algorithm: _, duration } = self;
        subject.check()?;
        let suffix = self.common_name().chars().count() - subject.common_name.chars().count();
        check_text("commonName", &subject.common_name, 64 - suffix)?;
        check_duration(*duration)
    }

    /// The common name with the generation, such as `Site CA g2`.
    pub fn common_name(&self) -> String {
        format!("{} g{}", self.subject.common_name, self.generation)
    }

    pub(crate) fn distinguished_name(&self) -> Result<DistinguishedName, ProfileError> {
        Subject { common_name: self.common_name(), ..self.subject.clone() }.to_distinguished_name()
    }
}

// === checks ===

fn check_text(field: &'static str, value: &str, limit: usize) -> Result<(), ProfileError> {
    if value.trim().is_empty() {
        return Err(ProfileError::Blank { field });
    }
    if value.chars().any(char::is_control) || value.trim() != value {
        return Err(ProfileError::BadCharacter { field });
    }
    match value.chars().count() {
        length if length > limit => Err(ProfileError::TooLong { field, length, limit }),
        _ => Ok(()),
    }
}

fn check_duration(duration: Duration) -> Result<(), ProfileError> {
    if duration < Duration::from_secs(1) { Err(ProfileError::Duration) } else { Ok(()) }
}

/// A DNS-1123 subdomain: what Kubernetes calls its objects.
fn is_dns_1123(name: &str) -> bool {
    name.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|octet| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    })
}

// === the canonical encoding behind the hash ===

/// Every text is preceded by its length and every list by its size, so that no two profiles run into one another.
struct Canonical(Context);

impl Canonical {
    fn new(format: &str) -> Self {
        let mut canonical = Self(Context::new(&SHA256));
        canonical.text(format);
        canonical
    }

    fn text(&mut self, text: &str) {
        self.0.update(&(text.len() as u64).to_be_bytes());
        self.0.update(text.as_bytes());
    }

    fn list<'a>(&mut self, texts: impl IntoIterator<Item = &'a String, IntoIter: ExactSizeIterator>) {
        let texts = texts.into_iter();
        self.0.update(&(texts.len() as u64).to_be_bytes());
        texts.for_each(|text| self.text(text));
    }

    fn set(&mut self, texts: impl Iterator<Item = String>) {
        self.list(&texts.collect::<std::collections::BTreeSet<_>>());
    }

    fn finish(self) -> String {
        hex::encode(&self.0.finish().as_ref()[..16])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample;

    #[test]
    fn a_subject_that_does_not_fit_is_refused_with_the_name_of_the_field() {
        let subject = || Subject::new("device001").unwrap();
        let refused = |subject: Subject| subject.check().unwrap_err().to_string();

        assert_eq!(
            refused(Subject { common_name: " ".into(), ..subject() }),
            "commonName is empty: write something, or leave it out if it is optional"
        );
        assert_eq!(
            refused(Subject { organization: Some("溫".repeat(65)), ..subject() }),
            "organization has 65 characters: at most 64 fit"
        );
        assert!(
            refused(Subject { organizational_unit: Some("a\nb".into()), ..subject() })
                .contains("organizationalUnit")
        );
        assert!(refused(Subject { state: Some("s".repeat(129)), ..subject() }).contains("state has 129"));
        assert!(refused(Subject { locality: Some(" Taipei".into()), ..subject() }).contains("locality"));
        for country in ["tw", "TWN", "T", "T1", "台灣"] {
            let problem = refused(Subject { country: Some(country.into()), ..subject() });
            assert!(problem.contains("write the two capital letters"), "{problem}");
        }
        let longest =
            Subject { organization: Some("溫".repeat(64)), state: Some("s".repeat(128)), ..subject() };
        longest.check().unwrap();
    }

    #[test]
    fn a_common_name_that_means_something_to_the_broker_is_refused() {
        for name in ["+", "#", "a/b", "$SYS", "Device", "-a", "a..b", "裝置"] {
            let profile =
                LeafProfile { subject: Subject::new(name).unwrap(), ..sample::leaf_profile(Usage::Client) };
            assert!(matches!(profile.check(), Err(ProfileError::CommonName(_))), "{name}");
        }
    }

    #[test]
    fn the_name_of_a_root_leaves_room_for_its_generation() {
        let mut profile = RootProfile { generation: 12, ..sample::root_profile() };
        profile.subject.common_name = "r".repeat(60);
        profile.check().unwrap();
        assert!(profile.common_name().ends_with("r g12"));
        profile.subject.common_name.push('r');
        assert!(profile.check().unwrap_err().to_string().contains("at most 60"));
    }

    #[test]
    fn a_name_that_was_asked_for_twice_is_written_once() {
        let mut profile = sample::leaf_profile(Usage::Server);
        profile.dns_names = vec!["b.example".into(), "a.example".into(), "b.example".into()];
        let names = profile.alternative_names().unwrap();
        assert_eq!(names.len(), 4);
        assert_eq!(names[0], SanType::DnsName("b.example".try_into().unwrap()), "the order is kept");
    }

    #[test]
    fn the_order_and_repetition_of_names_do_not_make_another_profile() {
        let mut profile = sample::leaf_profile(Usage::Server);
        profile.dns_names = vec!["a.example".into(), "b.example".into()];
        profile.ip_addresses = vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let hash = profile.hash();
        profile.dns_names = vec!["b.example".into(), "A.example".into(), "b.example".into()];
        profile.ip_addresses.reverse();
        assert_eq!(profile.hash(), hash);
        assert_eq!(hash.len(), 32);
    }

    #[test]
    fn every_field_makes_another_profile() {
        type Change = fn(&mut LeafProfile);
        let changes: [Change; 14] = [
            |_| (),
            |profile| profile.subject.common_name = "other".into(),
            |profile| profile.subject.organization = Some("x".into()),
            |profile| profile.subject.organizational_unit = Some("x".into()),
            |profile| profile.subject.country = Some("x".into()),
            |profile| profile.subject.state = Some("x".into()),
            |profile| profile.subject.locality = Some("x".into()),
            |profile| profile.dns_names.push("x".into()),
            |profile| profile.ip_addresses.clear(),
            |profile| profile.uris.push("x".into()),
            |profile| profile.usage = Usage::Server,
            |profile| profile.key_algorithm = KeyAlgorithm::Rsa2048,
            |profile| profile.duration += Duration::from_nanos(1),
            |profile| profile.crl_distribution_url = Some("x".into()),
        ];
        let hashes: std::collections::BTreeSet<_> = changes
            .iter()
            .map(|change| {
                let mut profile = sample::leaf_profile(Usage::Client);
                change(&mut profile);
                profile.hash()
            })
            .collect();
        assert_eq!(hashes.len(), changes.len());
    }

    #[test]
    fn the_hash_stays_the_same_from_release_to_release() {
        // Another value here renews every certificate of every fleet when the operator is updated.
        assert_eq!(sample::leaf_profile(Usage::Client).hash(), "be7a15815e9e2bffb32f5ee842f709be");
    }

    proptest! {
        #[test]
        fn what_moves_from_one_field_to_the_next_makes_another_profile(
            names in prop::collection::btree_set("[a-c]{1,3}", 0..4),
            others in prop::collection::btree_set("[a-c]{1,3}", 0..4),
        ) {
            let profile = |dns_names: &std::collections::BTreeSet<String>, uris: &std::collections::BTreeSet<String>| LeafProfile {
                dns_names: dns_names.iter().cloned().collect(),
                uris: uris.iter().cloned().collect(),
                ..sample::leaf_profile(Usage::Client)
            };
            let (one, swapped) = (profile(&names, &others), profile(&others, &names));
            prop_assert_eq!(one.hash() == swapped.hash(), names == others);
        }
    }
}
