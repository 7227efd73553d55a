//! Parse once: from a spec to a request that can be fulfilled, or to words that say what to write instead.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::conditions::{Reason, Verdict};
use api::{CertificateSpec, DeviceSubject, RootCA, names};
use aws_lc_rs::digest::{SHA256, digest};
use kube::ResourceExt as _;
use kube::runtime::reflector::Store;
use pki::{CertificateRequest, KeyHolder, LeafProfile, PublicKey, Subject, Usage};

use super::Holder;
use super::secret::Ledger;
use crate::context::Context;
use crate::roots::{Kind, Signer, UsableRoot};

/// What to write instead of a signing request that cannot be used.
const HOW_TO_MAKE_A_CSR: &str =
    "make one on the device with `openssl req -new -key device.key -subj /CN=device` and write its PEM here";

/// A checked request for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What the certificate is to say, but for what the root adds.
    profile: LeafProfile,
    /// How long before its end it is renewed; none: a third of its life.
    pub renew_before: Option<Duration>,
    /// The renewal that was asked for last.
    pub trigger: Option<String>,
    /// The root that is to sign; none: the only one there is.
    pub root: Option<String>,
    /// Where it is stored.
    pub secret_name: String,
    /// Whose it is.
    pub kind: Kind,
    /// The key that the device keeps for itself; none: one is made for it.
    own_key: Option<PublicKey>,
}

/// What follows from kind and name of a holder.
#[derive(Clone, Debug)]
pub struct Role {
    /// The common name.
    pub common_name: String,
    /// Which kind of holder it is.
    pub kind: Kind,
    /// The signing request of a device that keeps its key.
    pub csr: Option<String>,
    /// Names that are always in the certificate.
    pub dns_names: Vec<String>,
    /// Addresses that are always in the certificate.
    pub ip_addresses: Vec<IpAddr>,
}

// === impl Request ===

impl Request {
    /// Checks what `holder` asks for.
    pub fn parse<K: Holder>(holder: &K, role: Role) -> Result<Self, Verdict> {
        let spec: &CertificateSpec = holder.certificate_spec();
        let refuse = |field: &str, problem: &dyn std::fmt::Display| {
            Verdict::no(Reason::InvalidSpec, format!("spec.{field}: {problem}"))
        };

        let csr = role.csr.as_deref().map(CertificateRequest::from_pem).transpose();
        let csr = csr.map_err(|problem| refuse("csr", &format_args!("{problem}; {HOW_TO_MAKE_A_CSR}")))?;
        // The spec decides what the certificate says: of a signing request only the key counts.
        let own_key = csr.map(|request| request.public_key().clone());
        let mut ip_addresses = role.ip_addresses;
        for text in &spec.ip_addresses {
            let address = text.parse().map_err(|_| {
                refuse(
                    "ipAddresses",
                    &format_args!(
                        "{text:?} is not an IP address; write one without a mask, such as 192.0.2.7"
                    ),
                )
            })?;
            ip_addresses.push(address);
        }
        let mut dns_names = role.dns_names;
        dns_names.extend(spec.dns_names.iter().cloned());
        let DeviceSubject { organization, organizational_unit, country, state, locality } =
            spec.subject.clone();
        let profile = LeafProfile {
            subject: Subject {
                common_name: role.common_name,
                organization,
                organizational_unit,
                country,
                state,
                locality,
            },
            dns_names,
            ip_addresses,
            uris: spec.uris.clone(),
            usage: if role.kind == Kind::Broker { Usage::Server } else { Usage::Client },
            key_algorithm: own_key.as_ref().map_or(spec.key_algorithm, PublicKey::algorithm),
            duration: spec.duration.into(),
            crl_distribution_url: None,
        };
        profile.check().map_err(|problem| Verdict::no(Reason::InvalidSpec, format!("spec: {problem}")))?;
        Ok(Self {
            profile,
            renew_before: spec.renew_before.map(Duration::from),
            trigger: spec.renewal.trigger.clone(),
            root: spec.root_ca_ref.as_ref().map(|root| root.name.clone()),
            secret_name: spec.secret_name.clone().unwrap_or_else(|| names::owned::<K>(&holder.name_any())),
            kind: role.kind,
            own_key,
        })
    }

    /// What the certificate is to say when `signer` signs it.
    pub fn profile(&self, signer: &Signer) -> LeafProfile {
        LeafProfile { crl_distribution_url: signer.crl_distribution_url.clone(), ..self.profile.clone() }
    }

    /// The key of a device that keeps it for itself.
    pub fn own_key(&self) -> Option<&PublicKey> {
        self.own_key.as_ref()
    }

    /// Where the private key is.
    pub fn key_holder(&self) -> KeyHolder<'_> {
        self.own_key.as_ref().map_or(KeyHolder::Secret, KeyHolder::Device)
    }

    /// Whether it is a server's, which needs the CRLs too.
    pub fn is_server(&self) -> bool {
        self.profile.usage == Usage::Server
    }

    /// How long the certificate is to live.
    pub fn duration(&self) -> Duration {
        self.profile.duration
    }

    /// A digest of everything that decides what the Secret holds.
    pub fn digest(&self, root: &UsableRoot, signer: &Signer) -> String {
        let crls = if self.is_server() { root.crls.as_str() } else { "" };
        let parts = [
            self.profile(signer).hash(),
            format!("{:?} {:?}", self.renew_before, self.trigger),
            hex::encode(self.own_key.as_ref().map(PublicKey::to_der).unwrap_or_default()),
            signer.number.to_string(),
            root.bundle.clone(),
            crls.to_owned(),
        ];
        hex::encode(digest(&SHA256, parts.join("\n").as_bytes()))
    }
}

/// The root that signs for `holder`, if it can.
pub fn root_of<K: Holder>(context: &Context, namespace: &str, holder: &K) -> Option<Arc<UsableRoot>> {
    let name = match &holder.certificate_spec().root_ca_ref {
        Some(reference) => reference.name.clone(),
        None => unnamed_root(context, holder).ok()?,
    };
    context.roots.usable(namespace, &name)
}

/// The root of a holder that names none: the only one there is; of several the one that it has its certificate from, so that nobody
/// is left without by somebody's second root.
pub fn unnamed_root<K: Holder>(context: &Context, holder: &K) -> Result<String, Verdict> {
    let (namespace, name) = (holder.namespace().unwrap_or_default(), holder.name_any());
    only_root(&context.objects.roots, &namespace).or_else(|verdict| {
        let ledgers = Ledger::of_holder(&context.children, &K::kind(&()), &namespace, &name);
        let noted = ledgers.into_iter().find_map(|ledger| ledger.current.root_ca);
        noted.filter(|noted| root_exists(&context.objects.roots, &namespace, noted)).ok_or(verdict)
    })
}

/// The name of the root of `namespace`, when there is just one.
pub fn only_root(roots: &Store<RootCA>, namespace: &str) -> Result<String, Verdict> {
    let mut names: Vec<String> = roots
        .state()
        .iter()
        .filter(|root| root.namespace().as_deref() == Some(namespace))
        .map(|root| root.name_any())
        .collect();
    names.sort();
    match names.as_slice() {
        [] => Err(Verdict::no(Reason::WaitingForRoot, "there is no RootCA in this namespace: create one")),
        [name] => Ok(name.clone()),
        several => Err(Verdict::no(
            Reason::InvalidSpec,
            format!(
                "spec.rootCARef: several RootCAs are here ({}): write which one signs",
                several.join(", ")
            ),
        )),
    }
}

/// Whether somebody wrote a root of this name.
pub fn root_exists(roots: &Store<RootCA>, namespace: &str, name: &str) -> bool {
    roots.state().iter().any(|root| root.namespace().as_deref() == Some(namespace) && root.name_any() == name)
}
