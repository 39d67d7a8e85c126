//! JSON text for people: laid out in lines, and otherwise exactly as it was
//! sent. Order of fields and spelling of numbers stay, which reading it into
//! values would lose.

/// Lays out a JSON text in lines with two spaces for each level.
///
/// Characters that command a terminal are escaped, which JSON allows in every
/// string. A text that is no JSON comes out as nonsense but does no harm.
pub fn in_lines(json: &str) -> String {
    let mut lines = Lines { text: String::with_capacity(json.len() * 2), level: 0 };
    let mut characters = json.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                lines.text.push('"');
                while let Some(inner) = characters.next() {
                    lines.push(inner);
                    match inner {
                        '\\' => lines.text.extend(characters.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '{' | '[' => {
                lines.text.push(character);
                while characters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(end) = characters.next_if(|next| matches!(next, '}' | ']')) {
                    lines.text.push(end);
                } else {
                    lines.level += 1;
                    lines.next();
                }
            }
            '}' | ']' => {
                lines.level = lines.level.saturating_sub(1);
                lines.next();
                lines.text.push(character);
            }
            ',' => {
                lines.text.push(',');
                lines.next();
            }
            ':' => lines.text.push_str(": "),
            other if other.is_ascii_whitespace() => {}
            other => lines.push(other),
        }
    }
    lines.text
}

struct Lines {
    text: String,
    level: usize,
}

impl Lines {
    fn next(&mut self) {
        self.text.push('\n');
        self.text.extend(std::iter::repeat_n("  ", self.level));
    }

    fn push(&mut self, character: char) {
        if character.is_control() {
            self.text.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            self.text.push(character);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn order_and_numbers_stay_as_they_were_sent() {
        let sent = r#"{"z": 1.10,"a":[12345678901234567890,{ },[ ]],"t":"a\"b{,:}\\"}"#;
        let shown = "{\n  \"z\": 1.10,\n  \"a\": [\n    12345678901234567890,\n    {},\n    []\n  ],\n  \
            \"t\": \"a\\\"b{,:}\\\\\"\n}";
        assert_eq!(in_lines(sent), shown);
        let values: [serde_json::Value; 2] = [sent, shown].map(|text| serde_json::from_str(text).unwrap());
        assert_eq!(values[0], values[1]);
    }

    #[test]
    fn what_commands_a_terminal_is_escaped_and_still_the_same_json() {
        let sent = "{\"a\":\"\u{9b}2J\u{7f}\"}";
        let shown = in_lines(sent);
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
        let values: [serde_json::Value; 2] = [sent, &shown].map(|text| serde_json::from_str(text).unwrap());
        assert_eq!(values[0], values[1]);
    }

    #[test]
    fn what_is_no_json_does_no_harm() {
        for text in ["", "\"", "\"\\", "}}]]", "[[[", ",:", "\u{1b}[2J"] {
            assert!(!in_lines(text).contains('\u{1b}'), "{text:?}");
        }
    }
}
