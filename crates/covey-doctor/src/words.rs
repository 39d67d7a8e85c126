//! How lengths of time are told, and words that a shell takes as they are.

use std::path::Path;

use time::OffsetDateTime;

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 60 * MINUTE_S;
pub(crate) const DAY_S: i64 = 24 * HOUR_S;

/// A length of time in the largest unit of which it has two or more.
pub(crate) fn length(seconds: i64) -> String {
    let seconds = seconds.saturating_abs();
    for (unit_s, name) in [(DAY_S, "days"), (HOUR_S, "hours"), (MINUTE_S, "minutes")] {
        if seconds >= 2 * unit_s {
            return format!("{} {name}", seconds / unit_s);
        }
    }
    format!("{seconds} seconds")
}

/// A date and the time of day, in UTC.
pub(crate) fn instant(unix_s: i64) -> String {
    let Ok(at) = OffsetDateTime::from_unix_timestamp(unix_s) else { return format!("{unix_s} s after 1970") };
    let (date, hour, minute) = (at.date(), at.hour(), at.minute());
    format!("{date} {hour:02}:{minute:02} UTC")
}

/// A path as one word of a shell.
pub(crate) fn path(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_instants_are_told_as_people_say_them() {
        let told = [0, 119, 120, 7_199, 7_200, 172_799, 172_800, -604_800, i64::MIN].map(length);
        let days = format!("{} days", i64::MAX / DAY_S);
        assert_eq!(
            told,
            [
                "0 seconds",
                "119 seconds",
                "2 minutes",
                "119 minutes",
                "2 hours",
                "47 hours",
                "2 days",
                "7 days",
                &days
            ]
        );
        assert_eq!(instant(0), "1970-01-01 00:00 UTC");
        assert_eq!(path(Path::new("/a b")), "'/a b'");
    }
}
