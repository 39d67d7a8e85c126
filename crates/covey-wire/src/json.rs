//! What can be said of JSON text without reading it.

/// Whether JSON text is an object: the parser would take an array for the
/// fields of a structure in their order.
pub(crate) fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().first() == Some(&b'{')
}

/// How deeply JSON text is nested; brackets in strings do not count.
pub(crate) fn levels(json: &str) -> usize {
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
    fn brackets_count_as_levels_outside_strings() {
        for (json, expected) in
            [("5", 0), ("{}", 1), (r#"{"a":[{}],"b":[]}"#, 3), (r#"["[[\"[[", "\\", []]"#, 2), ("]]]{", 1)]
        {
            assert_eq!(levels(json), expected, "{json}");
        }
    }
}
