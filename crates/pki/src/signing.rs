//! Signing what rcgen lays out, under a name that rcgen cannot write.
//!
//! rcgen keeps a distinguished name as a map, so it loses the second `DC` of `DC=example, DC=com` and refuses what it does not know. A
//! root that was imported may have any name, and everything it issues must repeat that name octet for octet. So rcgen lays out the
//! document without a signature; here the issuer's own octets go in, and the signature is made over the result.

use rcgen::{PublicKeyData, SigningKey};
use x509_parser::asn1_rs::{Any, BitString, FromDer, Sequence, ToDer};

use crate::key::PrivateKey;

/// Stands in for the root's key while rcgen lays out a certificate or a list.
pub(crate) struct Unsigned<'a>(pub(crate) &'a PrivateKey);

/// Signs the certificate or list `unsigned` in the name of `issuer`, a DER `Name`.
pub(crate) fn sign_as(issuer: &[u8], key: &PrivateKey, unsigned: &[u8]) -> Result<Vec<u8>, String> {
    let [to_be_signed, algorithm, _] = elements(unsigned)?[..] else {
        return Err("expected three elements: what is signed, the algorithm, the signature".to_owned());
    };
    let mut fields = elements(to_be_signed)?;
    // RFC 5280: in certificates and in lists alike, the issuer follows the algorithm, which is the same as outside.
    let issuer_field = fields
        .iter()
        .position(|field| *field == algorithm)
        .and_then(|position| fields.get_mut(position + 1))
        .ok_or("the issuer's place was not found")?;
    *issuer_field = issuer;

    let to_be_signed = sequence(&fields)?;
    let signature = key.sign(&to_be_signed).map_err(|error| error.to_string())?;
    let signature = BitString::new(0, &signature).to_der_vec().map_err(|error| error.to_string())?;
    sequence(&[&to_be_signed, algorithm, &signature])
}

impl PublicKeyData for Unsigned<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        PublicKeyData::algorithm(self.0)
    }
}

impl SigningKey for Unsigned<'_> {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Vec::new())
    }
}

/// The elements of a DER SEQUENCE, each with its tag and length.
fn elements(der: &[u8]) -> Result<Vec<&[u8]>, String> {
    let (_, sequence) = Any::from_der(der).map_err(|error| error.to_string())?;
    let mut rest = sequence.data;
    let mut elements = Vec::new();
    while !rest.is_empty() {
        let (after, _) = Any::from_der(rest).map_err(|error| error.to_string())?;
        let (element, _) = rest.split_at(rest.len() - after.len());
        elements.push(element);
        rest = after;
    }
    Ok(elements)
}

fn sequence(elements: &[&[u8]]) -> Result<Vec<u8>, String> {
    Sequence::new(elements.concat().into()).to_der_vec().map_err(|error| error.to_string())
}
