//! Values of nodes: text in most protocols, JSON text to the engine. What a node gave as text stays text.

use std::borrow::Cow;
use std::sync::Arc;

/// What a protocol that knows text alone is given for JSON text: of a string its characters, of all else the JSON text.
#[must_use]
pub fn text_of(json: &str) -> Cow<'_, str> {
    match serde_json::from_str::<String>(json) {
        Ok(text) => Cow::Owned(text),
        Err(_) => Cow::Borrowed(json),
    }
}

/// A node's text as JSON text: a string, whatever it looks like.
#[must_use]
pub fn json_of(text: &str) -> Arc<str> {
    Arc::from(serde_json::Value::from(text).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_text_to_nodes_that_know_text_alone() {
        assert_eq!(text_of(r#""on""#), "on");
        assert_eq!(text_of("1"), "1");
        assert_eq!(text_of(r#"{"a":[1]}"#), r#"{"a":[1]}"#);
    }
}
