//! Forms that several resources share on the wire: whole numbers, instants,
//! and values that come as text in a path or a query.

use std::convert::Infallible;
use std::fmt::Display;
use std::str::FromStr;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
pub(crate) use covey_api::Whole;
use covey_api::{SECONDS_MAX, Time};
use covey_core::device::DEVICE_ID_MAX;
use covey_core::id::{DeviceId, UnixMs};
use covey_core::port::PageRequest;
use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::Serialize;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{OneOfBuilder, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::problem::{Kind, Problem};

/// The page that a caller asks for. What does not fit is left to the core to refuse.
pub(crate) fn page(number: Option<Whole>, size: Option<Whole>, size_default: u32) -> PageRequest {
    let fitting = |asked: Option<Whole>, default| {
        asked.map_or(default, |Whole(number)| u32::try_from(number).unwrap_or(0))
    };
    PageRequest { page: fitting(number, 1), size: fitting(size, size_default) }
}

/// Reads a parameter of a query, which is always text.
pub(crate) fn from_text<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(D::Error::custom)
}

/// Reads a parameter that may be given several times.
pub(crate) fn from_texts<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
}

/// A tag that devices must have, with its value if that matters: `name`,
/// `name:value`, or `name=value` as people write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagWanted(pub(crate) String, pub(crate) Option<String>);

impl TagWanted {
    pub(crate) fn read(text: &str) -> Self {
        match text.split_once([':', '=']) {
            Some((tag, value)) => Self(tag.to_owned(), Some(value.to_owned())),
            None => Self(text.to_owned(), None),
        }
    }

    /// As the core has it.
    pub(crate) fn into_pair(self) -> (String, Option<String>) {
        (self.0, self.1)
    }
}

impl FromStr for TagWanted {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::read(text))
    }
}

/// An instant in a query: Unix seconds, or RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) UnixMs);

impl FromStr for Moment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(Whole(seconds)) = text.parse() {
            let is_known = (0..=SECONDS_MAX).contains(&seconds);
            return if is_known { Ok(Self(UnixMs(seconds * 1_000))) } else { Err(Self::EXPECTED) };
        }
        text.parse().map(|Time(ms)| Self(UnixMs(ms))).map_err(|_| Self::EXPECTED)
    }
}

impl Moment {
    const EXPECTED: &str = "must be Unix seconds or an instant like 2026-02-03T04:05:06Z";
}

impl PartialSchema for Moment {
    fn schema() -> RefOr<Schema> {
        let seconds = ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::Integer))
            .minimum(Some(0))
            .maximum(Some(SECONDS_MAX));
        let text = ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::String))
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
        RefOr::T(Schema::OneOf(OneOfBuilder::new().item(seconds).item(text).build()))
    }
}

impl ToSchema for Moment {}

/// The number of a device, in its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeviceNumber(pub(crate) DeviceId);

impl PartialSchema for DeviceNumber {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::Integer))
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .minimum(Some(1))
            .maximum(Some(DEVICE_ID_MAX));
        RefOr::T(number.build().into())
    }
}

impl ToSchema for DeviceNumber {}

impl TryFrom<i64> for DeviceNumber {
    type Error = &'static str;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        let is_known = (1..=DEVICE_ID_MAX).contains(&number);
        if is_known { Ok(Self(DeviceId(number))) } else { Err("must be 1 to 9007199254740991") }
    }
}

impl FromStr for DeviceNumber {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().and_then(|Whole(number)| Self::try_from(number))
    }
}

/// A response with a JSON body.
pub(crate) fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => {
            let mut response = Response::new(Body::from(bytes));
            *response.status_mut() = status;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            Problem::new(Kind::Internal, "the answer could not be written").into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn moments_are_read_as_seconds_or_as_rfc_3339() {
        let read = |text: &str| text.parse::<Moment>().map(|moment| moment.0.0);
        assert_eq!(read("1700000000"), Ok(1_700_000_000_000));
        assert_eq!(read("2023-11-14T22:13:20Z"), Ok(1_700_000_000_000));
        assert_eq!(read("2023-11-15T00:13:20.5+02:00"), Ok(1_700_000_000_500));
        for bad in ["", "-1", "253402300800", "yesterday", "2023-11-14", "1.5"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
