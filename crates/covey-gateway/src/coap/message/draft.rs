//! Messages on their way out.

use std::borrow::Cow;

use super::{Code, Kind, PAYLOAD_MARKER, Token};

/// Longest value of an option that the form allows (RFC 7252 §3.1).
const VALUE_BYTES_MAX: usize = 65_535 + 269;

/// A message that is put together.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// CON, NON, ACK or RST.
    pub kind: Kind,
    /// Method or status.
    pub code: Code,
    /// Message ID.
    pub id: u16,
    /// Token.
    pub token: Token,
    /// Numbers and values in any order; those of one number stay in theirs.
    options: Vec<(u16, Cow<'a, [u8]>)>,
    /// The payload; none if it is empty.
    pub payload: &'a [u8],
}

/// A value of an option is longer than 65,804 bytes, or an empty message has more than its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message cannot be written")]
pub struct Unencodable;

impl<'a> Draft<'a> {
    /// One without options and payload.
    #[must_use]
    pub const fn new(kind: Kind, code: Code, id: u16, token: Token) -> Self {
        Self { kind, code, id, token, options: Vec::new(), payload: &[] }
    }

    /// An empty ACK or RST, or an empty CON (a "ping").
    #[must_use]
    pub fn empty(kind: Kind, id: u16) -> [u8; 4] {
        let [high, low] = id.to_be_bytes();
        [1 << 6 | kind.bits() << 4, Code::EMPTY.0, high, low]
    }

    /// Adds an option.
    pub fn option(&mut self, number: u16, value: impl Into<Cow<'a, [u8]>>) {
        self.options.push((number, value.into()));
    }

    /// Adds an option of the format uint, in as few bytes as it needs: 0 has none (§3.2).
    pub fn number(&mut self, number: u16, value: u32) {
        let bytes = value.to_be_bytes();
        let from = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
        self.option(number, bytes.get(from..).unwrap_or_default().to_vec());
    }

    /// Whether there is nothing beside the code and the token.
    #[must_use]
    pub fn has_nothing_but_code(&self) -> bool {
        self.options.is_empty() && self.payload.is_empty()
    }

    /// Appends its bytes.
    ///
    /// # Errors
    /// [`Unencodable`]; nothing was appended then.
    pub fn encode(&mut self, out: &mut Vec<u8>) -> Result<(), Unencodable> {
        let is_empty = self.token.as_bytes().is_empty() && self.options.is_empty() && self.payload.is_empty();
        if self.code == Code::EMPTY && !is_empty {
            return Err(Unencodable);
        }
        if self.options.iter().any(|(_, value)| value.len() > VALUE_BYTES_MAX) {
            return Err(Unencodable);
        }
        let [id_high, id_low] = self.id.to_be_bytes();
        out.extend([1 << 6 | self.kind.bits() << 4 | self.token.length, self.code.0, id_high, id_low]);
        out.extend(self.token.as_bytes());
        self.options.sort_by_key(|(number, _)| *number);
        let mut before = 0;
        for (number, value) in &self.options {
            // They are sorted, and shorter than the largest length.
            let delta = usize::from(number.saturating_sub(before));
            before = *number;
            let (delta_bits, length_bits) = (bits(delta), bits(value.len()));
            out.push(delta_bits << 4 | length_bits);
            extend(delta_bits, delta, out);
            extend(length_bits, value.len(), out);
            out.extend(&**value);
        }
        if !self.payload.is_empty() {
            out.push(PAYLOAD_MARKER);
            out.extend(self.payload);
        }
        Ok(())
    }
}

/// What stands in the four bits for a delta or a length.
const fn bits(value: usize) -> u8 {
    match value {
        // Below 13.
        0..13 => value as u8,
        13..269 => 13,
        _ => 14,
    }
}

/// The bytes that the four bits announce.
fn extend(bits: u8, value: usize, out: &mut Vec<u8>) {
    // No delta and no length is above 65,804, so that nothing is cut off.
    match bits {
        13 => out.push((value - 13) as u8),
        14 => out.extend(((value - 269) as u16).to_be_bytes()),
        _ => {}
    }
}
