//! What organisations have used.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::de::{Deserializer, Error};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use time::Date;

/// The Julian day of 1970-01-01.
const EPOCH_JULIAN: i64 = 2_440_588;

/// A day by UTC, in days since 1970, written as `2026-12-01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub i64);

impl Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = i32::try_from(self.0.saturating_add(EPOCH_JULIAN)).ok();
        let date = date.and_then(|day| Date::from_julian_day(day).ok());
        let (year, month, day) = date.unwrap_or(Date::MAX).to_calendar_date();
        write!(f, "{year:04}-{:02}-{day:02}", u8::from(month))
    }
}

impl FromStr for Day {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "must be a day like 2026-12-01, from 1970-01-01 to 9999-12-31";
        let number = |from: usize, to: usize| {
            let digits = text.get(from..to).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            digits.and_then(|digits| digits.parse::<u16>().ok())
        };
        let is_dashed = text.len() == 10 && text.get(4..5) == Some("-") && text.get(7..8) == Some("-");
        let date = || {
            let month = time::Month::try_from(u8::try_from(number(5, 7)?).ok()?).ok()?;
            Date::from_calendar_date(number(0, 4)?.into(), month, u8::try_from(number(8, 10)?).ok()?).ok()
        };
        let date = is_dashed.then(date).flatten().ok_or(EXPECTED)?;
        let day = i64::from(date.to_julian_day()) - EPOCH_JULIAN;
        if day >= 0 { Ok(Self(day)) } else { Err(EXPECTED) }
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// What was used on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageDay {
    /// The day, by UTC.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = Date, example = "2026-12-01"))]
    pub day: Day,
    /// How many tasks were made.
    pub tasks_created: i64,
    /// How many tasks have become final: done, failed, expired or deleted.
    pub tasks_finished: i64,
    /// How many events were stored; gauges are not among them.
    pub events: i64,
    /// How many bytes came: parameters of tasks, bodies of results and of events.
    pub bytes_in: i64,
    /// How many devices were heard.
    pub active_devices: i64,
}

/// What was used on all days of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageTotal {
    /// How many tasks were made.
    pub tasks_created: i64,
    /// How many tasks have become final: done, failed, expired or deleted.
    pub tasks_finished: i64,
    /// How many events were stored; gauges are not among them.
    pub events: i64,
    /// How many bytes came: parameters of tasks, bodies of results and of events.
    pub bytes_in: i64,
    /// The sum of the active devices of each day: a device counts once for each day on which it was heard.
    pub device_days: i64,
}

/// What an organisation has used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageReport {
    /// The organisation's number.
    pub org_id: i64,
    /// Each day that was asked for, the earliest first, also those on which nothing was used.
    pub days: Vec<UsageDay>,
    /// The sums over these days.
    pub total: UsageTotal,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn days_are_written_and_read_alike() {
        for (text, day) in [("1970-01-01", 0), ("2024-02-29", 19_782), ("9999-12-31", 2_932_896)] {
            assert_eq!((Day(day).to_string().as_str(), text.parse()), (text, Ok(Day(day))));
        }
        for bad in [
            "",
            "2026-1-1",
            "2026-02-29",
            "1969-12-31",
            "2026-12-01T00:00:00Z",
            "2026/12/01",
            "+026-12-01",
            "2026-12-0é",
        ] {
            assert!(bad.parse::<Day>().is_err(), "{bad}");
        }
        assert_eq!(Day(i64::MAX).to_string(), "9999-12-31");
    }
}
