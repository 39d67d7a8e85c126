//! The cookie in which a browser shows its session.

use axum::http::header::COOKIE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use covey_core::person::SESSION_MS_MAX;

use crate::api::Api;
use crate::connection::Connection;
use std::sync::Arc;

/// The cookie that holds a session.
pub(crate) const SESSION_COOKIE: &str = "coveySession";
/// Longest session in a cookie, in bytes.
/// Limit for each request: 401.
const SESSION_BYTES_MAX: usize = 128;

/// The session in the cookies of a request.
pub(crate) fn session_of(headers: &HeaderMap) -> Option<&str> {
    let lists = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = lists.flat_map(|list| list.split(';')).filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(name, _)| name.trim() == SESSION_COOKIE).map(|(_, value)| value.trim());
    values.find(|value| (1..=SESSION_BYTES_MAX).contains(&value.len()))
}

/// Gives the cookie to a browser. It is sent over TLS alone, unless the server is reached without.
pub(super) fn given(clear_text: &str, parts: &Parts, api: &Api) -> Option<HeaderValue> {
    set(clear_text, SESSION_MS_MAX / 1_000, parts, api)
}

/// Takes it back.
pub(super) fn taken(parts: &Parts, api: &Api) -> Option<HeaderValue> {
    set("", 0, parts, api)
}

/// Whether browsers reach the server over TLS.
pub(super) fn is_secure(parts: &Parts, api: &Api) -> bool {
    let is_public = api.people.public_url.as_ref().is_some_and(super::PublicUrl::is_https);
    is_public || parts.extensions.get::<Arc<Connection>>().is_some_and(|connection| connection.is_tls)
}

fn set(value: &str, seconds: i64, parts: &Parts, api: &Api) -> Option<HeaderValue> {
    let secure = if is_secure(parts, api) { "; Secure" } else { "" };
    let text = format!("{SESSION_COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_session_is_found_by_the_name_of_its_cookie_alone() {
        for (list, expected) in [
            ("coveySession=abc", Some("abc")),
            ("a=b; coveySession = abc ; c", Some("abc")),
            ("coveySession=; coveySession=abc", Some("abc")),
            ("xcoveySession=abc", None),
            ("coveysession=abc", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, list.parse().unwrap());
            assert_eq!(session_of(&headers), expected, "{list}");
        }
    }
}
