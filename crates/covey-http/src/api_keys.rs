//! `/api/v1/api-keys`: making, listing and revoking API keys. Needs the right
//! keys:write, which holds for every organisation.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use covey_core::access::{ApiKey, Rights};
use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{Api, with_slash};
use crate::auth::Caller;
use crate::docs::{BodyProblems, GuardProblems, InvalidProblem, NotFoundProblem};
use crate::extract::{RawBody, Segment};
use crate::problem::Problem;
use crate::wire::{Time, Whole, json};

/// The routes of API keys.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    let router = with_slash(OpenApiRouter::default(), routes!(api_key_list, api_key_add));
    with_slash(router, routes!(api_key_revoke))
}

/// The name of a right.
struct RightName;

impl PartialSchema for RightName {
    fn schema() -> RefOr<Schema> {
        let schema = ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::String))
            .enum_values(Some(covey_core::access::RIGHT_NAMES))
            .description(Some("A right."))
            .build();
        RefOr::T(Schema::Object(schema))
    }
}

impl ToSchema for RightName {
    fn name() -> std::borrow::Cow<'static, str> {
        "Right".into()
    }
}

/// An API key to be made.
#[derive(Deserialize, ToSchema)]
struct ApiKeyNew {
    /// Its organisation, by name; made if there is none. The caller's own if left out.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 128, pattern = r"^[^\x00-\x1F\x7F-\x9F]+$")]
    org: Option<String>,
    /// What its owner calls it.
    #[schema(min_length = 1, max_length = 128, pattern = r"^[^\x00-\x1F\x7F-\x9F]+$", example = "dashboard")]
    name: String,
    /// What it may do: no more than the caller may.
    #[schema(value_type = Vec<RightName>)]
    rights: Vec<String>,
}

/// An API key, without its clear text.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiKey)]
struct ApiKeyView<'a> {
    /// Its number.
    id: i64,
    /// Its organisation, by name.
    org: &'a str,
    /// What its owner calls it.
    name: &'a str,
    /// What it may do.
    #[schema(value_type = Vec<RightName>)]
    rights: Vec<&'static str>,
    /// When it was made.
    created_at: Time,
}

/// An API key that was just made.
#[derive(Serialize, ToSchema)]
struct ApiKeyMade<'a> {
    /// Its number.
    id: i64,
    /// Its organisation, by name.
    org: &'a str,
    /// What its owner calls it.
    name: &'a str,
    /// What it may do.
    #[schema(value_type = Vec<RightName>)]
    rights: Vec<&'static str>,
    /// When it was made.
    created_at: Time,
    /// The key itself. Shown once and never again.
    key: &'a str,
}

impl<'a> ApiKeyView<'a> {
    fn of(key: &'a ApiKey) -> Self {
        Self {
            id: key.id,
            org: &key.org_name,
            name: &key.name,
            rights: key.rights.names().collect(),
            created_at: Time(key.created_at),
        }
    }
}

/// All API keys
#[utoipa::path(
    get, path = "/api/v1/api-keys", tag = "api keys",
    responses((status = 200, description = "The keys.", body = Vec<ApiKeyView>), GuardProblems)
)]
async fn api_key_list(State(api): State<Arc<Api>>, caller: Caller) -> Result<Response, Problem> {
    let keys = api.engine.api_key_list(caller.scope).await?;
    let keys: Vec<_> = keys.iter().map(ApiKeyView::of).collect();
    Ok(json(StatusCode::OK, &keys))
}

/// Makes an API key
#[utoipa::path(
    post, path = "/api/v1/api-keys", tag = "api keys",
    request_body(content = ApiKeyNew, content_type = "application/json",
        example = json!({"name": "dashboard", "rights": ["tasks:read", "devices:read"]})),
    responses(
        (status = 201, description = "The key is made. Keep it: only a digest of it is stored.",
            body = ApiKeyMade, headers(("Cache-Control" = String, description = "Always `no-store`."))),
        BodyProblems, GuardProblems,
    )
)]
async fn api_key_add(
    State(api): State<Arc<Api>>,
    caller: Caller,
    body: RawBody,
) -> Result<Response, Problem> {
    let wanted = body.read::<ApiKeyNew>()?;
    let rights = Rights::parse(wanted.rights.iter().map(String::as_str))?;
    let org = wanted.org.as_deref().unwrap_or(&caller.org_name);
    let made = api.engine.api_key_add(caller.scope, org, &wanted.name, rights).await?;
    let ApiKeyView { id, org, name, rights, created_at } = ApiKeyView::of(&made.key);
    let answer = ApiKeyMade { id, org, name, rights, created_at, key: &made.clear_text };
    let mut response = json(StatusCode::CREATED, &answer);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// An API key that was revoked.
#[derive(Serialize, ToSchema)]
struct ApiKeyRevoked {
    /// Its number.
    id: i64,
}

/// Revokes an API key: it is dead within a second
#[utoipa::path(
    delete, path = "/api/v1/api-keys/{id}", tag = "api keys",
    params(("id" = i64, Path, description = "The key's number.")),
    responses(
        (status = 200, description = "The key is revoked.", body = ApiKeyRevoked),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
async fn api_key_revoke(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(Whole(id)): Segment<Whole>,
) -> Result<Response, Problem> {
    api.engine.api_key_revoke(caller.scope, id).await?;
    api.callers.forget();
    Ok(json(StatusCode::OK, &ApiKeyRevoked { id }))
}
