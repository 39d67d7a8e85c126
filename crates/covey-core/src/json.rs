//! What can be said of JSON text without reading it.

/// How deeply JSON text is nested, at least as deeply as it will turn out to
/// be; brackets in strings do not count. What reads it later may do so with a
/// call a level.
#[must_use]
pub fn levels(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut is_escaped) = (0_usize, 0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_count_where_they_are_brackets() {
        for (json, expected) in
            [("5", 0), ("{}", 1), (r#"{"a":[{}],"b":[]}"#, 3), (r#"["[[\"[[", "\\", []]"#, 2), ("]]]{", 1)]
        {
            assert_eq!(levels(json), expected, "{json}");
        }
    }
}
