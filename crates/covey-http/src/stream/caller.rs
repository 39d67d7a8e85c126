//! Who opens a stream: a browser cannot send a header with an `EventSource` or
//! a `WebSocket`, so the key may be in the query there, and only there.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderValue;
use axum::http::request::Parts;

use crate::api::Api;
use crate::auth::Asked;
use crate::auth::credential::{API_KEY_HEADER, shows_key};
use crate::problem::Problem;

/// A caller by any credential, or by the parameter `api_key`.
pub(super) struct StreamCaller(pub(super) Asked);

impl FromRequestParts<Arc<Api>> for StreamCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        take_key_of_query(parts);
        Asked::from_request_parts(parts, api).await.map(Self)
    }
}

/// Takes the key in the query for one in a header, where there is none.
pub(crate) fn take_key_of_query(parts: &mut Parts) {
    if !shows_key(&parts.headers)
        && let Some(key) = key_in(parts.uri.query().unwrap_or(""))
    {
        // A bad key is a bad key, wherever it stands.
        let key = HeaderValue::try_from(key).unwrap_or(HeaderValue::from_static(""));
        parts.headers.insert(API_KEY_HEADER, key);
    }
}

fn key_in(query: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == "api_key").map(|(_, key)| key.into_owned())
}
