//! Which pages of other origins may call from a browser (WHATWG Fetch, "CORS
//! protocol"): those on a list of the operator, which is empty by default.

use std::time::Duration;

use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_MATCH, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowOrigin, CorsLayer};
use url::Url;

use crate::auth::credential::API_KEY_HEADER;
use crate::request_id::REQUEST_ID;

/// How many origins there may be.
/// Limit for the server, set by `--cors-origins`: the server does not start.
const ORIGINS_MAX: usize = 100;
/// How long a browser remembers what a preflight told, in seconds.
const PREFLIGHT_S: u64 = 3_600;
/// What a page may do.
const METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
/// What a page may send, beside what every page may.
const REQUEST_HEADERS: [HeaderName; 9] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    CONTENT_TYPE,
    HeaderName::from_static("idempotency-key"),
    IF_MATCH,
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("prefer"),
    HeaderName::from_static(API_KEY_HEADER),
    REQUEST_ID,
];
/// What a page may see of an answer, beside what every page may.
const RESPONSE_HEADERS: [HeaderName; 13] = [
    HeaderName::from_static("covey-warning"),
    ETAG,
    HeaderName::from_static("idempotent-replayed"),
    LOCATION,
    HeaderName::from_static("preference-applied"),
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
    RETRY_AFTER,
    WWW_AUTHENTICATE,
    HeaderName::from_static("x-covey-org-id"),
    HeaderName::from_static("x-covey-rights"),
    REQUEST_ID,
    HeaderName::from_static("x-total-count"),
];

/// The origins whose pages may call, as browsers write them in `Origin` (RFC 6454 §6.2).
#[derive(Clone, Debug, Default)]
pub struct AllowedOrigins(Vec<HeaderValue>);

impl AllowedOrigins {
    /// Reads origins such as `https://dashboard.example:8443`. There is no
    /// wildcard: a page that may call may do so with the client certificate of
    /// its user.
    ///
    /// # Errors
    /// What an origin must be.
    pub fn read<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, &'static str> {
        let origins = texts.into_iter().map(|text| origin(text).ok_or(Self::EXPECTED));
        let origins: Vec<_> = origins.collect::<Result<_, _>>()?;
        if origins.len() > ORIGINS_MAX { Err(Self::EXPECTED) } else { Ok(Self(origins)) }
    }

    const EXPECTED: &str =
        "at most 100 origins such as https://dashboard.example:8443, without a path, and never *";

    /// Whether a page of this origin may call.
    pub(crate) fn contains(&self, origin: &HeaderValue) -> bool {
        self.0.contains(origin)
    }

    /// What tells browsers so; none if no origin is allowed.
    pub(crate) fn layer(&self) -> Option<CorsLayer> {
        let layer = CorsLayer::new()
            .allow_origin(AllowOrigin::list(self.0.iter().cloned()))
            // Client certificates are credentials in the sense of Fetch.
            .allow_credentials(true)
            .allow_methods(METHODS)
            .allow_headers(REQUEST_HEADERS)
            .expose_headers(RESPONSE_HEADERS)
            .max_age(Duration::from_secs(PREFLIGHT_S));
        (!self.0.is_empty()).then_some(layer)
    }
}

/// An origin as browsers write it: in lower case, without a port that goes without saying.
fn origin(text: &str) -> Option<HeaderValue> {
    let url = Url::parse(text).ok()?;
    // Would be taken for a wildcard, which it is not.
    let has_more = text.contains('*')
        || url.path() != "/"
        || url.query().is_some()
        || url.fragment().is_some()
        || !url.username().is_empty()
        || url.password().is_some();
    let is_web = matches!(url.scheme(), "http" | "https") && !has_more;
    is_web.then(|| HeaderValue::try_from(url.origin().ascii_serialization()).ok())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn origins_are_read_as_browsers_write_them() {
        for (text, origin) in [
            ("https://dashboard.example", "https://dashboard.example"),
            ("https://Dashboard.Example:443/", "https://dashboard.example"),
            ("http://127.0.0.1:5173", "http://127.0.0.1:5173"),
            ("https://[::1]:8443", "https://[::1]:8443"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
        ] {
            let origins = AllowedOrigins::read([text]).unwrap();
            assert!(origins.contains(&HeaderValue::from_static(origin)), "{text}: {origins:?}");
            assert!(origins.layer().is_some());
        }
        for bad in [
            "*",
            "",
            "null",
            "dashboard.example",
            "https://*.example",
            "https://dashboard.example/app",
            "https://dashboard.example?a",
            "https://user@dashboard.example",
            "file:///index.html",
        ] {
            assert!(AllowedOrigins::read([bad]).is_err(), "{bad}");
        }
        assert!(AllowedOrigins::read(["https://a.example"; ORIGINS_MAX + 1]).is_err());
        assert!(AllowedOrigins::default().layer().is_none());
    }
}
