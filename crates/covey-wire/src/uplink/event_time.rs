//! The time of an event, as devices write it (device-events): Unix seconds, or
//! a date and a time with or without a zone.

use time::{Date, Month};

/// From here on a number is milliseconds: as seconds it would be the year 5138.
const MILLISECONDS_FROM: i64 = 100_000_000_000;
/// The end of the year 9999, in milliseconds.
const END_MS: i64 = 253_402_300_800_000;
/// 1970-01-01 as a Julian day.
const EPOCH_JULIAN_DAY: i64 = 2_440_588;

/// Reads a time, in Unix milliseconds; nothing if it is none, or not one from 1970 to 9999.
pub(super) fn parse_ms(text: &str) -> Option<i64> {
    let text = text.trim();
    let ms = number(text).or_else(|| date_and_time(text))?;
    (0..END_MS).contains(&ms).then_some(ms)
}

/// Unix seconds, an integer or a decimal, or milliseconds.
fn number(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    if whole >= MILLISECONDS_FROM {
        return Some(whole);
    }
    Some(whole * 1_000 + milliseconds(fraction))
}

/// The milliseconds that the digits behind a decimal point stand for.
fn milliseconds(digits: &str) -> i64 {
    let places = digits.bytes().chain(std::iter::repeat(b'0')).take(3);
    places.fold(0, |ms, digit| ms * 10 + i64::from(digit - b'0'))
}

/// `2026-01-31T12:00:00.5+03:00` and what devices make of it (ISO 8601).
fn date_and_time(text: &str) -> Option<i64> {
    let mut rest = Rest(text.as_bytes());
    let year = rest.digits(4)?;
    rest.one_of(b"-")?;
    let month = rest.digits(2)?;
    rest.one_of(b"-")?;
    let day = rest.digits(2)?;
    rest.one_of(b"Tt ")?;
    let hour = rest.digits(2)?;
    rest.one_of(b":")?;
    let minute = rest.digits(2)?;
    let second = if rest.one_of(b":").is_some() { rest.digits(2)? } else { 0 };
    let fraction_ms = if rest.one_of(b".,").is_some() { milliseconds(rest.all_digits()?) } else { 0 };
    // A leap second is the first of the next minute.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (month, day) = (u8::try_from(month).ok()?, u8::try_from(day).ok()?);
    let date = Date::from_calendar_date(i32::try_from(year).ok()?, Month::try_from(month).ok()?, day).ok()?;
    let days = i64::from(date.to_julian_day()) - EPOCH_JULIAN_DAY;
    let minutes = (days * 24 + hour) * 60 + minute - rest.offset_minutes()?;
    Some((minutes * 60 + second) * 1_000 + fraction_ms)
}

/// What of a text has not been read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    /// Takes one of these characters.
    fn one_of(&mut self, characters: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first().filter(|(first, _)| characters.contains(first))?;
        self.0 = rest;
        Some(*first)
    }

    /// Takes exactly so many digits.
    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        digits
            .iter()
            .try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
    }

    /// Takes all digits, of which there must be one.
    fn all_digits(&mut self) -> Option<&'a str> {
        let count = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at_checked(count).filter(|_| count > 0)?;
        self.0 = rest;
        std::str::from_utf8(digits).ok()
    }

    /// Takes what is left as a zone: `Z`, an offset, or nothing, which is UTC as
    /// is the name of a zone that a device has left there.
    fn offset_minutes(mut self) -> Option<i64> {
        while self.one_of(b" ").is_some() {}
        let Some(sign) = self.one_of(b"+-") else {
            let is_nothing_or_name = self.0.first().is_none_or(u8::is_ascii_alphabetic);
            return is_nothing_or_name.then_some(0);
        };
        let hours = self.digits(2)?;
        let has_minutes = self.one_of(b":").is_some() || self.0.first().is_some_and(u8::is_ascii_digit);
        let minutes = if has_minutes { self.digits(2)? } else { 0 };
        if hours > 23 || minutes > 59 || self.0.first().is_some_and(u8::is_ascii_digit) {
            return None;
        }
        let offset = hours * 60 + minutes;
        Some(if sign == b'-' { -offset } else { offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-01-31T12:00:00Z.
    const NOON_S: i64 = 1_769_860_800;

    fn seconds(text: &str) -> Option<f64> {
        parse_ms(text).map(|ms| ms as f64 / 1_000.0)
    }

    #[test]
    fn a_number_is_seconds_or_milliseconds() {
        let noon = NOON_S as f64;
        for (text, wanted) in [
            ("1769860800", Some(noon)),
            (" 1769860800 ", Some(noon)),
            ("1769860800.5", Some(noon + 0.5)),
            ("1769860800.1239", Some(noon + 0.123)),
            ("1769860800.", Some(noon)),
            ("1769860800123", Some(noon + 0.123)),
            ("99999999999", Some(99_999_999_999.0)),
            ("100000000000", Some(100_000_000.0)),
            ("0", Some(0.0)),
            ("-1", None),
            (".5", None),
            ("", None),
            ("1.2.3", None),
            ("1e9", None),
            ("17698608001769860800", None),
            ("999999999999999", None),
        ] {
            assert_eq!(seconds(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_date_may_have_any_zone_that_devices_give() {
        let noon = NOON_S as f64;
        for (text, wanted) in [
            ("2026-01-31T12:00:00Z", Some(noon)),
            ("2026-01-31t12:00:00z", Some(noon)),
            ("2026-01-31 12:00:00", Some(noon)),
            ("2026-01-31T12:00", Some(noon)),
            ("2026-01-31T12:00:00.25Z", Some(noon + 0.25)),
            ("2026-01-31T12:00:00,123456Z", Some(noon + 0.123)),
            ("2026-01-31T15:00:00+03:00", Some(noon)),
            ("2026-01-31T15:00:00+0300", Some(noon)),
            ("2026-01-31T15:00:00+03", Some(noon)),
            ("2026-01-31 15:00:00 +03:00", Some(noon)),
            ("2026-01-31T06:30:00.0-05:30", Some(noon)),
            ("2026-01-31T15:00:00+03:00 MSK", Some(noon)),
            ("2026-01-31T12:00:00ZMSK", Some(noon)),
            ("2026-01-31T12:00:00MSK", Some(noon)),
            ("2026-01-31 12:00:00 MSK", Some(noon)),
            ("2026-01-31T11:59:60Z", Some(noon)),
            ("1970-01-01T00:00:00Z", Some(0.0)),
            ("9999-12-31T23:59:59Z", Some(253_402_300_799.0)),
            ("1969-12-31T23:59:59Z", None),
            ("2026-02-29T12:00:00Z", None),
            ("2026-13-01T12:00:00Z", None),
            ("2026-01-31T24:00:00Z", None),
            ("2026-01-31T12:60:00Z", None),
            ("2026-01-31T12:00:61Z", None),
            ("2026-01-31T12:00:00+3", None),
            ("2026-01-31T12:00:00+030", None),
            ("2026-01-31T12:00:00+03000", None),
            ("2026-01-31T12:00:00+99:00", None),
            ("2026-01-31T12:00:00.Z", None),
            ("2026-01-31T12:00:001", None),
            ("2026-01-31", None),
            ("20260131T120000Z", None),
            ("2026-01-3é", None),
            ("yesterday", None),
        ] {
            assert_eq!(seconds(text), wanted, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(ms in 0..END_MS) {
            let at = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000);
            let at = at.map_err(|error| TestCaseError::fail(error.to_string()))?;
            let text = format!(
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", at.year(), u8::from(at.month()), at.day(),
                at.hour(), at.minute(), at.second(), at.millisecond(),
            );
            prop_assert_eq!(parse_ms(&text), Some(ms));
        }

        #[test]
        fn rubbish_never_panics(text in "\\PC*", digits in "[0-9.:TZ +-]{0,40}") {
            let _ = (parse_ms(&text), parse_ms(&digits));
        }
    }
}
