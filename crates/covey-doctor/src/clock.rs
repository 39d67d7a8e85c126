//! Clocks that do not show the same, and one that nobody keeps right.

use std::path::Path;

use covey_core::finding::{Audience, Code, Finding, Severity};

use crate::words;

/// From how many milliseconds on two clocks are told to differ.
pub const OFFSET_MS_MIN: i64 = 2_000;
/// From how many on it is an error: a certificate begins five minutes before it is made, so another one refuses it.
pub const OFFSET_MS_LATE: i64 = 300_000;

/// The folder of systemd's time service, and the file in it that is there once the clock is right.
const TIMESYNC: &str = "/run/systemd/timesync";
const SYNCHRONISED: &str = "synchronized";

/// Two clocks, of which the other one is so many milliseconds ahead of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset<'a> {
    /// Whose clock ours is.
    pub ours: &'a str,
    /// Whose the other one is.
    pub other: &'a str,
    /// How far it is ahead.
    pub ahead_ms: i64,
    /// How exactly that is known.
    pub error_ms: i64,
}

impl Offset<'_> {
    /// What is wrong with it.
    #[must_use]
    pub fn finding(self) -> Option<Finding> {
        let Self { ours, other, ahead_ms, error_ms } = self;
        let off_ms = ahead_ms.saturating_abs().saturating_sub(error_ms.saturating_abs());
        if off_ms < OFFSET_MS_MIN {
            return None;
        }
        let severity = if off_ms < OFFSET_MS_LATE { Severity::Warning } else { Severity::Error };
        let (side, off) = (if ahead_ms > 0 { "ahead of" } else { "behind" }, words::length(ahead_ms / 1_000));
        let seen = format!("the clock of {other} is {off} {side} that of {ours}");
        let remedy =
            format!("keep both right: timedatectl set-ntp true, on {ours} and on {other}; compare: date -u");
        let found = Finding::of(severity, Code::ClockOffset, format!("{ours} and {other}"), seen, remedy);
        Some(found.told_to(Audience::Everyone))
    }
}

/// Whether systemd's time service keeps the clock of this machine right; none where it does not run.
#[must_use]
pub fn is_synchronised() -> Option<bool> {
    synchronised_in(Path::new(TIMESYNC))
}

fn synchronised_in(folder: &Path) -> Option<bool> {
    folder.is_dir().then(|| folder.join(SYNCHRONISED).exists())
}

/// What is wrong with the state of the clock.
#[must_use]
pub fn finding_of_state(is_synchronised: Option<bool>) -> Option<Finding> {
    (is_synchronised == Some(false)).then(|| {
        let seen = "the system says that its clock is not synchronised";
        let remedy =
            "timedatectl set-ntp true; then look why: timedatectl timesync-status, or chronyc tracking";
        Finding::warning(Code::ClockNotSynchronised, "this machine", seen, remedy).told_to(Audience::Everyone)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn clocks_that_differ_by_more_than_can_be_a_mistake_are_told_of() {
        let found = |ahead_ms, error_ms| {
            let offset = Offset { ours: "this server", other: "the database", ahead_ms, error_ms };
            offset.finding().map(|found| found.severity)
        };
        assert_eq!((found(1_999, 0), found(-1_999, 0), found(9_000, 8_000)), (None, None, None));
        assert_eq!((found(2_000, 0), found(-299_999, 0)), (Some(Severity::Warning), Some(Severity::Warning)));
        assert_eq!((found(-300_000, 0), found(i64::MIN, i64::MIN)), (Some(Severity::Error), None));
        let offset = Offset { ours: "a", other: "b", ahead_ms: -600_000, error_ms: 1 };
        assert!(offset.finding().unwrap().seen.starts_with("the clock of b is 10 minutes behind that of a"));
    }

    #[test]
    fn nothing_is_said_of_a_clock_of_which_nothing_is_known() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(synchronised_in(&folder.path().join("none")), None);
        assert_eq!(synchronised_in(folder.path()), Some(false));
        std::fs::write(folder.path().join(SYNCHRONISED), "").unwrap();
        assert_eq!(synchronised_in(folder.path()), Some(true));
        assert_eq!(finding_of_state(None).or(finding_of_state(Some(true))), None);
        assert_eq!(finding_of_state(Some(false)).unwrap().code, Code::ClockNotSynchronised);
    }
}
