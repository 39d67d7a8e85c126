//! Names as they stand in messages: of clients, topics, and subscribed topics.

use crate::mqtt::{ProtocolVersion, check_topic_filter, check_topic_name};

use super::Violation;

/// The longest client id (§5.3.1), in characters.
/// Limit for each client: CONNACK 0x03.
pub const CLIENT_ID_CHARACTERS_MAX: usize = 23;

/// A name, which need not be text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name<'a>(pub &'a [u8]);

impl<'a> Name<'a> {
    /// The name as text.
    ///
    /// # Errors
    /// It is empty, is not UTF-8, or has the character U+0000.
    pub fn text(self) -> Result<&'a str, Violation> {
        if self.0.is_empty() {
            return Err(Violation::new("5.3", "a name is empty"));
        }
        if self.0.contains(&0) {
            return Err(Violation::new("5.3", "a name has the character U+0000"));
        }
        std::str::from_utf8(self.0).map_err(|_| Violation::new("5.3", "a name is not well-formed UTF-8"))
    }

    /// The name as that of a client.
    ///
    /// # Errors
    /// It is not text of 1 to 23 characters.
    pub fn client_id(self) -> Result<&'a str, Violation> {
        let id = self.text()?;
        if id.chars().count() > CLIENT_ID_CHARACTERS_MAX {
            return Err(Violation::new("5.3.1", "the client id is longer than 23 characters"));
        }
        Ok(id)
    }

    /// The name as that of one topic.
    ///
    /// # Errors
    /// It is not text, or has a wildcard.
    pub fn topic(self) -> Result<&'a str, Violation> {
        let name = self.text()?;
        check_topic_name(name).map_err(|wrong| Violation::new("5.3.12", wrong.text))?;
        Ok(name)
    }

    /// The name as that of topics.
    ///
    /// # Errors
    /// It is not text, or has a wildcard where none may be.
    pub fn filter(self) -> Result<&'a str, Violation> {
        let name = self.text()?;
        check_topic_filter(name, ProtocolVersion::V311)
            .map_err(|wrong| Violation::new("5.3.12", wrong.text))?;
        Ok(name)
    }
}
