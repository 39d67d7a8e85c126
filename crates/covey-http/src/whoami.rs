//! `GET /api/v1/whoami`: whom a credential stands for. An application checks
//! its key with it, and a proxy asks it whether to let a request through.

use std::sync::Arc;

use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use covey_api::Whoami;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Asked;
use crate::docs::GuardProblems;
use crate::wire::json;

/// The organisation's number once more, for proxies, which see headers only.
const ORG_ID_HEADER: HeaderName = HeaderName::from_static("x-covey-org-id");
/// The rights once more, with a space between two.
const RIGHTS_HEADER: HeaderName = HeaderName::from_static("x-covey-rights");

/// The route of callers.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([routes!(whoami)])
}

/// Whom the credential of this request stands for
#[utoipa::path(
    get, path = "/api/v1/whoami", tag = "api keys",
    responses(
        (status = 200, description = "It is valid.", body = Whoami, headers(
            ("X-Covey-Org-Id" = i64, description = "The organisation's number."),
            ("X-Covey-Rights" = String, description = "The rights, with a space between two."),
            ("Cache-Control" = String, description = "Always `no-store`."),
        )),
        GuardProblems,
    )
)]
async fn whoami(Asked { caller, identity, .. }: Asked) -> Response {
    let identity = identity.as_deref().map(|identity| (&*identity.issuer, &*identity.subject));
    let whoami = Whoami::of(&caller, identity);
    let (org_id, names) = (whoami.org_id, whoami.rights.join(" "));
    let mut response = json(StatusCode::OK, &whoami);
    let headers = response.headers_mut();
    headers.insert(ORG_ID_HEADER, HeaderValue::from(org_id));
    if let Ok(names) = HeaderValue::try_from(names) {
        headers.insert(RIGHTS_HEADER, names);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
