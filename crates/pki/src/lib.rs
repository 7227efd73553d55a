//! The public key infrastructure of a fleet, without the fleet: no Kubernetes, no tasks, no clock. Time and the random
//! octets of serial numbers are arguments; only keys draw their own randomness.
//!
//! A walk from nothing to a broker that can be checked:
//!
//! 1. A [`RootProfile`] becomes a [`SigningRoot`]: a key and a CA certificate that it signs itself. An imported one comes in by
//!    [`SigningRoot::load`], which names what is wrong with it.
//! 2. A [`LeafProfile`] says what a device's or broker's certificate is to say. [`Validity::plan`] says for how long, never
//!    so that it would be due at once; [`SigningRoot::issue`] signs it for a [`PublicKey`], which comes from a [`PrivateKey`] made here or
//!    from a device's [`CertificateRequest`].
//! 3. [`examine`] tells, of a certificate that was stored, whether it is still what is asked for, and why not:
//!    the [`IssueReason`].
//! 4. [`SigningRoot::sign_crl`] signs the list of what is revoked, a [`Crl`].
//! 5. A [`TrustBundle`] holds the roots that are trusted; [`ServerFiles::check`] and [`ClientFiles::check`] check what a pod has mounted
//!    as one set.
//!
//! The profile follows RFC 5280; `tests/other_verifiers/` lets OpenSSL, pkilint, rustls and Python judge the result.

mod armor;
mod certificate;
mod crl;
mod files;
mod key;
pub mod names;
mod policy;
mod profile;
mod renewal;
mod request;
mod root;
#[cfg(test)]
mod sample;
mod serial;
mod signing;
mod trust;
mod validity;

pub use armor::PemError;
pub use certificate::{Certificate, CertificateError, SignatureError};
pub use crl::{Crl, CrlContents, CrlError, RevocationReason, RevokedCertificate};
pub use files::{ClientFiles, FilesError, ServerFiles};
pub use key::{KeyAlgorithm, KeyError, PrivateKey, PublicKey};
pub use policy::{AHEAD, IssueReason, KeyHolder, Noted, Stored, Verdict, Wanted, examine, outgrown};
pub use profile::{LeafProfile, ProfileError, RootProfile, Subject, Usage};
pub use renewal::{ValidityError, renewal_time};
pub use request::{CertificateRequest, RequestError};
pub use root::{IssueError, RootError, SigningRoot};
pub use serial::{SerialNumber, SerialNumberError};
pub use trust::{ChainError, CrlSetError, TrustBundle};
pub use validity::{BACKDATE, DateError, Validity, signed_at};
