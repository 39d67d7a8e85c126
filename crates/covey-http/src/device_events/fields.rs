//! `GET /api/v1/device-events/fields`: the values of a tag over the last minutes.

use axum::http::StatusCode;
use covey_api::FieldValue;
use covey_core::event::FieldQuery;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::auth::Asked;
use crate::device_events::list::TypeCode;
use crate::docs::{GuardProblems, InvalidProblem, ScanProblems};
use crate::extract::Parameters;
use crate::problem::Answer;
use crate::wire::{DeviceNumber, Whole, from_text, json};

/// How far to look back unless asked for otherwise, in minutes (rest-api "Events").
const INTERVAL_DEFAULT: i64 = 15;
/// The type and the tag unless others are asked for: existing clients leave them out.
const TYPE_CODE_DEFAULT: i64 = 44;
const TAG_DEFAULT: &str = "338";
/// How many values are given unless asked for otherwise.
const LIMIT_DEFAULT: u32 = 50;

/// Which values are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct FieldsQuery {
    /// Of the device with this number.
    #[serde(deserialize_with = "required")]
    #[param(value_type = i64, minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    device_id: DeviceNumber,
    /// Of events of this type.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i32, required = false, default = 44)]
    event_type_code: Option<TypeCode>,
    /// The tag. An empty one is as if it were not given.
    #[serde(default)]
    #[param(nullable = false, max_length = 64, default = "338", example = "310")]
    tag: Option<String>,
    /// Of events received in the last minutes, so many.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 527_040, default = 15)]
    interval_m: Option<Whole>,
    /// How many at most.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1000, default = 50)]
    limit: Option<Whole>,
}

/// Reads a parameter that must be there.
pub(super) fn required<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// The values of a tag, newest first
///
/// The tag's value in the first object of `300`, else at the top level of the event's body. Events without it are
/// left out. Of a gauge only the last body is kept, so there is one value at most.
#[utoipa::path(
    get, path = "/api/v1/device-events/fields", tag = "events",
    params(FieldsQuery),
    responses(
        (status = 200, description = "The values.", body = Vec<FieldValue>),
        InvalidProblem, ScanProblems, GuardProblems,
    )
)]
pub(super) async fn event_fields(asked: Asked, Parameters(query): Parameters<FieldsQuery>) -> Answer {
    let now = asked.api.engine.now();
    let minutes = query.interval_m.map_or(INTERVAL_DEFAULT, |Whole(minutes)| minutes);
    let limit = query.limit.map_or(LIMIT_DEFAULT, |Whole(limit)| u32::try_from(limit).unwrap_or(0));
    let DeviceNumber(device) = query.device_id;
    let code = query.event_type_code.map_or(TYPE_CODE_DEFAULT, |TypeCode(code)| code);
    let tag = query.tag.as_deref().unwrap_or(TAG_DEFAULT);
    let wanted = FieldQuery::back(device, code, tag, minutes, limit, now)?;
    let read = || async {
        let fields = asked.engine().event_fields(wanted.clone()).await?;
        let views: Vec<_> = fields.iter().map(|field| FieldValue::of(field, now)).collect();
        Ok(json(StatusCode::OK, &views))
    };
    asked.large(read).await
}
