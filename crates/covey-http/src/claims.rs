//! `/api/v1/claims`: what a production enrols its devices with (docs/certificates.md).

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, StatusCode};
use covey_api::{
    Claim, ClaimMade, ClaimNew, ClaimPage, ClaimRelease, ClaimSerialPage, ClaimSerialReleased,
    ClaimSerialsAdded, ClaimSerialsNew,
};
use covey_core::enrolment::{ClaimSpec, SnPattern};
use covey_core::error::{Error, Result};
use covey_core::id::{ClaimId, Sn, UnixMs};
use covey_core::port::PageRequest;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Asked;
use crate::docs::{BodyProblems, GuardProblems, InvalidProblem, NotFoundProblem, ScanProblems};
use crate::extract::{Parameters, RawBody, Segment};
use crate::problem::Answer;
use crate::wire::{Whole, from_text, json, page};

/// How many claims or serial numbers a page has unless asked for otherwise.
const SIZE_DEFAULT: u32 = 50;

/// The routes of claims.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([
        routes!(claim_list, claim_add),
        routes!(claim_get, claim_revoke),
        routes!(claim_serial_list, claim_serials_add),
        routes!(claim_serial_release),
    ])
}

/// Which page is wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ClaimListQuery {
    /// The number of the page.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1_000_000_000, default = 1)]
    page: Option<Whole>,
    /// How many claims a page has.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1000, default = 50)]
    size: Option<Whole>,
}

/// Which serial numbers are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ClaimSerialQuery {
    /// This one.
    #[serde(default)]
    #[param(value_type = String, required = false, nullable = false, pattern = r"^([A-Za-z0-9_-]{1,64})?$")]
    sn: Option<String>,
    /// The number of the page.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1_000_000_000, default = 1)]
    page: Option<Whole>,
    /// How many serial numbers a page has.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1000, default = 50)]
    size: Option<Whole>,
}

/// A page of claims, in the order of their numbers
#[utoipa::path(
    get, path = "/api/v1/claims", tag = "claims",
    params(ClaimListQuery),
    responses(
        (status = 200, description = "The page.", body = ClaimPage),
        InvalidProblem, ScanProblems, GuardProblems,
    )
)]
async fn claim_list(asked: Asked, Parameters(query): Parameters<ClaimListQuery>) -> Answer {
    let wanted = page(query.page, query.size, SIZE_DEFAULT);
    let found = asked.engine().claim_list(None, wanted).await?;
    Ok(json(StatusCode::OK, &ClaimPage::of(&found, wanted)))
}

/// Makes a claim: a certificate with its key that may enrol devices over EST, and do nothing else
///
/// Each serial number enrols once, unless it is released.
#[utoipa::path(
    post, path = "/api/v1/claims", tag = "claims",
    request_body(content = ClaimNew, content_type = "application/json",
        example = json!({"name": "line 4", "serials": ["LAMP-0001", "LAMP-0002"], "expires_at": "2100-01-01T00:00:00Z"})),
    responses(
        (status = 201, description = "The claim. Keep the private key: it is not stored.", body = ClaimMade,
            headers(("Cache-Control" = String, description = "Always `no-store`."))),
        BodyProblems, GuardProblems,
    )
)]
async fn claim_add(asked: Asked, body: RawBody) -> Answer {
    let wanted: ClaimNew = body.read()?;
    let spec = ClaimSpec {
        name: wanted.name,
        pattern: wanted.pattern.as_deref().map(SnPattern::parse).transpose()?,
        serials: serials(&wanted.serials)?,
        devices_max: wanted.limit.map(|Whole(limit)| u32::try_from(limit).unwrap_or(0)),
        not_after: UnixMs(wanted.expires_at.0),
    };
    let (claim, issued) = asked.engine().claim_add(spec).await?;
    let answer = ClaimMade {
        claim: Claim::of(&claim),
        certificate_pem: Cow::Borrowed(&issued.certificate_pem),
        ca_pem: Cow::Borrowed(&issued.ca_pem),
        private_key_pem: Cow::Borrowed(issued.private_key_pem.as_deref().unwrap_or_default()),
    };
    let mut response = json(StatusCode::CREATED, &answer);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// One claim
#[utoipa::path(
    get, path = "/api/v1/claims/{id}", tag = "claims",
    params(("id" = i64, Path, description = "The claim's number.")),
    responses(
        (status = 200, description = "The claim.", body = Claim),
        InvalidProblem, NotFoundProblem, ScanProblems, GuardProblems,
    )
)]
async fn claim_get(asked: Asked, Segment(Whole(id)): Segment<Whole>) -> Answer {
    let found = asked.engine().claim_list(Some(ClaimId(id)), PageRequest { page: 1, size: 1 }).await?;
    let claim = found.items.first().ok_or(Error::not_found("claim"))?;
    Ok(json(StatusCode::OK, &Claim::of(claim)))
}

/// Revokes a claim: nobody enrols by it any more
///
/// The devices that have enrolled stay.
#[utoipa::path(
    delete, path = "/api/v1/claims/{id}", tag = "claims",
    params(("id" = i64, Path, description = "The claim's number.")),
    responses(
        (status = 200, description = "The claim, which is revoked.", body = Claim),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
async fn claim_revoke(asked: Asked, Segment(Whole(id)): Segment<Whole>) -> Answer {
    let claim = asked.engine().claim_revoke(ClaimId(id)).await?;
    Ok(json(StatusCode::OK, &Claim::of(&claim)))
}

/// A page of the serial numbers of a claim, in their order: those that are listed, and those that have enrolled
#[utoipa::path(
    get, path = "/api/v1/claims/{id}/serials", tag = "claims",
    params(("id" = i64, Path, description = "The claim's number."), ClaimSerialQuery),
    responses(
        (status = 200, description = "The page.", body = ClaimSerialPage),
        InvalidProblem, NotFoundProblem, ScanProblems, GuardProblems,
    )
)]
async fn claim_serial_list(
    asked: Asked,
    Segment(Whole(id)): Segment<Whole>,
    Parameters(query): Parameters<ClaimSerialQuery>,
) -> Answer {
    let wanted = page(query.page, query.size, SIZE_DEFAULT);
    let sn = query.sn.as_deref().map(Sn::parse).transpose()?;
    let found = asked.engine().claim_serial_list(ClaimId(id), sn, wanted).await?;
    Ok(json(StatusCode::OK, &ClaimSerialPage::of(&found, wanted)))
}

/// Lists more serial numbers that may enrol
///
/// The limit of the claim stays.
#[utoipa::path(
    post, path = "/api/v1/claims/{id}/serials", tag = "claims",
    params(("id" = i64, Path, description = "The claim's number.")),
    request_body(content = ClaimSerialsNew, content_type = "application/json",
        example = json!({"serials": ["LAMP-0003"]})),
    responses(
        (status = 200, description = "They are listed.", body = ClaimSerialsAdded),
        BodyProblems, NotFoundProblem, GuardProblems,
    )
)]
async fn claim_serials_add(asked: Asked, Segment(Whole(id)): Segment<Whole>, body: RawBody) -> Answer {
    let ClaimSerialsNew { serials: wanted } = body.read()?;
    let added = asked.engine().claim_serials_add(ClaimId(id), serials(&wanted)?).await?;
    Ok(json(StatusCode::OK, &ClaimSerialsAdded { added }))
}

/// Lets a serial number enrol once more
///
/// With the next enrolment the certificates of its device are revoked that were issued before.
#[utoipa::path(
    post, path = "/api/v1/claims/{id}/release", tag = "claims",
    params(("id" = i64, Path, description = "The claim's number.")),
    request_body(content = ClaimRelease, content_type = "application/json", example = json!({"sn": "LAMP-0001"})),
    responses(
        (status = 200, description = "It may enrol.", body = ClaimSerialReleased),
        BodyProblems, NotFoundProblem, GuardProblems,
    )
)]
async fn claim_serial_release(asked: Asked, Segment(Whole(id)): Segment<Whole>, body: RawBody) -> Answer {
    let ClaimRelease { sn } = body.read()?;
    let sn = Sn::parse(&sn)?;
    asked.engine().claim_serial_release(ClaimId(id), sn.clone()).await?;
    Ok(json(StatusCode::OK, &ClaimSerialReleased { sn: Cow::Borrowed(sn.as_str()) }))
}

fn serials(texts: &[String]) -> Result<Vec<Sn>> {
    let each = texts.iter().map(|text| Sn::parse(text));
    each.collect::<Result<_, _>>()
        .map_err(|_| Error::invalid("serials", "each must be 1 to 64 of A-Z a-z 0-9 _ -"))
}
