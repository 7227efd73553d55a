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
    if !blocks.is_empty() {
        return Ok(blocks);
    }
    // The parser skips what it cannot recognise, a cut-off block included.
    Err(if text.contains("-----BEGIN") {
        PemError::Malformed("a block that begins does not end".to_owned())
    } else {
        PemError::Empty { expected }
    })
}

/// One block with LF line endings and a final newline.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    pem::encode_config(&Pem::new(label, der), EncodeConfig::new().set_line_ending(LineEnding::LF))
}
