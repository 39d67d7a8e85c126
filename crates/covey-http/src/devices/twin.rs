//! `/api/v1/devices/{device_id}/twin`: what a device says its values are, and
//! what applications want them to be.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::header::{ETAG, IF_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use covey_api::{Twin, TwinPatch, TwinReportedValue};
use covey_core::twin::{self as core, IfMatch, TTL_MINUTES_DEFAULT, TwinVersions};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::IntoParams;

use crate::answers::{SMALL_BYTES, bytes_of};
use crate::auth::Asked;
use crate::docs::{BodyProblems, GuardProblems, InvalidProblem, NotFoundProblem, PreconditionProblem};
use crate::extract::{Parameters, RawBody, Segment};
use crate::problem::{Answer, Problem};
use crate::wire::{DeviceNumber, Whole, from_text, json};

/// How many values of a history are given unless asked for otherwise.
const HISTORY_DEFAULT: u32 = 50;

/// What the core is asked for.
fn into_patch(body: TwinPatch<'_>, if_match: Option<Vec<IfMatch>>) -> core::TwinPatch {
    let values = |values: BTreeMap<String, Cow<'_, RawValue>>| {
        let value = |value: &RawValue| (value.get() != "null").then(|| Arc::from(value.get()));
        values.into_iter().map(|(name, text)| (name, value(&text))).collect()
    };
    core::TwinPatch {
        reported: values(body.reported),
        desired: values(body.desired),
        if_match,
        priority: body.priority.map_or(0, |Whole(priority)| priority),
        ttl_minutes: body.ttl.map_or(TTL_MINUTES_DEFAULT, |Whole(minutes)| minutes),
    }
}

/// The entity tag of a twin (RFC 9110 §8.8.3).
fn etag(versions: TwinVersions) -> String {
    format!("\"r{}-d{}\"", versions.reported, versions.desired)
}

/// The versions that a caller demands (RFC 9110 §13.1.1): one of a list of
/// entity tags, each a whole one or that of one side; none for any.
fn if_match(headers: &HeaderMap) -> Result<Option<Vec<IfMatch>>, Problem> {
    let problem = || {
        Problem::invalid("If-Match", "must be ETags of a twin in quotes, such as \"r3-d1\", \"d1\" or \"r3\"")
    };
    let mut lines = headers.get_all(IF_MATCH).iter().peekable();
    if lines.peek().is_none() {
        return Ok(None);
    }
    let mut wanted = Vec::new();
    for line in lines {
        let mut rest = line.to_str().map_err(|_| problem())?.trim();
        if rest == "*" {
            return Ok(None);
        }
        loop {
            let (is_weak, quoted) = match rest.strip_prefix("W/") {
                Some(quoted) => (true, quoted),
                None => (false, rest),
            };
            let (tag, behind) =
                quoted.strip_prefix('"').and_then(|tag| tag.split_once('"')).ok_or_else(problem)?;
            // A weak tag matches nothing here (§8.8.3.2), nor does one that no twin has.
            wanted.extend(versions(tag).filter(|_| !is_weak));
            let behind = behind.trim_start();
            if behind.is_empty() {
                break;
            }
            rest = behind.strip_prefix(',').ok_or_else(problem)?.trim_start();
        }
    }
    Ok(Some(wanted))
}

/// The versions of an entity tag, or of one side of it.
fn versions(tag: &str) -> Option<IfMatch> {
    let mut versions = IfMatch::default();
    for part in tag.split('-') {
        let (side, number) = part.split_at_checked(1)?;
        let place = match side {
            "r" => &mut versions.reported,
            "d" => &mut versions.desired,
            _ => return None,
        };
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if place.replace(number.parse().ok().filter(|_| is_number)?).is_some() {
            return None;
        }
    }
    Some(versions)
}

/// The answer with a twin.
fn answer(twin: &core::Twin) -> Response {
    let mut response = json(StatusCode::OK, &Twin::of(twin));
    if let Ok(tag) = HeaderValue::try_from(etag(twin.versions)) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// A device's twin
#[utoipa::path(
    get, path = "/api/v1/devices/{device_id}/twin", tag = "twins",
    params(("device_id" = i64, Path, description = "The device's number.", minimum = 1, maximum = 9_007_199_254_740_991_i64)),
    responses(
        (status = 200, description = "The twin.", body = Twin,
            headers(("ETag" = String, description = "The versions of both sides, for `If-Match`."))),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
pub(super) async fn twin_get(asked: Asked, Segment(DeviceNumber(id)): Segment<DeviceNumber>) -> Answer {
    asked.large(|| async { Ok(answer(&asked.engine().twin_get(id).await?)) }).await
}

/// Changes a twin
///
/// A value that is wanted becomes a task for the device (method `twin.set`, 65000), in place of an older one of the same
/// resource that the device has not taken yet. The device says what became of it by reporting the value.
/// With `If-Match` the change is made only if the twin, or the side that is named, has that version.
#[utoipa::path(
    patch, path = "/api/v1/devices/{device_id}/twin", tag = "twins",
    params(
        ("device_id" = i64, Path, description = "The device's number.", minimum = 1, maximum = 9_007_199_254_740_991_i64),
        ("If-Match" = Option<String>, Header, description = "One or several of `ETag`, or of one side of it: `\"d4\"`, `\"r17\"`."),
    ),
    request_body(content = TwinPatch, content_type = "application/json",
        example = json!({"desired": {"led": 1}})),
    responses(
        (status = 200, description = "The twin after the change.", body = Twin,
            headers(("ETag" = String, description = "The versions of both sides, for `If-Match`."))),
        BodyProblems, NotFoundProblem, PreconditionProblem, GuardProblems,
    )
)]
pub(super) async fn twin_patch(
    asked: Asked,
    Segment(DeviceNumber(id)): Segment<DeviceNumber>,
    headers: HeaderMap,
    body: RawBody,
) -> Answer {
    let patch = into_patch(body.read::<TwinPatch<'_>>()?, if_match(&headers)?);
    let response = answer(&asked.engine().twin_patch(id, patch).await?);
    let bytes = bytes_of(&response);
    if bytes <= SMALL_BYTES {
        return Ok(response);
    }
    // What was changed is told in any case, if need be without room.
    Ok(match asked.room(bytes).await {
        Ok(room) => room.keep(response).await,
        Err(_) => response,
    })
}

/// Which part of a history is wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// The resource.
    #[param(min_length = 1, max_length = 128, example = "temperature")]
    resource: String,
    /// Values before this version: the last one of the part before.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1)]
    before: Option<Whole>,
    /// How many at most. Fewer are not the end: their bodies have at most 4 MiB in one answer. The end is where
    /// none come.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1000, default = 50)]
    limit: Option<Whole>,
}

/// What a device reported of a resource, newest first
#[utoipa::path(
    get, path = "/api/v1/devices/{device_id}/twin/history", tag = "twins",
    params(
        ("device_id" = i64, Path, description = "The device's number.", minimum = 1, maximum = 9_007_199_254_740_991_i64),
        HistoryQuery,
    ),
    responses(
        (status = 200, description = "The values.", body = Vec<TwinReportedValue>),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
pub(super) async fn twin_history(
    asked: Asked,
    Segment(DeviceNumber(id)): Segment<DeviceNumber>,
    Parameters(query): Parameters<HistoryQuery>,
) -> Answer {
    let limit = query.limit.map_or(HISTORY_DEFAULT, |Whole(limit)| u32::try_from(limit).unwrap_or(0));
    let before = query.before.map(|Whole(version)| version);
    let read = || async {
        let values = asked.engine().twin_history(id, query.resource.clone(), before, limit).await?;
        let views: Vec<_> = values.iter().map(TwinReportedValue::of).collect();
        Ok(json(StatusCode::OK, &views))
    };
    asked.large(read).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_condition_names_both_sides_or_one_of_several_versions() {
        let read = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(IF_MATCH, HeaderValue::try_from(*line).unwrap());
            }
            if_match(&headers).ok()
        };
        let both = IfMatch { reported: Some(3), desired: Some(1) };
        let wish = IfMatch { reported: None, desired: Some(1) };
        let tag = etag(TwinVersions { reported: 3, desired: 1 });
        assert_eq!(read(&[&tag]), Some(Some(vec![both])));
        assert_eq!(read(&["\"d1\""]), Some(Some(vec![wish])));
        for list in [&["\"d1\" , \"r3-d1\""][..], &["\"d1\"", "\"r3-d1\""], &["\"d1\",W/\"d2\",\"r3-d1\""]] {
            assert_eq!(read(list), Some(Some(vec![wish, both])), "{list:?}");
        }
        assert_eq!(read(&[]), Some(None));
        assert_eq!(read(&["*"]), Some(None));
        for nothing in ["W/\"r3-d1\"", "\"\"", "\"x1\"", "\"r\"", "\"r+3\"", "\"r3-r3\"", "\"r3, r4\""] {
            assert_eq!(read(&[nothing]), Some(Some(vec![])), "{nothing}");
        }
        for bad in ["", "r3", "\"r3", "\"r3\" \"r4\"", "\"r3\",", "*, \"r3\""] {
            assert_eq!(read(&[bad]), None, "{bad}");
        }
    }
}
