//! Which credential a request shows: its API key; without one, the client
//! certificate of its connection, or the one that a trusted proxy hands on.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::request::Parts;
use covey_core::id::UnixMs;

use crate::client_certificate::{self, CREDENTIAL_PREFIX, Peer, ProxyTrust};

/// The header that carries the key.
pub(crate) const API_KEY_HEADER: &str = "x-api-key";
/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 256;

/// What a request shows. Both are looked up by their text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credential<'a> {
    /// An API key.
    Key(&'a str),
    /// A certificate whose key the caller holds.
    Certificate(String),
}

impl<'a> Credential<'a> {
    /// The credential of a request. A key decides if there is one, even a bad
    /// one: who names a credential means that one.
    pub(super) fn of(parts: &'a Parts, proxies: Option<&ProxyTrust>, now: UnixMs) -> Option<Self> {
        if parts.headers.contains_key(API_KEY_HEADER) {
            return key_of(&parts.headers).map(Self::Key);
        }
        let peer = parts.extensions.get::<Arc<Peer>>()?;
        let is_proxy = proxies.is_some_and(|trust| peer.is_proxy(trust, now));
        let own = peer.certificate()?;
        // A session that is resumed, and one that lasts, can outlive the
        // certificate with which it began.
        if !own.is_valid_at(now) {
            return None;
        }
        // The proxy's own certificate says who hands on, never who calls.
        let text = if is_proxy {
            let handed_on = client_certificate::handed_on(&parts.headers)?;
            handed_on.is_valid_at(now).then(|| handed_on.credential())?
        } else {
            own.credential()
        };
        Some(Self::Certificate(text))
    }
}

/// The key in the headers; `KEY` and `ApiKey KEY` are both good.
fn key_of(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(API_KEY_HEADER)?.to_str().ok()?.trim_ascii();
    let key = match text.split_once(' ') {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("apikey") => key.trim_ascii_start(),
        _ => text,
    };
    // Fingerprints are public: who only says one has proved nothing.
    let is_fingerprint = key.starts_with(CREDENTIAL_PREFIX);
    ((1..=KEY_BYTES_MAX).contains(&key.len()) && !is_fingerprint).then_some(key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(value: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(API_KEY_HEADER, axum::http::HeaderValue::from_bytes(value).unwrap());
        headers
    }

    #[test]
    fn a_key_is_read_with_and_without_its_scheme() {
        for good in ["k-1", "ApiKey k-1", "apikey   k-1", " k-1 "] {
            assert_eq!(key_of(&headers(good.as_bytes())), Some("k-1"), "{good:?}");
        }
        assert_eq!(key_of(&HeaderMap::new()), None);
        for bad in [b"".as_slice(), b"   ", b"k\xff", &[b'k'; 257]] {
            assert_eq!(key_of(&headers(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn the_fingerprint_of_a_certificate_is_no_key() {
        let text = format!("{CREDENTIAL_PREFIX}{}", "a".repeat(64));
        for spelling in [text.clone(), format!("ApiKey {text}"), format!(" apikey  {text} ")] {
            assert_eq!(key_of(&headers(spelling.as_bytes())), None, "{spelling}");
        }
    }
}
