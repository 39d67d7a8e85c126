//! Which headers an endpoint may add to its messages.

use crate::error::{Error, Result};
use crate::webhook::WebhookHeaders;

/// How many headers an endpoint may have.
/// Limit for each webhook: 422.
pub const HEADERS_MAX: usize = 32;
/// Longest name of a header, in bytes.
/// Limit for each header: 422.
pub const NAME_BYTES_MAX: usize = 128;
/// Longest value of a header, in bytes.
/// Limit for each header: 422.
pub const VALUE_BYTES_MAX: usize = 4_096;

/// Headers that the connection or the message decides (RFC 9110 §7.6.1, RFC
/// 9112 §6), so nobody else may.
const RESERVED: [&str; 16] = [
    "connection",
    "date",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-device-id",
    "x-result-id",
    "x-status-code",
];
/// Beginnings of names that messages use themselves.
const RESERVED_BEGINNINGS: [&str; 6] = ["webhook-", "content-", "x-msg-", "x-ext-id", "ce-", "x-covey-"];

/// Checks the headers of an endpoint.
///
/// # Errors
/// [`Error::Invalid`] naming `headers`.
pub fn validate(headers: &WebhookHeaders) -> Result<()> {
    let headers = &headers.0;
    if headers.len() > HEADERS_MAX {
        return Err(Error::invalid("headers", "must be at most 32"));
    }
    for (index, (name, value)) in headers.iter().enumerate() {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_name_byte) {
            return Err(Error::invalid(
                "headers",
                "a name must be 1 to 128 letters, digits or !#$%&'*+-.^_`|~",
            ));
        }
        let name = name.to_ascii_lowercase();
        if RESERVED.contains(&name.as_str())
            || RESERVED_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        {
            return Err(Error::invalid("headers", "has a name that is reserved: see docs/webhooks.md"));
        }
        if headers[..index].iter().any(|(before, _)| before.eq_ignore_ascii_case(&name)) {
            return Err(Error::invalid("headers", "has a name twice, in whatever case"));
        }
        let is_trimmed = value.trim_matches([' ', '\t']) == value;
        if value.len() > VALUE_BYTES_MAX || !value.bytes().all(is_value_byte) || !is_trimmed {
            return Err(Error::invalid(
                "headers",
                "a value must be at most 4096 printable ASCII characters, without spaces at its ends",
            ));
        }
    }
    Ok(())
}

/// RFC 9110 §5.6.2, `tchar`.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9110 §5.5 without `obs-text`.
fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, value: &str) -> bool {
        validate(&WebhookHeaders(vec![(name.to_owned(), value.to_owned())])).is_ok()
    }

    #[test]
    fn a_header_can_neither_end_a_line_nor_take_the_place_of_one_of_ours() {
        assert!(
            check("Authorization", "Bearer abc def") && check("X-Api-Key", "") && check("x-team", "a\tb")
        );
        for name in ["", "a b", "a:b", "a\r\nb", "ü", "a\0", &"x".repeat(129)] {
            assert!(!check(name, "v"), "{name:?}");
        }
        for value in ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b", "ü", " a", "a\t", &"x".repeat(4_097)] {
            assert!(!check("x-a", value), "{value:?}");
        }
        for name in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "TE",
            "Connection",
            "Webhook-Id",
            "webhook-signature",
            "X-Msg-Type",
            "x-msg-anything",
            "X-Device-Id",
            "X-Ext-Id",
            "Content-Type",
            "content-md5",
            "X-Ext-IdFoo",
            "ce-id",
            "Upgrade",
        ] {
            assert!(!check(name, "v"), "{name}");
        }
        let twice = [("A", "1"), ("a", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert!(validate(&WebhookHeaders(twice.to_vec())).is_err());
        let many = (0..33).map(|number| (format!("x-{number}"), String::new())).collect();
        assert!(validate(&WebhookHeaders(many)).is_err());
    }
}
