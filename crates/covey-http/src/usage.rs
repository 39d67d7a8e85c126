//! `/api/v1/usage`: what an organisation has used on each day (docs/usage.md).

use std::sync::Arc;

use axum::http::StatusCode;
use covey_api::{Day, UsageReport};
use covey_core::id::OrgId;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Asked;
use crate::docs::{GuardProblems, InvalidProblem, NotFoundProblem, ScanProblems};
use crate::extract::Parameters;
use crate::problem::Answer;
use crate::wire::{Whole, from_text, json};

/// The routes of what was used.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([routes!(usage)])
}

/// Of whom, and of which days.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct UsageQuery {
    /// The first day, by UTC; without it, 29 days before the last one.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = String, format = Date, required = false)]
    from: Option<Day>,
    /// The last day, by UTC, up to 399 days after the first one; without it, today.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = String, format = Date, required = false)]
    to: Option<Day>,
    /// The number of the organisation, which needs the right `orgs:admin` for another than your own; without it, your own.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false)]
    org: Option<Whole>,
}

/// What your organisation has used on each day, by UTC
///
/// Counted in the transactions that store it, and kept for 400 days. Needs the right `audit:read`.
#[utoipa::path(
    get, path = "/api/v1/usage", tag = "usage",
    params(UsageQuery),
    responses(
        (status = 200, description = "What was used, day by day, and in all.", body = UsageReport),
        InvalidProblem, NotFoundProblem, ScanProblems, GuardProblems,
    )
)]
async fn usage(asked: Asked, Parameters(query): Parameters<UsageQuery>) -> Answer {
    let org = query.org.map(|Whole(id)| OrgId(id));
    let (from, to) = (query.from.map(|Day(day)| day), query.to.map(|Day(day)| day));
    let report = asked.engine().usage(org, from, to).await?;
    Ok(json(StatusCode::OK, &UsageReport::of(&report)))
}
