//! What can be said of JSON text without reading it.

use std::fmt::Write as _;

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

/// The members of a JSON object in their order, each with the text of its value as it stands there; none where the
/// text is no object. The text is taken to be JSON: what is between names and values is found, not checked.
#[must_use]
pub fn members(json: &str) -> Option<Vec<(String, &str)>> {
    let mut rest = json.trim_ascii().strip_prefix('{')?.strip_suffix('}')?.trim_ascii();
    let mut members = Vec::new();
    while !rest.is_empty() {
        let (name, behind) = rest.strip_prefix('"').and_then(string_end)?;
        let behind = behind.trim_ascii_start().strip_prefix(':')?;
        let (value, next) = behind.split_at(value_end(behind));
        let value = value.trim_ascii();
        if value.is_empty() {
            return None;
        }
        members.push((unescaped(name)?, value));
        rest = match next.strip_prefix(',') {
            // Behind a comma there is another one.
            Some(next) => Some(next.trim_ascii()).filter(|next| !next.is_empty())?,
            None => "",
        };
    }
    Some(members)
}

/// A string that has begun, as it stands there, and what is behind it.
fn string_end(json: &str) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    let end = json.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })?;
    Some((json.get(..end)?, json.get(end + 1..)?))
}

/// Where a value ends: before the comma that belongs to no part of it.
fn value_end(json: &str) -> usize {
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    let end = json.bytes().position(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => return depth == 0,
            _ => {}
        }
        false
    });
    end.unwrap_or(json.len())
}

/// Writes a text as a JSON string at the end of another text.
pub fn quote(text: &str, json: &mut String) {
    json.push('"');
    let mut rest = text;
    while let Some(place) = rest.find(|one: char| matches!(one, '"' | '\\') || one.is_ascii_control()) {
        let (plain, from) = rest.split_at(place);
        json.push_str(plain);
        let mut behind = from.chars();
        match behind.next() {
            Some('"') => json.push_str("\\\""),
            Some('\\') => json.push_str("\\\\"),
            Some('\n') => json.push_str("\\n"),
            // Writing to a string cannot fail.
            Some(control) => drop(write!(json, "\\u{:04x}", u32::from(control))),
            None => {}
        }
        rest = behind.as_str();
    }
    json.push_str(rest);
    json.push('"');
}

/// The text that a string stands for; none where an escape says nothing.
#[must_use]
pub fn unescaped(string: &str) -> Option<String> {
    let Some(first) = string.find('\\') else { return Some(string.to_owned()) };
    let (before, mut rest) = string.split_at(first);
    let mut text = before.to_owned();
    while let Some(escape) = rest.strip_prefix('\\') {
        let kind = escape.chars().next()?;
        let mut behind = escape.get(kind.len_utf8()..)?;
        text.push(match kind {
            '"' | '\\' | '/' => kind,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let (first, next) = hexadecimal(behind)?;
                behind = next;
                let second = behind.strip_prefix("\\u").and_then(hexadecimal);
                match (char::from_u32(first), second) {
                    (Some(character), _) => character,
                    // The two halves of one character (RFC 8259 §7).
                    (None, Some((second, next))) => {
                        behind = next;
                        let pair = [u16::try_from(first).ok()?, u16::try_from(second).ok()?];
                        char::decode_utf16(pair).next()?.ok()?
                    }
                    (None, None) => return None,
                }
            }
            _ => return None,
        });
        let plain = behind.find('\\').unwrap_or(behind.len());
        let (plain, next) = behind.split_at(plain);
        text.push_str(plain);
        rest = next;
    }
    Some(text)
}

/// Four hexadecimal digits, and what is behind them.
fn hexadecimal(text: &str) -> Option<(u32, &str)> {
    let (digits, behind) = text.split_at_checked(4)?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some((u32::from_str_radix(digits, 16).ok().filter(|_| is_number)?, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_as_they_stand_there() {
        let of = |json| {
            members(json).map(|found| {
                found.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(";")
            })
        };
        for (json, expected) in [
            ("{}", ""),
            (" {\n} ", ""),
            (r#"{"led":"1"}"#, r#"led="1""#),
            (
                r#" { "a" : [1, {"b":","}] , "c":"}\"," , "d" : null } "#,
                r#"a=[1, {"b":","}];c="}\",";d=null"#,
            ),
            (r#"{"a\/b":1,"\u006ced":2,"\ud83d\ude00":3}"#, "a/b=1;led=2;😀=3"),
            (r#"{"a":1,"a":2}"#, "a=1;a=2"),
        ] {
            assert_eq!(of(json).as_deref(), Some(expected), "{json}");
        }
        for not_one in [
            "",
            "5",
            "[1]",
            "{",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a":,"b":1}"#,
            r#"{a:1}"#,
            r#"{"\ud83d":1}"#,
            r#"{"\ud83d\u0041":1}"#,
            r#"{"\x":1}"#,
            r#"{"\u00":1}"#,
            r#"{"\u+041":1}"#,
        ] {
            assert_eq!(members(not_one), None, "{not_one}");
        }
    }

    #[test]
    fn brackets_count_where_they_are_brackets() {
        for (json, expected) in
            [("5", 0), ("{}", 1), (r#"{"a":[{}],"b":[]}"#, 3), (r#"["[[\"[[", "\\", []]"#, 2), ("]]]{", 1)]
        {
            assert_eq!(levels(json), expected, "{json}");
        }
    }
}
