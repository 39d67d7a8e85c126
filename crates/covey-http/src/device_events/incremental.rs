//! `GET /api/v1/device-events/incremental`: what came since the caller last asked.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use covey_api::DeviceEvent;
use covey_core::access::Rights;
use covey_core::event::{EVENT_BODY_BYTES_MAX, INCREMENTAL_MAX};
use covey_core::id::RecordNumber;
use futures_util::stream;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::answers::LIST_ROOM;
use crate::auth::Asked;
use crate::device_events::list::{TypeCode, named};
use crate::docs::{GuardProblems, InvalidProblem, RoomProblem, ScanProblems};
use crate::extract::Parameters;
use crate::problem::{Answer, Problem};
use crate::wire::{DeviceNumber, Whole, from_text, from_texts, json};

/// How many events are given unless asked for otherwise (rest-api "Events").
const LIMIT_DEFAULT: u32 = 50;

/// Which events are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct IncrementalQuery {
    /// Those of the device with this number; those of all devices without it.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    device_id: Option<DeviceNumber>,
    /// Those of this type; may be given up to 64 times. Without it, those of all types from 0 on: what the
    /// server notes of devices, -1 and -2, comes only by name.
    #[serde(default, deserialize_with = "from_texts")]
    #[param(value_type = Vec<i32>, required = false, max_items = 64)]
    events_include: Vec<TypeCode>,
    /// Those after this one. Without it: those after the ones that were given
    /// to this key before, with or without the same `device_id`; the server
    /// remembers each by itself. A number above all that were ever issued is refused.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 0)]
    last_event_id: Option<Whole>,
    /// How many at most. Fewer are not the end: their bodies have at most 4 MiB in one answer. The end is where
    /// none come.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 100, default = 50)]
    limit: Option<Whole>,
}

/// Events that came since the last time, oldest first
///
/// With `last_event_id` nothing is remembered, and the same question gives the same answer. Without it the server
/// remembers how far this key has read; an answer that gets lost on its way is not given again, so use
/// `last_event_id` or the stream where every event counts. How far somebody has read is forgotten when all events up to there are.
/// By a cookie it needs `Origin` or `Sec-Fetch-Site`, like what changes something.
#[utoipa::path(
    get, path = "/api/v1/device-events/incremental", tag = "events",
    params(IncrementalQuery),
    responses(
        (status = 200, description = "The events, in ascending order of their numbers.", body = Vec<DeviceEvent>),
        InvalidProblem, ScanProblems, RoomProblem, GuardProblems,
    )
)]
pub(super) async fn event_incremental(
    asked: Asked,
    method: Method,
    Parameters(query): Parameters<IncrementalQuery>,
) -> Answer {
    let limit = query.limit.map_or(LIMIT_DEFAULT, |Whole(limit)| u32::try_from(limit).unwrap_or(0));
    if limit > INCREMENTAL_MAX {
        return Err(Problem::invalid("limit", "must be 1 to 100"));
    }
    let after = match query.last_event_id {
        Some(Whole(number)) if number < 0 => {
            return Err(Problem::invalid("last_event_id", "must not be negative"));
        }
        after => after.map(|Whole(number)| RecordNumber(number)),
    };
    let device = query.device_id.map(|DeviceNumber(id)| id);
    if method == Method::HEAD {
        // It changes nothing (RFC 9110 §9.2.1): nobody would see the events.
        asked.caller.require_some(Rights::EVENTS_READ)?;
        // Of no known length, so that none is told (§8.6).
        let body = Body::from_stream(stream::empty::<Result<Bytes, Infallible>>());
        return Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response());
    }
    let include = named(query.events_include);
    let read = || async {
        let events = asked.engine().event_next(device, include.clone(), after, limit).await?;
        let views: Vec<_> = events.iter().map(DeviceEvent::of).collect();
        Ok(json(StatusCode::OK, &views))
    };
    if after.is_some() {
        return asked.large(read).await;
    }
    asked.prove_origin()?;
    // What the server remembers as given cannot be read again, so there has to be room for it before.
    let bytes_max = usize::try_from(limit).unwrap_or(usize::MAX).saturating_mul(2 * EVENT_BODY_BYTES_MAX);
    let room = asked.room(bytes_max.min(LIST_ROOM)).await?;
    Ok(room.keep(read().await?).await)
}
