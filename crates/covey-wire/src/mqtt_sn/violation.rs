//! What is wrong with a message: the section that says otherwise, and a short text.

/// A rule of the specification that a message breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{text} [MQTT-SN 1.2 §{section}]")]
pub struct Violation {
    /// The section, such as `5.4.12`.
    pub section: &'static str,
    /// What is wrong, for the log; it quotes nothing of the message.
    pub text: &'static str,
}

impl Violation {
    /// A violation of a section.
    #[must_use]
    pub const fn new(section: &'static str, text: &'static str) -> Self {
        Self { section, text }
    }
}
