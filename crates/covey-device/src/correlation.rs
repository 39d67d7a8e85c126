//! A task's id as it travels: as MQTT 5 Correlation Data or as user property `correlationData`.

use uuid::Uuid;

/// Reads a task id in any of the forms the protocol knows: 36-character text, 32 hex digits,
/// `urn:uuid:…`, or 16 raw bytes. `None` for anything else.
#[must_use]
pub fn parse_correlation(bytes: &[u8]) -> Option<Uuid> {
    match bytes.len() {
        16 => Uuid::from_slice(bytes).ok(),
        32 | 36 | 45 => Uuid::try_parse_ascii(bytes).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_form_of_a_correlation_is_the_same_task() {
        let text = "0195f3a1-5b7c-7d10-9c1e-aabbccddeeff";
        let id = Uuid::parse_str(text).unwrap();
        for form in [
            text.as_bytes().to_vec(),
            text.to_uppercase().into_bytes(),
            text.replace('-', "").into_bytes(),
            format!("urn:uuid:{text}").into_bytes(),
            id.as_bytes().to_vec(),
        ] {
            assert_eq!(parse_correlation(&form), Some(id), "{form:?}");
        }
        for wrong in ["", "x", "0195f3a1", &"z".repeat(36), &"z".repeat(32), &"z".repeat(45)] {
            assert_eq!(parse_correlation(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
