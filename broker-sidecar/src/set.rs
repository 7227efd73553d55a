//! The broker's certificate, key, roots and CRLs, checked as one set.

use std::fmt;

use jiff::Timestamp;
use pki::{FilesError, ServerFiles};

use crate::look::Files;
use crate::plan::{Version, has_passed};
use crate::status::Loaded;

/// Files that belong together, and what is in them.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    files: Files,
    version: Version,
    /// DER.
    certificate: Vec<u8>,
    serial: String,
    not_after: Timestamp,
    roots: Vec<Root>,
}

/// A root with its CRL.
#[derive(Clone, Debug)]
struct Root {
    subject: String,
    fingerprint: String,
    not_after: Timestamp,
    crl_number: u64,
    next_update: Timestamp,
}

impl Set {
    /// Checks that the broker can use `files` and that clients will accept it: see [`ServerFiles::check`].
    ///
    /// # Errors
    /// The first thing that is wrong, with the name of the file.
    pub(crate) fn check(files: Files, now: Timestamp) -> Result<Self, FilesError> {
        let Files { certificate, key, roots, crls } = &files;
        let ServerFiles { certificate, key: _, trust, crls } =
            ServerFiles::check(certificate, key, roots, crls, now)?;
        let list_of = |root: &pki::Certificate| crls.iter().find(|list| list.verify(root).is_ok());
        let roots = trust.roots().filter_map(|root| {
            let list = list_of(root)?; // there is one: it was checked
            Some(Root {
                subject: root.subject().to_owned(),
                fingerprint: root.fingerprint(),
                not_after: root.not_after(),
                crl_number: list.number(),
                next_update: list.next_update(),
            })
        });
        Ok(Self {
            roots: roots.collect(),
            certificate: certificate.der().to_vec(),
            serial: certificate.serial().to_string(),
            not_after: certificate.not_after(),
            version: Version::of(&files.contents()),
            files,
        })
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// The certificate that the broker is to serve, DER.
    pub(crate) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// The last second of everything in the set.
    pub(crate) fn ends(&self) -> Vec<Timestamp> {
        self.named_ends().map(|(_, end)| end).collect()
    }

    /// What has run out by `now`.
    pub(crate) fn ended(&self, now: Timestamp) -> Option<String> {
        let ended = self.named_ends().filter(|(_, end)| has_passed(*end, now));
        let ended: Vec<_> = ended.map(|(what, end)| format!("{what} ended at {end}")).collect();
        let advice = "clients are refused until the mounted Secret has a newer one: see the operator's log";
        (!ended.is_empty()).then(|| format!("{}: {advice}", ended.join(", ")))
    }

    /// Whether the clients of at least one root can be let in at `now`.
    pub(crate) fn lets_clients_in(&self, now: Timestamp) -> bool {
        let in_date = |end: Timestamp| !has_passed(end, now);
        in_date(self.not_after)
            && self.roots.iter().any(|root| in_date(root.not_after) && in_date(root.next_update))
    }

    /// What is reported once the broker uses this set.
    pub(crate) fn loaded(&self, at: Timestamp) -> Loaded {
        Loaded {
            crl_numbers: self.roots.iter().map(|it| (it.fingerprint.clone(), it.crl_number)).collect(),
            roots: self.roots.iter().map(|it| it.fingerprint.clone()).collect(),
            serial_number: Some(self.serial.clone()),
            loaded_at: Some(at.to_string()),
            problem: None,
        }
    }

    fn named_ends(&self) -> impl Iterator<Item = (String, Timestamp)> {
        let of_roots =
            self.roots.iter().flat_map(|Root { subject, not_after, crl_number, next_update, .. }| {
                let list = format!("revocation list {crl_number} of {subject:?}");
                [(format!("the root {subject:?}"), *not_after), (list, *next_update)]
            });
        of_roots.chain([("the broker's certificate".to_owned(), self.not_after)])
    }
}

impl fmt::Display for Set {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, serial, roots, .. } = self;
        write!(out, "{version} (certificate {serial}")?;
        for Root { subject, crl_number, .. } in roots {
            write!(out, ", revocation list {crl_number} of {subject:?}")?;
        }
        out.write_str(")")
    }
}
