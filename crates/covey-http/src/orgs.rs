//! `/api/v1/orgs`: organisations. Making and renaming them needs the right orgs:admin; whoever has keys:write sees its own.

use std::sync::Arc;

use axum::http::StatusCode;
use covey_api::{Org, OrgNamed, OrgPage};
use covey_core::id::OrgId;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Asked;
use crate::docs::{
    BodyProblems, ConflictProblem, GuardProblems, InvalidProblem, NotFoundProblem, ScanProblems,
};
use crate::extract::{Parameters, RawBody, Segment};
use crate::problem::Answer;
use crate::wire::{Whole, from_text, json, page};

/// How many organisations a page has unless asked for otherwise.
const SIZE_DEFAULT: u32 = 50;

/// The routes of organisations.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([routes!(org_list, org_add), routes!(org_get, org_rename)])
}

/// Which page is wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct OrgListQuery {
    /// The number of the page.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1_000_000_000, default = 1)]
    page: Option<Whole>,
    /// How many organisations a page has.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1000, default = 50)]
    size: Option<Whole>,
}

/// Your organisation; with the right orgs:admin a page of all, in the order of their numbers
#[utoipa::path(
    get, path = "/api/v1/orgs", tag = "organisations",
    params(OrgListQuery),
    responses(
        (status = 200, description = "The page.", body = OrgPage),
        InvalidProblem, ScanProblems, GuardProblems,
    )
)]
async fn org_list(asked: Asked, Parameters(query): Parameters<OrgListQuery>) -> Answer {
    let wanted = page(query.page, query.size, SIZE_DEFAULT);
    let found = asked.engine().org_list(wanted).await?;
    Ok(json(StatusCode::OK, &OrgPage::of(&found, wanted)))
}

/// Makes an organisation
///
/// It has nothing and nobody; make its first key with `POST /api/v1/api-keys`, naming it in `org`.
#[utoipa::path(
    post, path = "/api/v1/orgs", tag = "organisations",
    request_body(content = OrgNamed, content_type = "application/json", example = json!({"name": "acme-north"})),
    responses(
        (status = 201, description = "The organisation is made.", body = Org),
        BodyProblems, ConflictProblem, GuardProblems,
    )
)]
async fn org_add(asked: Asked, body: RawBody) -> Answer {
    let OrgNamed { name } = body.read()?;
    let org = asked.engine().org_add(&name).await?;
    Ok(json(StatusCode::CREATED, &Org::of(&org)))
}

/// An organisation: your own, with the right orgs:admin any
#[utoipa::path(
    get, path = "/api/v1/orgs/{org_id}", tag = "organisations",
    params(("org_id" = i64, Path, description = "The organisation's number.")),
    responses(
        (status = 200, description = "The organisation.", body = Org),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
async fn org_get(asked: Asked, Segment(Whole(id)): Segment<Whole>) -> Answer {
    let org = asked.engine().org_get(OrgId(id)).await?;
    Ok(json(StatusCode::OK, &Org::of(&org)))
}

/// Gives an organisation another name; what belongs to it stays
#[utoipa::path(
    patch, path = "/api/v1/orgs/{org_id}", tag = "organisations",
    params(("org_id" = i64, Path, description = "The organisation's number.")),
    request_body(content = OrgNamed, content_type = "application/json", example = json!({"name": "acme-south"})),
    responses(
        (status = 200, description = "The organisation.", body = Org),
        BodyProblems, NotFoundProblem, ConflictProblem, GuardProblems,
    )
)]
async fn org_rename(asked: Asked, Segment(Whole(id)): Segment<Whole>, body: RawBody) -> Answer {
    let OrgNamed { name } = body.read()?;
    let org = asked.engine().org_rename(OrgId(id), &name).await?;
    // Who was found a moment ago still bears the old one.
    asked.api.callers.forget();
    Ok(json(StatusCode::OK, &Org::of(&org)))
}
