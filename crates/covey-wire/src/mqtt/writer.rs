//! Writes the data types of MQTT (MQTT 5 §1.5), and says beforehand how many bytes they take.

use bytes::BytesMut;

use super::Violation;

/// The largest Remaining Length, and the largest Variable Byte Integer (MQTT 5 §1.5.5), in bytes.
pub const REMAINING_LENGTH_MAX: usize = 268_435_455;

/// Where packets are written: a buffer that grows.
pub trait Sink {
    /// Makes room for that many bytes more.
    fn make_room(&mut self, bytes: usize);
    /// Appends the bytes.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn make_room(&mut self, bytes: usize) {
        self.reserve(bytes);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Sink for BytesMut {
    fn make_room(&mut self, bytes: usize) {
        self.reserve(bytes);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// How many bytes a Variable Byte Integer takes.
pub(super) const fn variable_byte_integer_size(value: usize) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

/// Writes an integer of at most [`REMAINING_LENGTH_MAX`].
pub(super) fn put_variable_byte_integer(mut value: usize, out: &mut impl Sink) {
    let mut digits = [0; 4];
    let mut length = 0;
    for digit in &mut digits {
        *digit = (value & 0x7F) as u8;
        value >>= 7;
        length += 1;
        if value == 0 {
            break;
        }
        *digit |= 0x80;
    }
    out.put(&digits[..length]);
}

/// Writes a string or binary data, whose length [`check_binary`] has looked at.
pub(super) fn put_binary(bytes: &[u8], out: &mut impl Sink) {
    out.put(&(bytes.len() as u16).to_be_bytes());
    out.put(bytes);
}

/// How many bytes a string or binary data takes.
pub(super) const fn binary_size(bytes: &[u8]) -> usize {
    2 + bytes.len()
}

/// That binary data is no longer than its length can say (MQTT 5 §1.5.6).
pub(super) const fn check_binary(bytes: &[u8]) -> Result<(), Violation> {
    if bytes.len() > u16::MAX as usize {
        return Err(Violation::malformed("MQTT 5 §1.5.6", "a field is longer than 65,535 bytes"));
    }
    Ok(())
}

/// That a string can be sent (MQTT 5 §1.5.4).
pub(super) fn check_text(text: &str) -> Result<(), Violation> {
    check_binary(text.as_bytes())?;
    if text.as_bytes().contains(&0) {
        return Err(Violation::malformed("MQTT-1.5.4-2", "a string has the character U+0000"));
    }
    Ok(())
}
