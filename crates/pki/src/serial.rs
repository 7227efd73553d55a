//! Serial numbers (RFC 5280, 4.1.2.2).

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The number that tells a certificate from every other of its issuer: positive, at most 20 octets.
/// Written as lower-case hexadecimal, whole octets, no separators; ordered as a number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(into = "String", try_from = "String")]
#[schemars(with = "String")]
pub struct SerialNumber([u8; Self::OCTETS]);

/// Why something is not a serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SerialNumberError {
    /// Something else than pairs of hexadecimal digits.
    #[error("a serial number is written as pairs of hexadecimal digits, such as 4a0f")]
    NotHexadecimal,
    /// RFC 5280 wants positive numbers.
    #[error("a serial number is greater than zero")]
    NotPositive,
    /// RFC 5280 allows 20 octets.
    #[error("a serial number has at most 20 octets")]
    TooLong,
}

impl SerialNumber {
    /// The longest serial number, in octets.
    pub const OCTETS: usize = 20;

    /// A new serial number from random octets. The two leading bits are fixed to 01, so that it is positive and always
    /// 20 octets long, with 158 random bits (CAs must use at least 64).
    pub fn from_random(mut octets: [u8; Self::OCTETS]) -> Self {
        octets[0] = octets[0] & 0x7f | 0x40;
        Self(octets)
    }

    /// Draws the octets from the cryptographic library.
    pub fn generate() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut octets = [0; Self::OCTETS];
        aws_lc_rs::rand::fill(&mut octets)?;
        Ok(Self::from_random(octets))
    }

    /// Reads the content of a DER INTEGER.
    pub(crate) fn from_der_integer(content: &[u8]) -> Result<Self, SerialNumberError> {
        match content.first() {
            Some(0x80..) => Err(SerialNumberError::NotPositive),
            _ => Self::from_magnitude(content),
        }
    }

    /// The number without leading zero octets.
    pub fn as_octets(&self) -> &[u8] {
        let zeros = self.0.iter().take_while(|octet| **octet == 0).count();
        &self.0[zeros..]
    }

    fn from_magnitude(octets: &[u8]) -> Result<Self, SerialNumberError> {
        let zeros = octets.iter().take_while(|octet| **octet == 0).count();
        let magnitude = &octets[zeros..];
        if magnitude.is_empty() {
            return Err(SerialNumberError::NotPositive);
        }
        let mut number = [0; Self::OCTETS];
        let start = Self::OCTETS.checked_sub(magnitude.len()).ok_or(SerialNumberError::TooLong)?;
        number[start..].copy_from_slice(magnitude);
        Ok(Self(number))
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.as_octets()))
    }
}

impl fmt::Debug for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SerialNumber({self})")
    }
}

impl FromStr for SerialNumber {
    type Err = SerialNumberError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let octets = hex::decode(text).map_err(|_| SerialNumberError::NotHexadecimal)?;
        Self::from_magnitude(&octets)
    }
}

impl From<SerialNumber> for String {
    fn from(serial: SerialNumber) -> Self {
        serial.to_string()
    }
}

impl TryFrom<String> for SerialNumber {
    type Error = SerialNumberError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_random_serial_is_positive_and_20_octets_long(octets: [u8; 20]) {
            let serial = SerialNumber::from_random(octets);
            prop_assert_eq!(serial.as_octets().len(), 20);
            prop_assert!(serial.as_octets()[0] < 0x80, "the sign bit is not set");
            prop_assert_eq!(&serial.as_octets()[1..], &octets[1..]);
        }

        #[test]
        fn a_serial_survives_being_written_and_read(octets in prop::collection::vec(any::<u8>(), 1..=20)) {
            prop_assume!(octets.iter().any(|octet| *octet != 0));
            let serial: SerialNumber = hex::encode(&octets).parse().unwrap();
            prop_assert_eq!(serial.to_string().parse::<SerialNumber>().unwrap(), serial);
            prop_assert_eq!(serial.to_string().len() % 2, 0);
        }

        #[test]
        fn serials_are_ordered_as_numbers(a in 1..u64::MAX, b in 1..u64::MAX) {
            let serial = |number: u64| SerialNumber::from_der_integer(&[&[0], &number.to_be_bytes()[..]].concat());
            prop_assert_eq!(serial(a).unwrap().cmp(&serial(b).unwrap()), a.cmp(&b));
        }
    }

    #[test]
    fn what_is_no_serial_is_refused_by_name() {
        let refused = |text: &str| text.parse::<SerialNumber>().unwrap_err();
        assert_eq!(refused("4A:0F"), SerialNumberError::NotHexadecimal);
        assert_eq!(refused("abc"), SerialNumberError::NotHexadecimal);
        assert_eq!(refused(""), SerialNumberError::NotPositive);
        assert_eq!(refused("0000"), SerialNumberError::NotPositive);
        assert_eq!(refused(&"11".repeat(21)), SerialNumberError::TooLong);
        assert_eq!(SerialNumber::from_der_integer(&[0x80, 1]).unwrap_err(), SerialNumberError::NotPositive);
    }

    #[test]
    fn a_serial_is_shown_without_leading_zero_octets() {
        assert_eq!("00000a1B".parse::<SerialNumber>().unwrap().to_string(), "0a1b");
    }
}
