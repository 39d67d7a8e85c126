//! Options of CoAP (RFC 7252 §3.1, §5.4, §5.10): their numbers, and how they stand in a message.

use super::PAYLOAD_MARKER;

/// If-Match
pub const IF_MATCH: u16 = 1;
/// Uri-Host
pub const URI_HOST: u16 = 3;
/// ETag
pub const ETAG: u16 = 4;
/// If-None-Match
pub const IF_NONE_MATCH: u16 = 5;
/// Observe (RFC 7641 §2)
pub const OBSERVE: u16 = 6;
/// Uri-Port
pub const URI_PORT: u16 = 7;
/// Location-Path
pub const LOCATION_PATH: u16 = 8;
/// Uri-Path
pub const URI_PATH: u16 = 11;
/// Content-Format
pub const CONTENT_FORMAT: u16 = 12;
/// Max-Age
pub const MAX_AGE: u16 = 14;
/// Uri-Query
pub const URI_QUERY: u16 = 15;
/// Accept
pub const ACCEPT: u16 = 17;
/// Location-Query
pub const LOCATION_QUERY: u16 = 20;
/// Block2 (RFC 7959 §2.1)
pub const BLOCK2: u16 = 23;
/// Block1 (RFC 7959 §2.1)
pub const BLOCK1: u16 = 27;
/// Size2 (RFC 7959 §4)
pub const SIZE2: u16 = 28;
/// Proxy-Uri
pub const PROXY_URI: u16 = 35;
/// Proxy-Scheme
pub const PROXY_SCHEME: u16 = 39;
/// Size1
pub const SIZE1: u16 = 60;

/// Whether a message with an option of this number, which is not known, must be rejected (§5.4.1).
#[must_use]
pub const fn is_critical(number: u16) -> bool {
    number % 2 == 1
}

/// A value of the format uint (§3.2): at most four bytes, leading zeros allowed. None if it is longer.
#[must_use]
pub fn number(value: &[u8]) -> Option<u32> {
    if value.len() > 4 {
        return None;
    }
    Some(value.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

/// The options of a message, checked for their form.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    bytes: &'a [u8],
}

impl<'a> Options<'a> {
    /// What follows the token, as options and payload.
    pub(super) fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), &'static str> {
        let mut rest = bytes;
        let mut number = 0;
        while let Some((first, after)) = rest.split_first() {
            if *first == PAYLOAD_MARKER {
                if after.is_empty() {
                    return Err("a payload marker has no payload behind it");
                }
                let length = bytes.len() - rest.len();
                return Ok((Self { bytes: bytes.get(..length).unwrap_or_default() }, after));
            }
            let (next, _, after) = next_option(number, rest)?;
            (number, rest) = (next, after);
        }
        Ok((Self { bytes }, &[]))
    }

    /// Number and value of each, in the order of the numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let (mut rest, mut number) = (self.bytes, 0);
        std::iter::from_fn(move || {
            // They were checked when the message was read.
            let (next, value, after) = next_option(number, rest).ok()?;
            (number, rest) = (next, after);
            Some((number, value))
        })
    }

    /// The values of those of one number.
    pub fn all(&self, number: u16) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.iter().filter(move |(found, _)| *found == number).map(|(_, value)| value)
    }

    /// The value of the first of this number.
    #[must_use]
    pub fn first(&self, number: u16) -> Option<&'a [u8]> {
        self.all(number).next()
    }
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}

const ENDS_EARLY: &str = "the message ends within an option";

/// Number and value of the option at the beginning of `bytes`, and what follows it.
fn next_option(before: u16, bytes: &[u8]) -> Result<(u16, &[u8], &[u8]), &'static str> {
    let (first, rest) = bytes.split_first().ok_or(ENDS_EARLY)?;
    let (delta, rest) = extended(first >> 4, rest)?;
    let (length, rest) = extended(first & 0x0F, rest)?;
    let number = u32::from(before) + delta;
    let number = u16::try_from(number).map_err(|_| "an option has a number above 65535")?;
    // At most 65,804.
    let (value, rest) = rest.split_at_checked(length as usize).ok_or(ENDS_EARLY)?;
    Ok((number, value, rest))
}

/// A delta or a length, in the four bits or the bytes after them (§3.1).
fn extended(bits: u8, rest: &[u8]) -> Result<(u32, &[u8]), &'static str> {
    match bits {
        13 => {
            let (byte, rest) = rest.split_first().ok_or(ENDS_EARLY)?;
            Ok((13 + u32::from(*byte), rest))
        }
        14 => {
            let (bytes, rest) = rest.split_first_chunk().ok_or(ENDS_EARLY)?;
            Ok((269 + u32::from(u16::from_be_bytes(*bytes)), rest))
        }
        15 => Err("an option has the reserved delta or length 15"),
        bits => Ok((u32::from(bits), rest)),
    }
}
