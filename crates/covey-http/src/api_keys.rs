//! `/api/v1/api-keys`: making, listing and revoking API keys. Needs the right
//! keys:write; for keys of another organisation also orgs:admin.

use std::sync::Arc;

use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, StatusCode};
use covey_api::{ApiKey, ApiKeyMade, ApiKeyNew, ApiKeyRevoked, Grant};
use covey_core::access::{Access, KeyBounds, Rights, Role};
use covey_core::id::UnixMs;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Asked;
use crate::client_certificate::ClientCertificate;
use crate::docs::{BodyProblems, ConflictProblem, GuardProblems, InvalidProblem, NotFoundProblem};
use crate::extract::{RawBody, Segment};
use crate::problem::{Answer, Problem};
use crate::wire::{Whole, json};

/// The routes of API keys.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([routes!(api_key_list, api_key_add), routes!(api_key_revoke)])
}

/// The API keys of your organisation; with the right orgs:admin, of all
#[utoipa::path(
    get, path = "/api/v1/api-keys", tag = "api keys",
    responses((status = 200, description = "The keys.", body = Vec<ApiKey>), GuardProblems)
)]
async fn api_key_list(asked: Asked) -> Answer {
    let keys = asked.engine().api_key_list().await?;
    let keys: Vec<_> = keys.iter().map(ApiKey::of).collect();
    Ok(json(StatusCode::OK, &keys))
}

/// Makes an API key, or registers a client certificate in place of one
#[utoipa::path(
    post, path = "/api/v1/api-keys", tag = "api keys",
    request_body(content = ApiKeyNew, content_type = "application/json",
        example = json!({"name": "dashboard", "rights": ["tasks:read", "devices:read"]})),
    responses(
        (status = 201, description = "The key is made. Keep it: only a digest of it is stored.",
            body = ApiKeyMade, headers(("Cache-Control" = String, description = "Always `no-store`."))),
        BodyProblems, ConflictProblem, GuardProblems,
    )
)]
async fn api_key_add(asked: Asked, body: RawBody) -> Answer {
    let wanted = body.read::<ApiKeyNew>()?;
    let rights = Rights::parse(wanted.rights.iter().map(String::as_str))?;
    let rights = Rights(rights.0 | wanted.role.as_deref().map_or(Ok(0), role_rights)?);
    let bounds = KeyBounds {
        expires_at: wanted.expires_at.map(|at| UnixMs(at.0)),
        addresses: KeyBounds::addresses_of(wanted.addresses.iter().map(String::as_str))?,
    };
    let access = Access { rights, grants: Grant::all_to_core(wanted.grants)?, bounds };
    let org = wanted.org.as_deref().unwrap_or(&asked.caller.org_name);
    let certificate =
        wanted.certificate_pem.as_deref().map(|pem| certificate(&asked.api, pem)).transpose()?;
    let (made, clear_text) = match &certificate {
        Some(shown) => {
            let text = shown.credential();
            let serial = shown.serial_hex();
            (asked.engine().credential_add(org, &wanted.name, access, &text, serial).await?, None)
        }
        None => {
            let made = asked.engine().api_key_add(org, &wanted.name, access).await?;
            (made.key, Some(made.clear_text))
        }
    };
    let certificate_sha256 = certificate.as_ref().map(ClientCertificate::sha256_hex);
    let answer = ApiKeyMade::of(&made, clear_text.as_deref(), certificate_sha256);
    let mut response = json(StatusCode::CREATED, &answer);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn role_rights(name: &str) -> Result<u32, Problem> {
    let role = Role::from_name(name);
    let problem = "must be admin, operator, integrator or viewer";
    role.map(|role| role.rights().0).ok_or_else(|| Problem::invalid("role", problem))
}

/// The certificate of a request, if it can be a credential from now on.
fn certificate(api: &Api, pem: &str) -> Result<ClientCertificate, Problem> {
    let refused = |problem| Problem::invalid("certificate_pem", problem);
    let certificate = ClientCertificate::read_pem(pem).map_err(refused)?;
    if certificate.is_over_at(api.engine.now()) {
        return Err(refused("is past its end: register the one that follows it"));
    }
    Ok(certificate)
}

/// Revokes an API key: it is dead within a second
#[utoipa::path(
    delete, path = "/api/v1/api-keys/{id}", tag = "api keys",
    params(("id" = i64, Path, description = "The key's number.")),
    responses(
        (status = 200, description = "The key is revoked.", body = ApiKeyRevoked),
        InvalidProblem, NotFoundProblem, ConflictProblem, GuardProblems,
    )
)]
async fn api_key_revoke(asked: Asked, Segment(Whole(id)): Segment<Whole>) -> Answer {
    asked.engine().api_key_revoke(id).await?;
    asked.api.callers.forget();
    Ok(json(StatusCode::OK, &ApiKeyRevoked { id }))
}
