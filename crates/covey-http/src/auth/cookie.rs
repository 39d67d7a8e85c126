//! The token in a cookie: a browser sends it by itself, also with an `EventSource` or a `WebSocket`.

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
/// The cookie that holds a token, unless the operator says otherwise.
pub(crate) const COOKIE_DEFAULT: &str = "accessToken";

/// Whether a cookie can be called so (RFC 6265 §4.1.1).
pub(crate) fn is_name(name: &str) -> bool {
    let is_token_char = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(is_token_char)
}

/// The token in the cookie of this name. One that is not trusted to be a token for here belongs to somebody else on the same host.
pub(super) fn token_of<'a>(
    headers: &'a HeaderMap,
    name: &str,
    is_trusted: impl Fn(&str) -> bool,
) -> Option<&'a str> {
    let lists = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = lists.flat_map(|list| list.split(';')).filter_map(|pair| pair.split_once('='));
    let values = pairs.filter(|(known, _)| known.trim() == name).map(|(_, value)| unquoted(value.trim()));
    values.into_iter().find(|value| is_trusted(value))
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_token_is_found_by_the_name_of_its_cookie_alone() {
        for (lists, expected) in [
            (vec!["accessToken=a.b.c"], Some("a.b.c")),
            (vec!["theme=dark; accessToken=\"a.b.c\"; x=y"], Some("a.b.c")),
            (vec!["theme=dark", "accessToken = a.b.c"], Some("a.b.c")),
            (vec!["accessToken=opaque; accessToken=x.y.z; accessToken=a.b.c"], Some("a.b.c")),
            (vec!["accesstoken=a.b.c"], None),
            (vec!["xaccessToken=a.b.c; accessTokenx=a.b.c"], None),
            (vec!["accessToken=covey_0123"], None),
            (vec!["accessToken=a.b"], None),
            (vec![";;=;accessToken"], None),
        ] {
            let mut headers = HeaderMap::new();
            for list in &lists {
                headers.append(COOKIE, list.parse().unwrap());
            }
            let found = token_of(&headers, COOKIE_DEFAULT, |text| text == "a.b.c");
            assert_eq!(found, expected, "{lists:?}");
        }
        assert!(is_name(COOKIE_DEFAULT) && is_name("__Host-token"));
        assert!(!is_name("") && !is_name("a b") && !is_name("a=b") && !is_name("a;b") && !is_name("ü"));
    }
}
