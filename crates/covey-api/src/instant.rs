//! An instant on the wire: RFC 3339 text in UTC with milliseconds.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The last second of the year 9999, the last that RFC 3339 can write.
pub const SECONDS_MAX: i64 = 253_402_300_799;

/// An instant in milliseconds since 1970, written as RFC 3339 text in UTC. What
/// is outside of the years 1970 to 9999 is written as the nearest of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.clamp(0, SECONDS_MAX * 1_000);
        let instant = OffsetDateTime::from_unix_timestamp(ms / 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (year, month, day) = instant.to_calendar_date();
        let (hour, minute, second) = instant.to_hms();
        let month = u8::from(month);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
    }
}

/// Any text that RFC 3339 allows. What is finer than a millisecond is cut off.
impl FromStr for Time {
    type Err = time::error::Parse;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let instant = OffsetDateTime::parse(text, &Rfc3339)?;
        Ok(Self(instant.unix_timestamp() * 1_000 + i64::from(instant.millisecond())))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TimeVisitor;

        impl Visitor<'_> for TimeVisitor {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an instant as RFC 3339 has it")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Time, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(TimeVisitor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn instants_are_written_in_utc_with_milliseconds() {
        assert_eq!(Time(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Time(1_700_000_000_007).to_string(), "2023-11-14T22:13:20.007Z");
        assert_eq!(Time(i64::MAX).to_string(), "9999-12-31T23:59:59.000Z");
    }

    #[test]
    fn instants_are_read_in_every_form_of_rfc_3339() {
        for (text, ms) in [
            ("2023-11-14T22:13:20.007Z", 1_700_000_000_007),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-15T00:13:20.5+02:00", 1_700_000_000_500),
        ] {
            assert_eq!(serde_json::from_str::<Time>(&format!("\"{text}\"")).unwrap(), Time(ms), "{text}");
        }
        for bad in ["\"\"", "\"yesterday\"", "\"2023-11-14\"", "1700000000", "null"] {
            assert!(serde_json::from_str::<Time>(bad).is_err(), "{bad}");
        }
    }
}
