//! Instants and spans for people.

use std::time::Duration;

use covey_client::Time;
use covey_sim::parse_duration;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ZonedDateTime};
use time::OffsetDateTime;

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 60 * MINUTE_S;
const DAY_S: i64 = 24 * HOUR_S;

/// How long ago an instant of the API was.
pub fn ago(at: Time) -> String {
    span(OffsetDateTime::now_utc().unix_timestamp() - at.0.div_euclid(1000))
}

/// The instant of the API that comes after a span.
pub fn after(span: Duration) -> Time {
    let now_ms = i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    Time(now_ms.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
}

/// An instant of the API as `2026-02-03 04:05:06 UTC`.
pub fn of(at: Time) -> String {
    of_unix(at.0.div_euclid(1000))
}

/// A span of seconds in its largest unit that says enough.
pub fn span(seconds: i64) -> String {
    match seconds.max(0) {
        s if s < 2 * MINUTE_S => format!("{s} s"),
        s if s < 2 * HOUR_S => format!("{} min", s / MINUTE_S),
        s if s < 2 * DAY_S => format!("{} h", s / HOUR_S),
        s => format!("{} d", s / DAY_S),
    }
}

/// An instant of Unix seconds as `2026-02-03 04:05:06 UTC`.
pub fn of_unix(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds).map_or_else(|_| seconds.to_string(), in_utc)
}

fn in_utc(instant: OffsetDateTime) -> String {
    let (date, (hour, minute, second)) = (instant.date(), instant.to_hms());
    format!("{date} {hour:02}:{minute:02}:{second:02} UTC")
}

/// An instant of the API in the zone of this machine, as `2026-02-03 05:04:06`.
pub fn local(at: Time) -> String {
    let zoned =
        Timestamp::from_millisecond(at.0).map(|instant| instant.to_zoned_datetime(TimeZone::system()));
    zoned.map_or_else(|_| of(at), |zoned| zoned.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// What is said of an instant that nobody can read.
const UNREADABLE: &str = "write a span ago (90m, 2h, 7d), a day (tuesday, yesterday, 2026-02-03), or an instant (2026-02-03T04:05, \
     2026-02-03T04:05:06Z, Unix seconds)";

/// A day as a person names it, in the zone of this machine: its beginning and that of the next one.
///
/// # Errors
/// It is none.
pub fn parse_day(text: &str) -> Result<(Time, Time), &'static str> {
    day_before(text, &ZonedDateTime::now()).ok_or("write a day: tuesday, yesterday, today, 2026-02-03")
}

/// An instant that is over, as a person writes it, in the zone of this machine.
///
/// # Errors
/// It is none.
pub fn parse(text: &str) -> Result<Time, &'static str> {
    instant_before(text, &ZonedDateTime::now()).ok_or(UNREADABLE)
}

fn instant_before(text: &str, now: &ZonedDateTime) -> Option<Time> {
    if let Some((begin, _)) = day_before(text, now) {
        return Some(begin);
    }
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        return text.parse::<i64>().ok()?.checked_mul(1_000).map(Time);
    }
    if let Ok(span) = parse_duration(text) {
        return Some(Time(
            now.timestamp().as_millisecond().saturating_sub(i64::try_from(span.as_millis()).ok()?),
        ));
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(Time(instant.as_millisecond()));
    }
    let local = text.parse::<DateTime>().ok()?.to_zoned_datetime(now.time_zone().clone()).ok()?;
    Some(Time(local.timestamp().as_millisecond()))
}

/// The last day of this name that has begun.
fn day_before(text: &str, now: &ZonedDateTime) -> Option<(Time, Time)> {
    const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    let (text, today) = (text.to_ascii_lowercase(), now.date());
    let days_ago = |days: i64| today.checked_sub(Span::new().days(days)).ok();
    let wanted = DAYS.iter().position(|day| *day == text || (text.len() == 3 && day.starts_with(&text)));
    let date = match (text.as_str(), wanted) {
        ("today", _) => today,
        ("yesterday", _) => days_ago(1)?,
        (_, Some(wanted)) => {
            let present = usize::try_from(today.weekday().to_monday_zero_offset()).ok()?;
            days_ago(i64::try_from((present + 7 - wanted) % 7).ok()?)?
        }
        // A date alone: more would be an instant.
        (text, None) if text.len() == "2026-02-03".len() => text.parse::<Date>().ok()?,
        _ => return None,
    };
    let begin = |date: Date| date.to_zoned_datetime(now.time_zone().clone()).ok();
    let ms = |zoned: ZonedDateTime| Time(zoned.timestamp().as_millisecond());
    Some((ms(begin(date)?), ms(begin(date.tomorrow().ok()?)?)))
}

/// A span that was measured, as `0.042 s` or `12.3 s`.
pub fn measured(span: Duration) -> String {
    let seconds = span.as_secs_f64();
    if seconds < 10.0 { format!("{seconds:.3} s") } else { format!("{seconds:.1} s") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn spans_and_instants_read_well() {
        let spans = [(-5, "0 s"), (119, "119 s"), (120, "2 min"), (7_199, "119 min"), (7_200, "2 h")];
        for (seconds, text) in spans.into_iter().chain([(172_799, "47 h"), (172_800, "2 d")]) {
            assert_eq!(span(seconds), text);
        }
        assert_eq!(of("2026-02-03T04:05:06.789+01:00".parse().unwrap()), "2026-02-03 03:05:06 UTC");
        assert_eq!(of_unix(1_700_000_000), "2023-11-14 22:13:20 UTC");
        assert_eq!(measured(Duration::from_micros(41_900)), "0.042 s");
    }

    #[test]
    fn an_instant_is_read_as_a_person_writes_it() {
        // A Tuesday, in a zone that has just ended its summer time two days before.
        let now: ZonedDateTime = "2026-10-27T10:30:00+01:00[Europe/Berlin]".parse().unwrap();
        let read = |text: &str| {
            instant_before(text, &now).map(|Time(ms)| Timestamp::from_millisecond(ms).unwrap().to_string())
        };
        for (text, expected) in [
            ("90m", "2026-10-27T08:00:00Z"),
            ("tuesday", "2026-10-26T23:00:00Z"),
            ("Tue", "2026-10-26T23:00:00Z"),
            ("wednesday", "2026-10-20T22:00:00Z"),
            ("sunday", "2026-10-24T22:00:00Z"),
            ("yesterday", "2026-10-25T23:00:00Z"),
            ("2026-10-24", "2026-10-23T22:00:00Z"),
            ("2026-10-24T08:00", "2026-10-24T06:00:00Z"),
            ("2026-10-24T08:00:00Z", "2026-10-24T08:00:00Z"),
            ("1700000000", "2023-11-14T22:13:20Z"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
        for bad in ["", "soon", "2026-13-01", "7", "tu", "10 d"] {
            assert_eq!(read(bad).filter(|_| bad != "7"), None, "{bad}");
        }
        let (begin, end) = day_before("sunday", &now).unwrap();
        assert_eq!((end.0 - begin.0) / 3_600_000, 25, "that day had an hour more");
    }
}
