//! `/api/v1/units`: the TCP units that the server speaks with (docs/units.md).

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::StatusCode;
use covey_api::{Unit, UnitChange, UnitNew, UnitPage};
use covey_core::error::{Error, Result};
use covey_core::id::UnitId;
use covey_core::unit::{UNIT_PORT, UNIT_RESOURCE, UnitFilter, UnitKind, UnitPlace, UnitSpec, unit_address};
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

/// How many units a page has unless asked for otherwise.
const SIZE_DEFAULT: u32 = 50;

/// The routes of units.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([routes!(unit_list, unit_add), routes!(unit_set, unit_remove)])
}

/// Which units are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct UnitListQuery {
    /// The one with this number.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false)]
    id: Option<Whole>,
    /// The one with this name.
    #[serde(default)]
    #[param(nullable = false)]
    name: Option<String>,
    /// The number of the page.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1_000_000_000, default = 1)]
    page: Option<Whole>,
    /// How many units a page has.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1000, default = 50)]
    size: Option<Whole>,
}

/// A page of TCP units, in the order of their numbers
#[utoipa::path(
    get, path = "/api/v1/units", tag = "units",
    params(UnitListQuery),
    responses(
        (status = 200, description = "The page.", body = UnitPage),
        InvalidProblem, ScanProblems, GuardProblems,
    )
)]
async fn unit_list(asked: Asked, Parameters(query): Parameters<UnitListQuery>) -> Answer {
    let wanted = page(query.page, query.size, SIZE_DEFAULT);
    let filter = UnitFilter { id: query.id.map(|Whole(id)| UnitId(id)), name: query.name };
    let found = asked.engine().unit_list(filter, wanted).await?;
    Ok(json(StatusCode::OK, &UnitPage::of(&found, wanted)))
}

/// Lists a TCP unit: the server speaks with it from now on
///
/// Its device is `unit-` and its name. One server of the deployment speaks with the units of an organisation: one that
/// was started with `--unit-gateway` or `--units` for the nodes of this organisation.
#[utoipa::path(
    post, path = "/api/v1/units", tag = "units",
    request_body(content = UnitNew, content_type = "application/json",
        example = json!({"address": "192.168.1.20", "kind": "read", "name": "scale", "resource": "weight"})),
    responses(
        (status = 201, description = "The unit is listed.", body = Unit),
        BodyProblems, ConflictProblem, GuardProblems,
    )
)]
async fn unit_add(asked: Asked, body: RawBody) -> Answer {
    let UnitNew { address, port, kind, name, resource } = body.read()?;
    let spec = UnitSpec { name, place: place(&address, port, &kind, resource)? };
    let unit = asked.engine().unit_add(spec).await?;
    Ok(json(StatusCode::CREATED, &Unit::of(&unit)))
}

/// Sets where a TCP unit is, and what it does
///
/// Its name and its device stay. What is left out is as of a new one.
#[utoipa::path(
    put, path = "/api/v1/units/{id}", tag = "units",
    params(("id" = i64, Path, description = "The unit's number.")),
    request_body(content = UnitChange, content_type = "application/json",
        example = json!({"address": "192.168.1.21", "kind": "update", "resource": "color"})),
    responses(
        (status = 200, description = "The unit.", body = Unit),
        BodyProblems, NotFoundProblem, ConflictProblem, GuardProblems,
    )
)]
async fn unit_set(asked: Asked, Segment(Whole(id)): Segment<Whole>, body: RawBody) -> Answer {
    let UnitChange { address, port, kind, resource } = body.read()?;
    let place = place(&address, port, &kind, resource)?;
    let unit = asked.engine().unit_set(UnitId(id), place).await?;
    Ok(json(StatusCode::OK, &Unit::of(&unit)))
}

/// Forgets a TCP unit: the server ends its connection
///
/// Its device stays, and is out.
#[utoipa::path(
    delete, path = "/api/v1/units/{id}", tag = "units",
    params(("id" = i64, Path, description = "The unit's number.")),
    responses(
        (status = 200, description = "The unit, as it was.", body = Unit),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
async fn unit_remove(asked: Asked, Segment(Whole(id)): Segment<Whole>) -> Answer {
    let unit = asked.engine().unit_remove(UnitId(id)).await?;
    Ok(json(StatusCode::OK, &Unit::of(&unit)))
}

fn place(address: &str, port: Option<Whole>, kind: &str, resource: Option<String>) -> Result<UnitPlace> {
    let address: IpAddr = address.parse().map_err(|_| Error::invalid("address", "must be an IP address"))?;
    let port = port.map_or(Ok(UNIT_PORT), |Whole(port)| u16::try_from(port));
    let port = port.map_err(|_| Error::invalid("port", "must be 1 to 65535"))?;
    Ok(UnitPlace {
        address: unit_address(address, port),
        kind: UnitKind::from_name(kind).ok_or(Error::invalid("kind", "must be read or update"))?,
        resource: resource.unwrap_or_else(|| UNIT_RESOURCE.to_owned()),
    })
}
