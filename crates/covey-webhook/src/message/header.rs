//! Texts of applications as values of headers.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

/// What a value of a header cannot hold, and the sign of the encoding itself.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// Inserts a text as it is, if it can be a value of a header; else
/// percent-encoded, which a second header then says: `<name>-encoding: percent`.
pub(super) fn insert_text(headers: &mut HeaderMap, name: &'static str, text: &str) {
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.trim_matches(' ') == text;
    let name = HeaderName::from_static(name);
    if is_plain {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
        return;
    }
    let encoded = utf8_percent_encode(text, ENCODED).to_string();
    // Spaces at the ends would be lost.
    let inner = encoded.trim_matches(' ');
    let before = encoded.len() - encoded.trim_start_matches(' ').len();
    let after = encoded.len() - inner.len() - before;
    let value =
        format!("{}{inner}{}", "%20".repeat(before), "%20".repeat(if inner.is_empty() { 0 } else { after }));
    let note = HeaderName::try_from(format!("{name}-encoding"));
    if let (Ok(value), Ok(note)) = (HeaderValue::try_from(value), note) {
        headers.insert(name, value);
        headers.insert(note, HeaderValue::from_static("percent"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_sent_as_it_is_or_so_that_it_can_be_read_again() {
        for (text, value, is_encoded) in [
            ("", "", false),
            ("order 7 (100%)", "order 7 (100%)", false),
            ("a\r\nb", "a%0D%0Ab", true),
            ("ü%", "%C3%BC%25", true),
            (" a ", "%20a%20", true),
            ("  ", "%20%20", true),
            ("\0\x7f", "%00%7F", true),
        ] {
            let mut headers = HeaderMap::new();
            insert_text(&mut headers, "x-ext-id", text);
            assert_eq!(headers["x-ext-id"], value, "{text:?}");
            assert_eq!(headers.contains_key("x-ext-id-encoding"), is_encoded, "{text:?}");
            let decoded = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
            assert!(!is_encoded || decoded == text, "{text:?}");
        }
    }
}
