//! PEM: the text around every key, certificate and list.

use pem::{EncodeConfig, LineEnding, Pem};

/// Why a text is not the PEM it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// No `-----BEGIN …-----` block at all.
    #[error("holds no PEM block: expected -----BEGIN {expected}-----")]
    Empty {
        /// The label that was looked for.
        expected: &'static str,
    },
    /// A block that begins but cannot be decoded.
    #[error("is not valid PEM: {0}")]
    Malformed(String),
    /// A block of another kind.
    #[error("holds a PEM block {found:?} where {expected:?} is expected")]
    WrongLabel {
        /// The label that was found.
        found: String,
        /// The label that was looked for.
        expected: &'static str,
    },
    /// More than one block where there must be one.
    #[error("holds {0} PEM blocks where exactly one is expected")]
    Several(usize),
}

/// Every block of `text`, all of them labelled `expected` or one of its `synonyms`; at least one.
pub(crate) fn decode_all(
    text: &str,
    expected: &'static str,
    synonyms: &[&str],
) -> Result<Vec<Vec<u8>>, PemError> {
    let blocks = blocks(text, expected)?;
    let mut contents = Vec::with_capacity(blocks.len());
    for block in blocks {
        if block.tag() != expected && !synonyms.contains(&block.tag()) {
            return Err(PemError::WrongLabel { found: block.tag().to_owned(), expected });
        }
        contents.push(block.into_contents());
    }
    Ok(contents)
}

/// The only block of `text`.
pub(crate) fn decode_one(text: &str, expected: &'static str, synonyms: &[&str]) -> Result<Vec<u8>, PemError> {
    let mut contents = decode_all(text, expected, synonyms)?;
    match (contents.pop(), contents.len()) {
        (Some(only), 0) => Ok(only),
        (_, others) => Err(PemError::Several(others + 1)),
    }
}

/// Every block whatever its label; at least one.
pub(crate) fn blocks(text: &str, expected: &'static str) -> Result<Vec<Pem>, PemError> {
    let blocks = pem::parse_many(text).map_err(|error| PemError::Malformed(error.to_string()))?;
    // The parser skips what it cannot recognise, a block that was cut off included.
    if blocks.len() != text.matches("-----BEGIN ").count() {
        return Err(PemError::Malformed("a block that begins does not end".to_owned()));
    }
    if blocks.is_empty() {
        return Err(PemError::Empty { expected });
    }
    Ok(blocks)
}

/// One block with LF line endings and a final newline.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    pem::encode_config(&Pem::new(label, der), EncodeConfig::new().set_line_ending(LineEnding::LF))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_that_was_cut_off_is_refused_instead_of_being_read_in_part() {
        let whole = encode("CERTIFICATE", b"one") + &encode("CERTIFICATE", b"two");
        assert_eq!(decode_all(&whole, "CERTIFICATE", &[]).unwrap(), [b"one", b"two"]);

        let cut = &whole[..whole.len() - 10];
        let error = decode_all(cut, "CERTIFICATE", &[]).unwrap_err();
        assert_eq!(error.to_string(), "is not valid PEM: a block that begins does not end");
    }

    #[test]
    fn explanations_around_the_blocks_do_not_matter() {
        let text = format!("subject=CN = x\n{}\nthat was it\n", encode("CERTIFICATE", b"one"));
        assert_eq!(decode_one(&text, "CERTIFICATE", &[]).unwrap(), b"one");
    }

    #[test]
    fn an_error_says_what_was_found_and_what_was_expected() {
        let key = encode("PRIVATE KEY", b"secret");
        let error = decode_one(&key, "CERTIFICATE", &[]).unwrap_err();
        assert_eq!(error.to_string(), r#"holds a PEM block "PRIVATE KEY" where "CERTIFICATE" is expected"#);
        let error = decode_one("", "CERTIFICATE", &[]).unwrap_err();
        assert_eq!(error.to_string(), "holds no PEM block: expected -----BEGIN CERTIFICATE-----");
        let error = decode_one(&key.repeat(3), "PRIVATE KEY", &[]).unwrap_err();
        assert_eq!(error.to_string(), "holds 3 PEM blocks where exactly one is expected");
    }
}
