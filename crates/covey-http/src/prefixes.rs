//! `/api/key/v1` and `/api/jwt/v1`: the routes of `/api/v1` once more, for API keys alone and for tokens alone. The path is changed
//! before a route is looked for, so that there is one set of routes.

use axum::extract::Request;
use axum::http::Uri;
use axum::http::uri::PathAndQuery;

/// The credentials that a path takes, where it does not take all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Insists {
    /// API keys, and the client certificates that stand for some.
    OnKey,
    /// Tokens.
    OnToken,
}

const PREFIXES: [(&str, Insists); 2] = [("/api/key/v1/", Insists::OnKey), ("/api/jwt/v1/", Insists::OnToken)];
const ALL: &str = "/api/v1/";

/// Changes the path of a request that begins with one of the prefixes, and notes which one it was.
pub(crate) fn with_prefix(mut request: Request) -> Request {
    let Some(path) = request.uri().path_and_query().map(PathAndQuery::as_str) else { return request };
    let found =
        PREFIXES.into_iter().find_map(|(prefix, insists)| Some((path.strip_prefix(prefix)?, insists)));
    if let Some((rest, insists)) = found
        && let Ok(changed) = PathAndQuery::try_from(format!("{ALL}{rest}"))
    {
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = Some(changed);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
            request.extensions_mut().insert(insists);
        }
    }
    request
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::body::Body;

    use super::*;

    #[test]
    fn a_prefix_becomes_the_common_one_and_nothing_else_changes() {
        for (uri, changed, insists) in [
            ("/api/key/v1/devices/?page=2", "/api/v1/devices/?page=2", Some(Insists::OnKey)),
            ("/api/jwt/v1/accounts", "/api/v1/accounts", Some(Insists::OnToken)),
            ("https://h.example/api/jwt/v1/x%2Fy", "https://h.example/api/v1/x%2Fy", Some(Insists::OnToken)),
            ("/api/v1/devices", "/api/v1/devices", None),
            ("/api/key/v1", "/api/key/v1", None),
            ("/api/key/v2/devices", "/api/key/v2/devices", None),
            ("/x/api/key/v1/devices", "/x/api/key/v1/devices", None),
            ("/api/jwt/v1//api/key/v1/x", "/api/v1//api/key/v1/x", Some(Insists::OnToken)),
        ] {
            let request = with_prefix(Request::get(uri).body(Body::empty()).unwrap());
            assert_eq!(request.uri(), changed);
            assert_eq!(request.extensions().get::<Insists>().copied(), insists, "{uri}");
        }
    }
}
