//! The fields of a line: values that are cut, and in which nothing is left that a terminal or a reader of
//! lines would obey.

use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};

/// How many characters a value may have.
/// Limit for each value: it is cut, with `…` behind it.
pub const VALUE_CHARS_MAX: usize = 128;
/// How many characters a text may have that the server, a library or a database has put together: the
/// message, and the fields that hold such a text.
pub const TEXT_CHARS_MAX: usize = 1_024;

/// The fields whose values are such texts.
const TEXTS: [&str; 4] = ["message", "error", "problem", "panic"];
/// The fields that name a peer; the first that there is counts.
const PEERS: [&str; 3] = ["sn", "address", "client_id"];

/// One value, ready to be written.
pub(crate) struct Value {
    pub(crate) name: &'static str,
    pub(crate) text: String,
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A number or a truth value, which JSON writes as it stands.
    Plain,
    /// What something says of itself.
    Said,
    /// A string.
    Quoted,
}

/// The fields of one line.
#[derive(Default)]
pub(crate) struct Fields(pub(crate) Vec<Value>);

impl Fields {
    /// Whom the line is about.
    pub(crate) fn peer(&self) -> Option<&str> {
        let of = |name: &&str| self.0.iter().find(|value| value.name == *name);
        let value = PEERS.iter().find_map(of)?;
        let text = value.text.as_str();
        Some(if value.name == "address" { without_port(text) } else { text })
    }

    pub(crate) fn named(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|value| value.name == name).map(|value| value.text.as_str())
    }

    fn add(&mut self, field: &Field, kind: Kind, value: fmt::Arguments<'_>) {
        let name = field.name();
        let chars_max = if TEXTS.contains(&name) { TEXT_CHARS_MAX } else { VALUE_CHARS_MAX };
        let mut cut = Cut { text: String::new(), left: chars_max };
        // Ends when there is enough, however long the value is.
        if write!(cut, "{value}").is_err() && cut.left == 0 {
            cut.text.push('…');
        }
        self.0.push(Value { name, text: cut.text, kind });
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        let kind = if value.is_finite() { Kind::Plain } else { Kind::Said };
        self.add(field, kind, format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Kind::Plain, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Kind::Plain, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Kind::Plain, format_args!("{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let kind = if field.name() == "message" { Kind::Said } else { Kind::Quoted };
        self.add(field, kind, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, Kind::Said, format_args!("{value:?}"));
    }
}

/// An address without its port, which is another one with each connection.
fn without_port(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

/// Takes so many characters and no more.
struct Cut {
    text: String,
    left: usize,
}

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            if is_obeyed(char) {
                self.text.extend(char.escape_default());
            } else {
                self.text.push(char);
            }
        }
        Ok(())
    }
}

/// Whether a terminal or a reader of lines would do something instead of showing it: control characters,
/// ends of lines and paragraphs, changes of the direction, and what is not to be seen.
fn is_obeyed(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str, left: usize) -> String {
        let mut cut = Cut { text: String::new(), left };
        let _ = cut.write_str(text);
        cut.text
    }

    #[test]
    fn an_address_is_known_by_its_host() {
        assert_eq!(without_port("192.0.2.7:50123"), "192.0.2.7");
        assert_eq!(without_port("[2001:db8::7]:50123"), "[2001:db8::7]");
    }

    proptest! {
        #[test]
        fn nothing_that_is_obeyed_is_left_and_what_is_shown_stays(text in ".{0,40}\\PC{0,40}[\n\r\u{1b}\u{9b}\u{7f}\u{202e}]?") {
            let written = cut(&text, 1_000);
            prop_assert!(!written.chars().any(is_obeyed), "{written:?}");
            if !text.chars().any(is_obeyed) {
                prop_assert_eq!(&written, &text);
            }
        }

        #[test]
        fn no_more_characters_are_taken_than_may_be(text in "\\PC{0,300}", left in 0..200_usize) {
            let taken = text.chars().take(left).collect::<String>();
            prop_assert_eq!(cut(&text, left), cut(&taken, 1_000));
        }
    }
}
