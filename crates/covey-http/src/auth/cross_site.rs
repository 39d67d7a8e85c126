//! Recognises requests that a page of another site makes a browser send. A
//! browser shows its client certificate for any page, but a page must know an
//! API key; so such a request must not call with the certificate (Fetch
//! Metadata Request Headers, section 2).

use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;

use crate::cors::AllowedOrigins;

const FETCH_SITE_HEADER: &str = "sec-fetch-site";

/// Whether a browser says that a page of another origin sent this request, one
/// that is not allowed. Clients that are no browsers send neither header.
pub(super) fn is_cross_origin(parts: &Parts, allowed: &AllowedOrigins) -> bool {
    if parts.headers.get(ORIGIN).is_some_and(|origin| allowed.contains(origin)) {
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
        is_cross_origin(&request.body(()).unwrap().into_parts().0, &allowed)
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
