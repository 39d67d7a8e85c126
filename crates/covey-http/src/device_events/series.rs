//! `GET /api/v1/device-events/series`: numbers gathered in buckets, for pictures.

use axum::http::StatusCode;
use covey_api::{Series, SeriesBucket};
use covey_core::event::{SeriesPath, SeriesQuery as Wanted};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::auth::Asked;
use crate::device_events::fields::required;
use crate::device_events::list::TypeCode;
use crate::docs::{GuardProblems, InvalidProblem, ScanProblems};
use crate::extract::Parameters;
use crate::problem::{Answer, Kind, Problem};
use crate::wire::{DeviceNumber, Moment, Whole, from_text, json};

/// How far back a series goes unless asked for otherwise: a day, in milliseconds.
const SPAN_DEFAULT_MS: i64 = 24 * 3_600_000;
/// How many buckets a series has about, unless a width is given.
const BUCKETS_DEFAULT: i64 = 200;

/// Which numbers are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SeriesQuery {
    /// Of the device with this number.
    #[serde(deserialize_with = "required")]
    #[param(value_type = i64, minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    device_id: DeviceNumber,
    /// Of events of this type; of any type without it.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i32, required = false)]
    event_type_code: Option<TypeCode>,
    /// The tag: in the first object of `300`, else at the top level. Give this or `path`.
    #[serde(default)]
    #[param(nullable = false, min_length = 1, max_length = 64, example = "310")]
    tag: Option<String>,
    /// A path of names and places, like `$.300[0].310` (RFC 9535; names behind a
    /// dot may begin with a digit).
    #[serde(default)]
    #[param(nullable = false, min_length = 2, max_length = 1024)]
    path: Option<String>,
    /// Of events received at or after this instant: Unix seconds, or RFC 3339. A
    /// day before `until` without it.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = Moment, inline, required = false)]
    from: Option<Moment>,
    /// And before this one; now without it.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = Moment, inline, required = false)]
    until: Option<Moment>,
    /// How wide a bucket is, in seconds; without it, such that there are about 200.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1)]
    bucket_s: Option<Whole>,
}

/// Numbers out of events, gathered in buckets of time
///
/// Min, max, mean, last and count of each bucket, computed in the database. Values that are no numbers, or beyond
/// ±10^290, are left out.
#[utoipa::path(
    get, path = "/api/v1/device-events/series", tag = "events",
    params(SeriesQuery),
    responses(
        (status = 200, description = "The series.", body = Series),
        InvalidProblem, ScanProblems, GuardProblems,
    )
)]
pub(super) async fn event_series(asked: Asked, Parameters(query): Parameters<SeriesQuery>) -> Answer {
    let path = match (&query.tag, &query.path) {
        (Some(tag), None) => SeriesPath::tag(tag)?,
        (None, Some(path)) => SeriesPath::parse(path)?,
        (None, None) => return Err(Problem::of_field(Kind::Missing, "tag", "give tag or path")),
        (Some(_), Some(_)) => {
            return Err(Problem::of_field(Kind::Contradictory, "tag", "give tag or path, not both"));
        }
    };
    let until = query.until.map_or_else(|| asked.api.engine.now(), |Moment(at)| at);
    let from = query.from.map_or_else(|| until.plus_ms(-SPAN_DEFAULT_MS), |Moment(at)| at);
    let width_ms = match query.bucket_s {
        Some(Whole(seconds)) => seconds
            .checked_mul(1_000)
            .ok_or_else(|| Problem::invalid("bucket_s", "must be 1 to 9223372036854775"))?,
        None => (until.since_ms(from) / BUCKETS_DEFAULT / 1_000).max(1) * 1_000,
    };
    let type_code = query.event_type_code.map(|TypeCode(code)| code);
    let DeviceNumber(device_id) = query.device_id;
    let wanted = Wanted { device_id, registration: None, type_code, path, from, until, width_ms };
    let read = || async {
        let buckets = asked.engine().event_series(wanted.clone()).await?;
        let view = Series {
            bucket_s: width_ms / 1_000,
            from: from.into(),
            until: until.into(),
            buckets: buckets.iter().map(SeriesBucket::of).collect(),
        };
        Ok(json(StatusCode::OK, &view))
    };
    asked.large(read).await
}
