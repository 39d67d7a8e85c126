//! Signatures of Pusher Channels: HMAC-SHA256 in lower-case hexadecimal digits, compared in constant time
//! (Pusher, "Authentication and authorization signatures", "HTTP API: Authentication", "Webhooks: Security").

use std::fmt;
use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// The secret of an app. It is never shown.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// A secret by its text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The signature of a text.
    #[must_use]
    pub fn sign(&self, text: &[u8]) -> String {
        // HMAC takes keys of any length (RFC 2104 §2), so there is always one.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()) else { return String::new() };
        mac.update(text);
        hex(&mac.finalize().into_bytes())
    }

    /// Whether this is the signature of a text.
    #[must_use]
    pub fn has_signed(&self, text: &[u8], signature: &str) -> bool {
        let expected = self.sign(text);
        !expected.is_empty() && is_same(&expected, signature)
    }
}

/// Compares two texts in a time that says nothing of where they differ.
#[must_use]
pub fn is_same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// The digest of a body, which is part of what is signed of a request.
#[must_use]
pub fn md5_hex(body: &[u8]) -> String {
    hex(&Md5::digest(body))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing into a text never fails.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What is signed of a subscription.
#[must_use]
pub fn of_subscription(socket_id: &str, channel: &str, channel_data: Option<&str>) -> String {
    match channel_data {
        None => format!("{socket_id}:{channel}"),
        Some(data) => format!("{socket_id}:{channel}:{data}"),
    }
}

/// What is signed of a request: method, path, and the parameters without the signature, by their names, as they are before
/// they are encoded for a query.
#[must_use]
pub fn of_request(method: &str, path: &str, parameters: &[(String, String)]) -> String {
    let mut parameters: Vec<(String, &str)> = parameters
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
        .filter(|(name, _)| name != "auth_signature")
        .collect();
    parameters.sort();
    let parameters: Vec<String> =
        parameters.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{method}\n{path}\n{}", parameters.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of Pusher's documentation.
    #[test]
    fn signatures_are_those_of_the_documentation() {
        let secret = Secret::new("7ad3773142a6692b25b8");
        for (channel, data, signature) in [
            ("private-foobar", None, "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"),
            (
                "presence-foobar",
                Some(r#"{"user_id":10,"user_info":{"name":"Mr. Channels"}}"#),
                "31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80",
            ),
        ] {
            let text = of_subscription("1234.1234", channel, data);
            assert_eq!(secret.sign(text.as_bytes()), signature);
            assert!(secret.has_signed(text.as_bytes(), signature));
            for wrong in ["", "58df", &signature.to_uppercase(), &signature.replace('c', "d")] {
                assert!(!secret.has_signed(text.as_bytes(), wrong), "{wrong}");
            }
        }
        let body = r#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
        assert_eq!(md5_hex(body.as_bytes()), "ec365a775a4cd0599faeb73354201b6f");
        let parameters = [
            ("auth_version", "1.0"),
            ("auth_timestamp", "1353088179"),
            ("auth_key", "278d425bdf160c739803"),
            ("body_md5", "ec365a775a4cd0599faeb73354201b6f"),
            ("auth_signature", "x"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let text = of_request("POST", "/apps/3/events", &parameters);
        assert_eq!(
            secret.sign(text.as_bytes()),
            "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"
        );
    }
}
