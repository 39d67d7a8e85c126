//! `GET /api/v1/accounts`: the organisation of a credential, as programs ask for it that know nothing else of Covey.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use covey_api::Account;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Asked;
use crate::docs::GuardProblems;
use crate::wire::json;

/// The route of accounts.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([routes!(accounts)])
}

/// The organisation of the credential of this request
#[utoipa::path(
    get, path = "/api/v1/accounts", tag = "api keys",
    responses((status = 200, description = "Its number.", body = Account), GuardProblems)
)]
async fn accounts(Asked { caller, .. }: Asked) -> Response {
    json(StatusCode::OK, &Account { org_id: caller.org.0 })
}
