//! `/api/v1/gauges`: the last state that devices told (rest-api "Gauges").

use std::sync::Arc;

use axum::http::StatusCode;
use covey_api::GaugePage;
use covey_core::event::GaugeFilter;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Asked;
use crate::docs::{GuardProblems, InvalidProblem, ScanProblems};
use crate::extract::Parameters;
use crate::problem::Answer;
use crate::wire::{DeviceNumber, Whole, from_text, json, page};

/// How many gauges a page has unless asked for otherwise.
const SIZE_DEFAULT: u32 = 50;

/// The routes of gauges.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([routes!(gauge_list)])
}

/// Which gauges are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct GaugeListQuery {
    /// Those of the device with this number.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    device_id: Option<DeviceNumber>,
    /// Those of this type.
    #[serde(default, rename = "type", deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 0, maximum = 2_147_483_647)]
    type_code: Option<Whole>,
    /// The number of the page.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1_000_000_000, default = 1)]
    page: Option<Whole>,
    /// How many gauges a page has.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1000, default = 50)]
    size: Option<Whole>,
}

/// A page of gauges, by device and type
#[utoipa::path(
    get, path = "/api/v1/gauges", tag = "events",
    params(GaugeListQuery),
    responses(
        (status = 200, description = "The page.", body = GaugePage),
        InvalidProblem, ScanProblems, GuardProblems,
    )
)]
async fn gauge_list(asked: Asked, Parameters(query): Parameters<GaugeListQuery>) -> Answer {
    let wanted = page(query.page, query.size, SIZE_DEFAULT);
    let filter = GaugeFilter {
        device_id: query.device_id.map(|DeviceNumber(id)| id),
        type_code: query.type_code.map(|Whole(code)| code),
    };
    let read = || async {
        let found = asked.engine().gauge_list(filter, wanted).await?;
        Ok(json(StatusCode::OK, &GaugePage::of(&found, wanted)))
    };
    asked.large(read).await
}
