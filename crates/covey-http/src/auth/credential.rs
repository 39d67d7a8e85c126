//! Which credential a request shows: its API key, in `x-api-key` or as a bearer
//! token; a token (JWT), as a bearer token or in a cookie; a session, in a cookie; without any, the client
//! certificate of its connection, or the one that a trusted proxy hands on.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use covey_core::id::UnixMs;
use covey_token::Compact;

use crate::asked_by;
use crate::auth::cookie;
use crate::auth::tokens::Tokens;
use crate::client_certificate::{self, CREDENTIAL_PREFIX, ClientCertificate, ProxyTrust};
use crate::connection::Connection;
use crate::people;

/// The header that carries the key.
pub(crate) const API_KEY_HEADER: &str = "x-api-key";
/// What keys begin with that a server has made.
const KEY_PREFIX: &str = "covey_";
/// Longest key, in bytes.
/// Limit for each request: 401.
const KEY_BYTES_MAX: usize = 256;

/// What a request shows. Both are looked up by their text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credential<'a> {
    /// An API key.
    Key(&'a str),
    /// A token.
    Token {
        /// The token itself.
        text: &'a str,
        /// Whether a browser has sent it by itself.
        is_cookie: bool,
    },
    /// A session of a person, which a browser has sent by itself.
    Session(&'a str),
    /// A certificate whose key the caller holds.
    Certificate {
        /// The text under which it is looked up.
        text: String,
        /// Its serial number.
        serial_hex: String,
        /// Until when it is valid.
        until: UnixMs,
    },
}

impl<'a> Credential<'a> {
    /// The credential of a request. A key decides if there is one, even a bad
    /// one: who names a credential means that one.
    pub(super) fn of(
        parts: &'a Parts,
        proxies: Option<&ProxyTrust>,
        tokens: &Tokens,
        now: UnixMs,
    ) -> Option<Self> {
        if let Some(text) = token_of(&parts.headers) {
            return Some(Self::Token { text, is_cookie: false });
        }
        if shows_key(&parts.headers) {
            return key_of(&parts.headers).map(Self::Key);
        }
        if let Some(text) = cookie::token_of(&parts.headers, &tokens.cookie, |text| tokens.trusts(text)) {
            return Some(Self::Token { text, is_cookie: true });
        }
        if let Some(text) = people::session_of(&parts.headers) {
            return Some(Self::Session(text));
        }
        let peer = parts.extensions.get::<Arc<Connection>>()?.peer.as_ref()?;
        let is_proxy = proxies.is_some_and(|trust| peer.is_proxy(trust, now));
        let own = peer.certificate()?;
        // A session that is resumed, and one that lasts, can outlive the
        // certificate with which it began.
        if !own.is_valid_at(now) {
            return None;
        }
        // The proxy's own certificate says who hands on, never who calls.
        let of = |certificate: &ClientCertificate| Self::Certificate {
            text: certificate.credential(),
            serial_hex: certificate.serial_hex().to_owned(),
            until: certificate.valid_until(),
        };
        if is_proxy {
            let handed_on = client_certificate::handed_on(&parts.headers)?;
            handed_on.is_valid_at(now).then(|| of(&handed_on))
        } else {
            Some(of(own))
        }
    }
}

impl Credential<'_> {
    /// What the audit log is told of one that nobody has: never enough to use it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Key(key) => asked_by::shown(key),
            Self::Token { .. } => "token".to_owned(),
            Self::Session(_) => "session".to_owned(),
            Self::Certificate { serial_hex, .. } => format!("certificate {serial_hex}"),
        }
    }
}

/// The token in the headers: a bearer's text that has the form of one and not that of a key.
fn token_of(headers: &HeaderMap) -> Option<&str> {
    let text = (!headers.contains_key(API_KEY_HEADER)).then(|| bearer_token(headers)).flatten()?;
    (Compact::is_meant(text) && !text.starts_with(KEY_PREFIX)).then_some(text)
}

/// Whether the headers name a key, even a bad one.
pub(crate) fn shows_key(headers: &HeaderMap) -> bool {
    headers.contains_key(API_KEY_HEADER) || bearer_token(headers).is_some()
}

/// The key in the headers: `x-api-key` with `KEY` or `ApiKey KEY`; without that
/// header, the bearer token.
pub(crate) fn key_of(headers: &HeaderMap) -> Option<&str> {
    let key = match headers.get(API_KEY_HEADER) {
        Some(value) => {
            let text = value.to_str().ok()?.trim_ascii();
            match text.split_once(' ') {
                Some((scheme, key)) if scheme.eq_ignore_ascii_case("apikey") => key.trim_ascii_start(),
                _ => text,
            }
        }
        None => bearer_token(headers)?,
    };
    // Fingerprints are public: who only says one has proved nothing.
    let is_fingerprint = key.starts_with(CREDENTIAL_PREFIX);
    ((1..=KEY_BYTES_MAX).contains(&key.len()) && !is_fingerprint).then_some(key)
}

/// The token of `Authorization: Bearer` (RFC 6750 §2.1); empty if it cannot be
/// one. Any other scheme is for somebody else, such as a proxy on the way.
pub(crate) fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at(value.iter().position(|byte| *byte == b' ').unwrap_or(value.len()));
    let token = str::from_utf8(token.trim_ascii()).unwrap_or("");
    scheme.eq_ignore_ascii_case(b"bearer").then_some(token)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(named: &[(&'static str, &[u8])]) -> HeaderMap {
        let value = |value: &[u8]| axum::http::HeaderValue::from_bytes(value).unwrap();
        named.iter().map(|(name, text)| (name.parse().unwrap(), value(text))).collect()
    }

    #[test]
    fn a_key_is_read_with_and_without_its_scheme() {
        for good in ["k-1", "ApiKey k-1", "apikey   k-1", " k-1 "] {
            assert_eq!(key_of(&headers(&[("x-api-key", good.as_bytes())])), Some("k-1"), "{good:?}");
        }
        assert_eq!(key_of(&HeaderMap::new()), None);
        for bad in [b"".as_slice(), b"   ", b"k\xff", &[b'k'; 257]] {
            assert_eq!(key_of(&headers(&[("x-api-key", bad)])), None, "{bad:?}");
        }
    }

    #[test]
    fn a_bearer_token_is_a_key_and_other_schemes_are_none() {
        for good in ["Bearer k-1", "bearer k-1", "BEARER   k-1 "] {
            let headers = headers(&[("authorization", good.as_bytes())]);
            assert_eq!((key_of(&headers), shows_key(&headers)), (Some("k-1"), true), "{good:?}");
        }
        for bad in [
            b"Bearer".as_slice(),
            b"Bearer ",
            b"Bearer k\xff",
            &[b"Bearer ".as_slice(), &[b'k'; 257]].concat(),
        ] {
            let headers = headers(&[("authorization", bad)]);
            assert_eq!((key_of(&headers), shows_key(&headers)), (None, true), "{bad:?}");
        }
        for other in ["Basic dTpw", "Bearerk-1", "k-1", ""] {
            let headers = headers(&[("authorization", other.as_bytes())]);
            assert_eq!((key_of(&headers), shows_key(&headers)), (None, false), "{other:?}");
        }
        let both = headers(&[("authorization", b"Bearer k-2"), ("x-api-key", b"k-1")]);
        assert_eq!(key_of(&both), Some("k-1"));
    }

    #[test]
    fn a_bearer_with_two_dots_is_a_token_and_one_in_x_api_key_is_not() {
        let bearer = |text: &str| headers(&[("authorization", text.as_bytes())]);
        assert_eq!(token_of(&bearer("Bearer a.b.c")), Some("a.b.c"));
        for other in ["Bearer covey_a.b.c", "Bearer a.b", "Bearer a.b.c.d", "Bearer k-1", "Basic a.b.c"] {
            assert_eq!(token_of(&bearer(other)), None, "{other}");
        }
        let both = headers(&[("authorization", b"Bearer a.b.c"), ("x-api-key", b"k-1")]);
        assert_eq!((token_of(&both), key_of(&both)), (None, Some("k-1")));
    }

    #[test]
    fn the_fingerprint_of_a_certificate_is_no_key() {
        let text = format!("{CREDENTIAL_PREFIX}{}", "a".repeat(64));
        for (name, spelling) in [
            ("x-api-key", text.clone()),
            ("x-api-key", format!("ApiKey {text}")),
            ("x-api-key", format!(" apikey  {text} ")),
            ("authorization", format!("Bearer {text}")),
        ] {
            assert_eq!(key_of(&headers(&[(name, spelling.as_bytes())])), None, "{spelling}");
        }
    }
}
