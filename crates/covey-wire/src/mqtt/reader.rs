//! Reads the data types of MQTT (MQTT 5 §1.5) from the bytes of a packet, without copying them.

use std::num::NonZeroU16;

use super::Violation;

/// What is left of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

const ENDS_EARLY: Violation = Violation::malformed("MQTT-4.13.1-1", "the packet ends within a field");

impl<'a> Reader<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub const fn left(&self) -> usize {
        self.rest.len()
    }

    /// All that is left.
    pub const fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// That nothing is left.
    pub fn end(self) -> Result<(), Violation> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(Violation::malformed("MQTT-4.13.1-1", "the packet has bytes after its last field"))
    }

    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Violation> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ENDS_EARLY)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(ENDS_EARLY)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub fn byte(&mut self) -> Result<u8, Violation> {
        Ok(self.array::<1>()?[0])
    }

    pub fn two_bytes(&mut self) -> Result<u16, Violation> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn four_bytes(&mut self) -> Result<u32, Violation> {
        self.array().map(u32::from_be_bytes)
    }

    /// A Variable Byte Integer (MQTT 5 §1.5.5): at most four bytes, and no more than it needs.
    pub fn variable_byte_integer(&mut self) -> Result<u32, Violation> {
        let mut value = 0;
        for place in 0..4 {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7F) << (7 * place);
            if byte & 0x80 == 0 {
                if byte == 0 && place > 0 {
                    return Err(Violation::malformed("MQTT-1.5.5-1", "an integer is longer than it need be"));
                }
                return Ok(value);
            }
        }
        Err(Violation::malformed("MQTT 5 §1.5.5", "an integer has more than four bytes"))
    }

    pub fn binary(&mut self) -> Result<&'a [u8], Violation> {
        let length = self.two_bytes()?;
        self.take(length.into())
    }

    /// A UTF-8 Encoded String (MQTT 5 §1.5.4). U+FEFF is a character as any other \[MQTT-1.5.4-3\].
    pub fn text(&mut self) -> Result<&'a str, Violation> {
        let bytes = self.binary()?;
        let text = std::str::from_utf8(bytes)
            .map_err(|_| Violation::malformed("MQTT-1.5.4-1", "a string is not well-formed UTF-8"))?;
        if bytes.contains(&0) {
            return Err(Violation::malformed("MQTT-1.5.4-2", "a string has the character U+0000"));
        }
        Ok(text)
    }

    /// A Packet Identifier (MQTT 5 §2.2.1).
    pub fn packet_id(&mut self) -> Result<NonZeroU16, Violation> {
        NonZeroU16::new(self.two_bytes()?)
            .ok_or(Violation::protocol("MQTT-2.2.1-3", "the packet identifier is 0"))
    }
}
