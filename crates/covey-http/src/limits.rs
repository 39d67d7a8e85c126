//! `/api/v1/orgs/{org_id}/limits` and `/api/v1/api-keys/{id}/limits`: limits of an organisation's or key's own.

use std::sync::Arc;

use axum::http::StatusCode;
use covey_api::{KeyLimits, KeyLimitsReport, OrgLimits, OrgLimitsReport};
use covey_core::id::{CallerId, OrgId};
use covey_core::own_limits::{LimitHolder, OwnLimits};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Asked;
use crate::docs::{BodyProblems, GuardProblems, InvalidProblem, NotFoundProblem};
use crate::extract::{RawBody, Segment};
use crate::problem::{Answer, Problem};
use crate::shares;
use crate::wire::{Whole, json};

/// The routes of limits.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([routes!(org_limits, org_limits_put), routes!(key_limits, key_limits_put)])
}

/// What holds for whoever has these limits of its own: they take the place of what holds for all.
fn in_force(asked: &Asked, holder: LimitHolder, own: &OwnLimits) -> OwnLimits {
    let of_all = asked.api.engine.server().limits_of_all(holder);
    let of_all =
        shares::slots_of_all(holder).set().fold(of_all, |all, (name, max)| all.with(name, Some(max)));
    own.set().fold(of_all, |all, (name, limit)| all.with(name, Some(limit)))
}

/// Refuses more slots than an organisation of this server has.
fn within_slots(own: &OwnLimits) -> Result<(), Problem> {
    let of_all = shares::slots_of_all(LimitHolder::Org(OrgId(0)));
    match of_all.set().find(|(name, max)| own.of(*name).is_some_and(|own| own > *max)) {
        None => Ok(()),
        Some((name, max)) => Err(Problem::invalid(name.name(), &format!("must be 1 to {max}"))),
    }
}

fn of_org(asked: &Asked, org: OrgId, own: &OwnLimits) -> Answer {
    let holds = in_force(asked, LimitHolder::Org(org), own);
    let report = OrgLimitsReport { org_id: org.0, own: OrgLimits::of(own), in_force: OrgLimits::of(&holds) };
    Ok(json(StatusCode::OK, &report))
}

fn of_key(asked: &Asked, id: i64, own: &OwnLimits) -> Answer {
    let holds = in_force(asked, LimitHolder::Key(CallerId(id)), own);
    let report = KeyLimitsReport { id, own: KeyLimits::of(own), in_force: KeyLimits::of(&holds) };
    Ok(json(StatusCode::OK, &report))
}

/// The limits of an organisation: of your own, with the right orgs:admin of any
#[utoipa::path(
    get, path = "/api/v1/orgs/{org_id}/limits", tag = "organisations",
    params(("org_id" = i64, Path, description = "The organisation's number.")),
    responses(
        (status = 200, description = "Its limits.", body = OrgLimitsReport),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
async fn org_limits(asked: Asked, Segment(Whole(id)): Segment<Whole>) -> Answer {
    let own = asked.engine().org_limits(OrgId(id)).await?;
    of_org(&asked, OrgId(id), &own)
}

/// Sets all limits of an organisation: what is left out keeps what holds for all
///
/// They hold within two seconds on all servers. Needs the right `orgs:admin`.
#[utoipa::path(
    put, path = "/api/v1/orgs/{org_id}/limits", tag = "organisations",
    params(("org_id" = i64, Path, description = "The organisation's number.")),
    request_body(content = OrgLimits, content_type = "application/json",
        example = json!({"requests_per_s": 100000, "streams": 500})),
    responses(
        (status = 200, description = "Its limits.", body = OrgLimitsReport),
        BodyProblems, NotFoundProblem, GuardProblems,
    )
)]
async fn org_limits_put(asked: Asked, Segment(Whole(id)): Segment<Whole>, body: RawBody) -> Answer {
    let own = body.read::<OrgLimits>()?.to_core();
    within_slots(&own)?;
    asked.engine().org_limits_put(OrgId(id), own).await?;
    of_org(&asked, OrgId(id), &own)
}

/// The limits of an API key
#[utoipa::path(
    get, path = "/api/v1/api-keys/{id}/limits", tag = "api keys",
    params(("id" = i64, Path, description = "The key's number.")),
    responses(
        (status = 200, description = "Its limits.", body = KeyLimitsReport),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
async fn key_limits(asked: Asked, Segment(Whole(id)): Segment<Whole>) -> Answer {
    let (_, own) = asked.engine().key_limits(id).await?;
    of_key(&asked, id, &own)
}

/// Sets all limits of an API key, none above that of its organisation: what is left out keeps what holds for all
///
/// They hold within two seconds on all servers.
#[utoipa::path(
    put, path = "/api/v1/api-keys/{id}/limits", tag = "api keys",
    params(("id" = i64, Path, description = "The key's number.")),
    request_body(content = KeyLimits, content_type = "application/json",
        example = json!({"requests_per_s": 10000, "streams": 100})),
    responses(
        (status = 200, description = "Its limits.", body = KeyLimitsReport),
        BodyProblems, NotFoundProblem, GuardProblems,
    )
)]
async fn key_limits_put(asked: Asked, Segment(Whole(id)): Segment<Whole>, body: RawBody) -> Answer {
    let own = body.read::<KeyLimits>()?.to_core();
    within_slots(&own)?;
    asked.engine().key_limits_put(id, own).await?;
    of_key(&asked, id, &own)
}
