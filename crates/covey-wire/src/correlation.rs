//! The correlation of a message with a task (device-rpc "Correlation").

use uuid::Uuid;

/// What a device's message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Correlation {
    /// The zero UUID, or none at all: "poll".
    Poll,
    /// A task.
    Task(Uuid),
}

impl Correlation {
    /// Reads any of the forms that [`parse_correlation`] knows. Nothing means "poll".
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::Poll);
        }
        let id = parse_correlation(bytes)?;
        Some(if id.is_nil() { Self::Poll } else { Self::Task(id) })
    }

    /// The task, unless this is a poll.
    #[must_use]
    pub const fn task(self) -> Option<Uuid> {
        match self {
            Self::Poll => None,
            Self::Task(id) => Some(id),
        }
    }
}

/// Reads an id in any of the forms that travel: 36-character text, 32 hexadecimal digits,
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
    fn every_form_names_the_same_task() {
        let uuid = Uuid::from_u128(0x0190_1f2e_3d4c_7b5a_8877_6655_4433_2211);
        let expected = Some(Correlation::Task(uuid));
        assert_eq!(Correlation::parse(uuid.hyphenated().to_string().as_bytes()), expected);
        assert_eq!(Correlation::parse(uuid.hyphenated().to_string().to_uppercase().as_bytes()), expected);
        assert_eq!(Correlation::parse(uuid.simple().to_string().as_bytes()), expected);
        assert_eq!(Correlation::parse(uuid.urn().to_string().as_bytes()), expected);
        assert_eq!(Correlation::parse(uuid.as_bytes()), expected);
    }

    #[test]
    fn zero_and_nothing_mean_poll_and_rubbish_means_nothing() {
        for poll in ["", "00000000-0000-0000-0000-000000000000", "00000000000000000000000000000000"] {
            assert_eq!(Correlation::parse(poll.as_bytes()), Some(Correlation::Poll));
        }
        assert_eq!(Correlation::parse(&[0; 16]), Some(Correlation::Poll));
        for rubbish in [
            "x",
            "0190",
            "{01901f2e-3d4c-7b5a-8877-665544332211}",
            "01901f2e-3d4c-7b5a-8877-66554433221g",
            &"z".repeat(32),
            &"z".repeat(45),
        ] {
            assert_eq!(Correlation::parse(rubbish.as_bytes()), None, "{rubbish}");
        }
    }
}
