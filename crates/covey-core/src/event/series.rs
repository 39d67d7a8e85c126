//! Values out of events over time: one by one, or gathered in buckets.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::id::{DeviceId, DeviceKey, UnixMs};

/// How many values one look gives at most (rest-api "Events").
/// Limit for each request: 422.
pub const FIELDS_MAX: u32 = 1_000;
/// How many buckets a picture may have.
/// Limit for each request: 422.
pub const BUCKETS_MAX: i64 = 10_000;
/// How many steps a path may have.
/// Limit for each request: 422.
pub const SERIES_PATH_MAX: usize = 8;
/// Longest step of a path, in characters.
/// Limit for each request: 422.
const STEP_CHARS_MAX: usize = 64;
/// Longest span that values are looked for in, in minutes: a year.
/// Limit for each request: 422.
const INTERVAL_MINUTES_MAX: i64 = 366 * 24 * 60;

/// Where in a body a value is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SeriesPath {
    /// A tag: in the first object of `300`, else at the top level of the body
    /// (rest-api "fields").
    Tag(String),
    /// The names and places that lead to it from the top level.
    Steps(Vec<PathStep>),
}

/// One step into a JSON value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathStep {
    /// A member of an object.
    Name(String),
    /// A place in an array, from 0.
    Place(u32),
}

impl SeriesPath {
    /// Reads a tag.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `tag`.
    pub fn tag(tag: &str) -> Result<Self> {
        if is_name(tag) {
            Ok(Self::Tag(tag.to_owned()))
        } else {
            Err(Error::invalid("tag", "must be 1 to 64 characters without quotes or control characters"))
        }
    }

    /// Reads a path such as `$.300[0].310` (RFC 9535, only names and places; a
    /// name behind a dot may be anything, not only what begins with a letter).
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `path`.
    pub fn parse(text: &str) -> Result<Self> {
        let problem = || Error::invalid("path", "must be like $.name[0].other with 1 to 8 steps");
        let mut rest = text.strip_prefix('$').ok_or_else(problem)?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                let (name, after) = after.split_at(end);
                (Some(PathStep::Name(name.to_owned())).filter(|_| is_name(name)), after)
            } else if let Some((after, end)) = quoted(rest) {
                let (name, after) = after.split_once(end).ok_or_else(problem)?;
                (Some(PathStep::Name(name.to_owned())).filter(|_| is_name(name)), after)
            } else {
                let (place, after) =
                    rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).ok_or_else(problem)?;
                let is_number = place.bytes().all(|byte| byte.is_ascii_digit())
                    && (place == "0" || !place.starts_with('0'));
                (place.parse::<u16>().ok().filter(|_| is_number).map(|at| PathStep::Place(at.into())), after)
            };
            steps.push(step.ok_or_else(problem)?);
            rest = after;
        }
        if (1..=SERIES_PATH_MAX).contains(&steps.len()) { Ok(Self::Steps(steps)) } else { Err(problem()) }
    }

    /// The paths to look at, in this order: what is first there counts.
    #[must_use]
    pub fn ways(&self) -> Vec<Vec<PathStep>> {
        match self {
            Self::Tag(tag) => vec![
                vec![PathStep::Name("300".to_owned()), PathStep::Place(0), PathStep::Name(tag.clone())],
                vec![PathStep::Name(tag.clone())],
            ],
            Self::Steps(steps) => vec![steps.clone()],
        }
    }
}

/// What is behind the beginning of a name in quotes, and what ends that name.
fn quoted(rest: &str) -> Option<(&str, &'static str)> {
    let single = rest.strip_prefix("['").map(|after| (after, "']"));
    single.or_else(|| rest.strip_prefix("[\"").map(|after| (after, "\"]")))
}

/// Quotes and backslashes would have to be written differently for each database.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.chars().count() <= STEP_CHARS_MAX
        && !name.chars().any(|c| c.is_control() || matches!(c, '"' | '\'' | '\\'))
}

/// Values out of the newest events of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldQuery {
    /// The device's number.
    pub device_id: DeviceId,
    /// Of the devices that have or had this number, this one alone.
    pub registration: Option<DeviceKey>,
    /// The type of the events.
    pub type_code: i64,
    /// Where the value is.
    pub path: SeriesPath,
    /// Of events received at or after this instant.
    pub since: UnixMs,
    /// How many at most.
    pub limit: u32,
}

impl FieldQuery {
    /// A look back of `interval_minutes` from `now`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `tag`, `interval_m` or `limit`.
    pub fn back(
        device_id: DeviceId,
        type_code: i64,
        tag: &str,
        interval_minutes: i64,
        limit: u32,
        now: UnixMs,
    ) -> Result<Self> {
        if !(1..=INTERVAL_MINUTES_MAX).contains(&interval_minutes) {
            return Err(Error::invalid("interval_m", "must be 1 to 527040 minutes"));
        }
        if !(1..=FIELDS_MAX).contains(&limit) {
            return Err(Error::invalid("limit", "must be 1 to 1000"));
        }
        let path = SeriesPath::tag(tag)?;
        let since = now.plus_ms(-interval_minutes * 60_000);
        Ok(Self { device_id, registration: None, type_code, path, since, limit })
    }
}

/// A value out of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// When the event was received.
    pub received_at: UnixMs,
    /// The value as JSON text.
    pub value: Arc<str>,
}

/// Numbers out of the events of a device, gathered by time of receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesQuery {
    /// The device's number.
    pub device_id: DeviceId,
    /// Of the devices that have or had this number, this one alone.
    pub registration: Option<DeviceKey>,
    /// The type of the events; all but the server's own if none is given.
    pub type_code: Option<i64>,
    /// Where the number is.
    pub path: SeriesPath,
    /// Of events received at or after this instant.
    pub from: UnixMs,
    /// And before this one.
    pub until: UnixMs,
    /// How wide a bucket is, in milliseconds. Buckets begin at its multiples.
    pub width_ms: i64,
}

impl SeriesQuery {
    /// Checks the span and the width.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `from` or `bucket_s`.
    pub fn validate(&self) -> Result<()> {
        let span_ms = self.until.since_ms(self.from);
        if span_ms <= 0 || self.from.0 < 0 {
            return Err(Error::invalid("from", "must be before until"));
        }
        if self.width_ms < 1_000 || span_ms / self.width_ms >= BUCKETS_MAX {
            return Err(Error::invalid("bucket_s", "must be at least 1 and give at most 10000 buckets"));
        }
        Ok(())
    }
}

/// The numbers of one span of time. There is none for a span without any.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Its beginning.
    pub from: UnixMs,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// The arithmetic mean.
    pub mean: f64,
    /// The one that was received last.
    pub last: f64,
    /// How many there are.
    pub count: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_is_names_and_places() {
        let name = |name: &str| PathStep::Name(name.to_owned());
        let steps = |text: &str| match SeriesPath::parse(text) {
            Ok(SeriesPath::Steps(steps)) => Some(steps),
            Ok(SeriesPath::Tag(_)) | Err(_) => None,
        };
        assert_eq!(steps("$.300[0].310"), Some(vec![name("300"), PathStep::Place(0), name("310")]));
        assert_eq!(steps("$['a b'].c"), Some(vec![name("a b"), name("c")]));
        assert_eq!(steps("$[\"a'b\"].c"), None, "no quotes in names");
        assert_eq!(steps("$[\"310\"][0]"), Some(vec![name("310"), PathStep::Place(0)]));
        for bad in [
            "",
            "$",
            "$[01]",
            "$[\"a']",
            "a",
            "$.",
            "$..a",
            "$[-1]",
            "$[+1]",
            "$[99999]",
            "$.a['",
            "$.a\"",
            "$[*]",
            "$.a.b.c.d.e.f.g.h.i",
        ] {
            assert_eq!(steps(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn rubbish_is_no_path_and_no_panic(text in any::<String>()) {
            let _ = (SeriesPath::parse(&text), SeriesPath::tag(&text), SeriesPath::parse(&format!("${text}")));
        }
    }
}
