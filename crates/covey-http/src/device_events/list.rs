//! `GET /api/v1/device-events`: events, newest first, by page or by cursor.

use std::str::FromStr;

use axum::http::StatusCode;
use covey_api::DeviceEventPage;
use covey_core::event::{EventFilter, EventTypes, EventsFrom};
use covey_core::id::RecordNumber;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::auth::Asked;
use crate::docs::{GuardProblems, InvalidProblem, ScanProblems};
use crate::extract::Parameters;
use crate::problem::{Answer, Kind, Problem};
use crate::wire::{DeviceNumber, Moment, Whole, from_text, from_texts, json, page};

/// How many events a page has unless asked for otherwise.
const SIZE_DEFAULT: u32 = 50;

/// Which events are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EventListQuery {
    /// Those of the device with this number; may be given up to 64 times.
    #[serde(default, deserialize_with = "from_texts")]
    #[param(value_type = Vec<DeviceNumber>, inline, required = false, max_items = 64)]
    device_id: Vec<DeviceNumber>,
    /// Those of this type; may be given up to 64 times. Without it, those of all types from 0 on: what the
    /// server notes of devices, -1 and -2, comes only by name.
    #[serde(default, deserialize_with = "from_texts")]
    #[param(value_type = Vec<i32>, required = false, max_items = 64)]
    events_include: Vec<TypeCode>,
    /// Those that are not of this type; may be given up to 64 times.
    #[serde(default, deserialize_with = "from_texts")]
    #[param(value_type = Vec<i32>, required = false, max_items = 64)]
    events_exclude: Vec<TypeCode>,
    /// Those received at or after this instant: Unix seconds, or RFC 3339.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = Moment, inline, required = false)]
    received_after: Option<Moment>,
    /// Those received before this instant: Unix seconds, or RFC 3339.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = Moment, inline, required = false)]
    received_before: Option<Moment>,
    /// The number of the page.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1_000_000_000, default = 1)]
    page: Option<Whole>,
    /// How many events a page has.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1000, default = 50)]
    size: Option<Whole>,
    /// In place of `page`: `next_cursor` of the page before, or `newest` for the
    /// first. Nothing is counted then, and every page costs the same.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = String, required = false, pattern = "^(newest|before-[0-9]{1,18})$")]
    cursor: Option<EventCursor>,
}

/// The types that a query names.
pub(super) fn named(types: Vec<TypeCode>) -> EventTypes {
    EventTypes::named(types.into_iter().map(|TypeCode(code)| code).collect())
}

/// A type code in a query; those of the server's own events are negative.
#[derive(Clone, Copy)]
pub(crate) struct TypeCode(pub(crate) i64);

impl FromStr for TypeCode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.parse().ok().and_then(|Whole(number)| i32::try_from(number).ok());
        number.map(|number| Self(number.into())).ok_or("must be a whole number of 32 bits")
    }
}

/// A place in the list of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EventCursor(Option<RecordNumber>);

impl FromStr for EventCursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "newest" {
            return Ok(Self(None));
        }
        let digits =
            text.strip_prefix("before-").filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let number = digits.and_then(|digits| digits.parse().ok()).filter(|number| *number > 0);
        number
            .map(|number| Self(Some(RecordNumber(number))))
            .ok_or("was never issued; begin with cursor=newest and go on with next_cursor")
    }
}

/// A page of events, newest first
///
/// By `page`, with a total; or by `cursor`, which costs the same at any depth and shows nothing twice while new
/// events come.
#[utoipa::path(
    get, path = "/api/v1/device-events", tag = "events",
    params(EventListQuery),
    responses(
        (status = 200, description = "The page.", body = DeviceEventPage),
        InvalidProblem, ScanProblems, GuardProblems,
    )
)]
pub(super) async fn event_list(asked: Asked, Parameters(query): Parameters<EventListQuery>) -> Answer {
    let wanted = page(query.page, query.size, SIZE_DEFAULT);
    let from = match query.cursor {
        None => EventsFrom::Page(wanted),
        Some(_) if query.page.is_some() => {
            let problem = "must not be given together with page";
            return Err(Problem::of_field(Kind::Contradictory, "cursor", problem));
        }
        Some(EventCursor(before)) => EventsFrom::Before(before, wanted.size),
    };
    let filter = EventFilter {
        device_ids: query.device_id.into_iter().map(|DeviceNumber(id)| id).collect(),
        include: named(query.events_include),
        exclude: query.events_exclude.into_iter().map(|TypeCode(code)| code).collect(),
        received_after: query.received_after.map(|Moment(at)| at),
        received_before: query.received_before.map(|Moment(at)| at),
    };
    let read = || async {
        let found = asked.engine().event_list(filter.clone(), from).await?;
        Ok(json(StatusCode::OK, &DeviceEventPage::of(&found, wanted)))
    };
    asked.large(read).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cursors_that_were_issued_are_read() {
        assert_eq!("newest".parse(), Ok(EventCursor(None)));
        assert_eq!("before-17".parse(), Ok(EventCursor(Some(RecordNumber(17)))));
        for bad in ["", "17", "before-", "before-0", "before--1", "before-+1", "before-99999999999999999999"]
        {
            assert!(bad.parse::<EventCursor>().is_err(), "{bad}");
        }
    }
}
