//! `POST /api/v1/auth/token`: a short-lived token from an API key; `GET /.well-known/jwks.json`: the keys with which such tokens are
//! signed.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use covey_api::{TokenKeys, TokenMade, TokenNew};
use covey_core::access::Rights;
use covey_core::token::{TOKEN_SECONDS_DEFAULT, TokenWanted};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Asked;
use crate::docs::{BodyProblems, ConflictProblem, GuardProblems, InternalProblem, UnavailableProblem};
use crate::extract::RawBody;
use crate::problem::{Answer, Kind, Problem};
use crate::wire::{Whole, json};

/// The routes of tokens.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([routes!(token_make)]).routes(routes!(key_set))
}

/// Makes a token from the API key or the session of this request
///
/// It is valid for 15 minutes, or for `expires_in` seconds, and never longer than the key or session, or than the client certificate by
/// which it is asked for; the end of that ends it within a second. It may be used from where the key may be used, and may do no more
/// than the key or session. No body is as good as an empty object. A server without a key to sign with answers 503.
#[utoipa::path(
    post, path = "/api/v1/auth/token", tag = "api keys",
    request_body(content = Option<TokenNew>, content_type = "application/json",
        example = json!({"expires_in": 900})),
    responses(
        (status = 200, description = "The token. It is not stored.", body = TokenMade,
            headers(("Cache-Control" = String, description = "Always `no-store`."))),
        BodyProblems, ConflictProblem, GuardProblems,
    )
)]
async fn token_make(asked: Asked, body: RawBody) -> Answer {
    let wanted = if body.is_none() { TokenNew::default() } else { body.read::<TokenNew>()? };
    let rights = wanted.rights.as_ref().map(|names| Rights::parse(names.iter().map(|name| &**name)));
    // What is out of the range of the type is out of that of tokens.
    let seconds =
        wanted.expires_in.map_or(TOKEN_SECONDS_DEFAULT, |Whole(seconds)| u32::try_from(seconds).unwrap_or(0));
    let grant = asked.engine().token_grant(TokenWanted {
        rights: rights.transpose()?,
        seconds,
        until: asked.certificate_until,
    })?;
    let no_key =
        || Problem::new(Kind::Unavailable, "this server has no key to sign tokens with; its log says why");
    let token = asked.api.tokens.sign(&grant, &asked.caller).ok_or_else(no_key)?;
    asked.engine().token_made(&grant).await?;
    let mut response = json(StatusCode::OK, &TokenMade::of(&grant, token));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The public keys with which the servers of this deployment sign tokens (no key needed)
///
/// A JWK set (RFC 7517). A key is in it before tokens are signed with it, unless it is the first of a server, and as long as there
/// may be a token that it has signed.
#[utoipa::path(
    get, path = "/.well-known/jwks.json", tag = "operation", security(()),
    responses(
        (status = 200, description = "The keys.", body = TokenKeys,
            headers(("Cache-Control" = String, description = "For how long it may be kept."))),
        InternalProblem, UnavailableProblem,
    )
)]
async fn key_set(State(api): State<Arc<Api>>) -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "public, max-age=300")];
    (headers, api.tokens.own_key_set()).into_response()
}
