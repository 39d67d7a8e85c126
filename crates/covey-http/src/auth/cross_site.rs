//! Recognises requests that a page of another site makes a browser send. A
//! browser shows its client certificate for any page, but a page must know an
//! API key; so such a request must not call with the certificate (Fetch
//! Metadata Request Headers, section 2).

use axum::http::header::{HOST, ORIGIN, UPGRADE};
use axum::http::request::Parts;

use crate::cors::AllowedOrigins;
use crate::people::PublicUrl;

/// Whether a request may call with the cookie that a browser has sent by itself: not if a page of another site sent it. What
/// changes something, and what opens a WebSocket, which no browser keeps from pages of other sites, must prove that no such page
/// did.
pub(super) fn may_show_cookie(parts: &Parts, allowed: &AllowedOrigins, own: Option<&PublicUrl>) -> bool {
    let only_reads = parts.method.is_safe() && !parts.headers.contains_key(UPGRADE);
    !is_cross_origin(parts, allowed, own) && (only_reads || proves_origin(parts))
}

/// Whether a request says which page sent it; one that is not of another origin then proves that.
pub(super) fn proves_origin(parts: &Parts) -> bool {
    parts.headers.contains_key(ORIGIN)
        || parts.headers.get(FETCH_SITE_HEADER).is_some_and(|site| site.as_bytes() == b"same-origin")
}

const FETCH_SITE_HEADER: &str = "sec-fetch-site";

/// Whether a browser says that a page of another origin sent this request, one
/// that is not allowed. Clients that are no browsers send neither header.
///
/// `own` is the address at which browsers reach the server, if that is known: a proxy on the way may name another host.
pub(super) fn is_cross_origin(parts: &Parts, allowed: &AllowedOrigins, own: Option<&PublicUrl>) -> bool {
    let is_own = |origin| own.is_some_and(|own| own.is_origin(origin));
    if parts.headers.get(ORIGIN).is_some_and(|origin| allowed.contains(origin) || is_own(origin)) {
        return false;
    }
    if let Some(site) = parts.headers.get(FETCH_SITE_HEADER) {
        return !matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let Some(origin) = parts.headers.get(ORIGIN) else { return false };
    let host = parts.uri.authority().map_or_else(
        || parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or(""),
        |authority| authority.as_str(),
    );
    let page = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    !page.is_some_and(|(_, page)| page.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::http::Request;

    use super::*;

    fn is_cross(uri: &str, headers: &[(&str, &str)]) -> bool {
        let request =
            headers.iter().fold(Request::post(uri), |request, (name, value)| request.header(*name, *value));
        let allowed = AllowedOrigins::read(["https://dashboard.example"]).unwrap();
        is_cross_origin(&request.body(()).unwrap().into_parts().0, &allowed, None)
    }

    #[test]
    fn a_cookie_is_shown_by_pages_of_this_origin_and_what_changes_something_proves_that() {
        let host = ("host", "covey.example");
        let (own, foreign) = (("origin", "https://covey.example"), ("origin", "https://evil.example"));
        let upgrade = ("upgrade", "websocket");
        for (method, headers, may) in [
            ("GET", vec![host], true),
            ("GET", vec![host, own], true),
            ("GET", vec![host, foreign], false),
            ("GET", vec![host, ("sec-fetch-site", "none")], true),
            ("GET", vec![host, ("sec-fetch-site", "same-site")], false),
            ("POST", vec![host], false),
            ("POST", vec![host, ("sec-fetch-site", "none")], false),
            ("POST", vec![host, ("sec-fetch-site", "same-origin")], true),
            ("POST", vec![host, own], true),
            ("POST", vec![host, foreign], false),
            ("DELETE", vec![host, ("origin", "null")], false),
            (
                "PATCH",
                vec![host, ("origin", "https://dashboard.example"), ("sec-fetch-site", "cross-site")],
                true,
            ),
            ("GET", vec![host, upgrade], false),
            ("GET", vec![host, upgrade, own], true),
            ("GET", vec![host, upgrade, foreign], false),
        ] {
            let request = Request::builder().method(method).uri("/");
            let request =
                headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            let allowed = AllowedOrigins::read(["https://dashboard.example"]).unwrap();
            let parts = request.body(()).unwrap().into_parts().0;
            assert_eq!(may_show_cookie(&parts, &allowed, None), may, "{method} {headers:?}");
        }
    }

    #[test]
    fn only_requests_of_pages_of_another_origin_are_recognised() {
        let host = ("host", "covey.example:8443");
        assert!(!is_cross("/", &[host]));
        for (site, cross) in
            [("same-origin", false), ("none", false), ("same-site", true), ("cross-site", true)]
        {
            assert_eq!(is_cross("/", &[host, ("sec-fetch-site", site)]), cross, "{site}");
        }
        for (origin, cross) in [
            ("https://covey.example:8443", false),
            ("https://COVEY.example:8443", false),
            ("https://covey.example", true),
            ("https://evil.example", true),
            ("null", true),
            ("https://dashboard.example", false),
            ("http://dashboard.example", true),
        ] {
            assert_eq!(is_cross("/", &[host, ("origin", origin)]), cross, "{origin}");
        }
        let over_http2 = "https://covey.example/api/v1/devices";
        assert!(!is_cross(over_http2, &[("origin", "https://covey.example")]));
        assert!(is_cross(over_http2, &[("origin", "https://evil.example"), ("host", "evil.example")]));
        // An allowed page is let in by its origin; without one nobody knows which page it is.
        let cross_site = ("sec-fetch-site", "cross-site");
        assert!(!is_cross("/", &[host, cross_site, ("origin", "https://dashboard.example")]));
        assert!(is_cross("/", &[host, cross_site]));
    }
}
