//! Instants and spans for people.

use std::time::Duration;

use covey_client::Time;
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
}
