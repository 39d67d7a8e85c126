//! When a simulated device is not connected: so long online, so long offline,
//! over and over, each device at its own place in the pattern.

use std::str::FromStr;
use std::time::Duration;

use crate::quantity::{WrongQuantity, parse_duration};

/// Time online, then time offline, repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfflinePattern {
    online: Duration,
    offline: Duration,
}

/// What a device does for how long before it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stretch {
    Online(Duration),
    Offline(Duration),
}

impl OfflinePattern {
    /// The stretches of a device that begins at this share of the pattern (0 to 1).
    pub(crate) fn stretches(self, phase: f64) -> impl Iterator<Item = Stretch> {
        let into = (self.online + self.offline).mul_f64(phase);
        let first = match self.online.checked_sub(into) {
            Some(left) => [Some(Stretch::Online(left)), Some(Stretch::Offline(self.offline))],
            None => [Some(Stretch::Offline(self.online + self.offline - into)), None],
        };
        let pattern = [Stretch::Online(self.online), Stretch::Offline(self.offline)];
        first.into_iter().flatten().chain(pattern.into_iter().cycle())
    }
}

/// `30s/10s`: 30 seconds online, then 10 offline.
impl FromStr for OfflinePattern {
    type Err = WrongQuantity;

    fn from_str(text: &str) -> Result<Self, WrongQuantity> {
        let wrong = || WrongQuantity::Offline { given: text.to_owned() };
        let (online, offline) = text.split_once('/').ok_or_else(wrong)?;
        let online = parse_duration(online).map_err(|_| wrong())?;
        let offline = parse_duration(offline).map_err(|_| wrong())?;
        // Without any time between, connecting and disconnecting would be all it does.
        if online.is_zero() || offline.is_zero() { Err(wrong()) } else { Ok(Self { online, offline }) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_device_begins_at_its_phase_and_then_follows_the_pattern() {
        let pattern: OfflinePattern = "30s/10s".parse().unwrap();
        let seconds = |count| Duration::from_secs(count);
        let start = |phase| pattern.stretches(phase).take(3).collect::<Vec<_>>();
        assert_eq!(
            start(0.5),
            [Stretch::Online(seconds(10)), Stretch::Offline(seconds(10)), Stretch::Online(seconds(30))]
        );
        assert_eq!(
            start(0.875),
            [Stretch::Offline(seconds(5)), Stretch::Online(seconds(30)), Stretch::Offline(seconds(10))]
        );
    }

    #[test]
    fn both_times_are_needed() {
        for bad in ["", "30s", "30s/", "/10s", "0s/10s", "30s/0s", "30/10"] {
            assert!(bad.parse::<OfflinePattern>().is_err(), "{bad:?}");
        }
    }
}
