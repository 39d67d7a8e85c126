//! Whether a page of another site makes a browser call. A browser shows its
//! client certificate whoever wrote the page, unlike a key, which a page must
//! know; so such a call is refused (Fetch Metadata Request Headers, section 2).

use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;

const FETCH_SITE_HEADER: &str = "sec-fetch-site";

/// Whether a browser says that this request comes from a page of another
/// origin. What is no browser sends neither header.
pub(super) fn sent(parts: &Parts) -> bool {
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

    fn is_foreign(uri: &str, headers: &[(&str, &str)]) -> bool {
        let request =
            headers.iter().fold(Request::post(uri), |request, (name, value)| request.header(*name, *value));
        sent(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_page_of_another_origin_is_seen_and_all_else_is_let_through() {
        let host = ("host", "covey.example:8443");
        assert!(!is_foreign("/", &[host]));
        for (site, foreign) in
            [("same-origin", false), ("none", false), ("same-site", true), ("cross-site", true)]
        {
            assert_eq!(is_foreign("/", &[host, ("sec-fetch-site", site)]), foreign, "{site}");
        }
        for (origin, foreign) in [
            ("https://covey.example:8443", false),
            ("https://COVEY.example:8443", false),
            ("https://covey.example", true),
            ("https://evil.example", true),
            ("null", true),
        ] {
            assert_eq!(is_foreign("/", &[host, ("origin", origin)]), foreign, "{origin}");
        }
        let over_http2 = "https://covey.example/api/v1/devices";
        assert!(!is_foreign(over_http2, &[("origin", "https://covey.example")]));
        assert!(is_foreign(over_http2, &[("origin", "https://evil.example"), ("host", "evil.example")]));
    }
}
