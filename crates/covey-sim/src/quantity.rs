//! Quantities as people write them: durations with a unit, and rates from 0 to 1.

use std::str::FromStr;
use std::time::Duration;

/// Reads a duration with its unit: `250us`, `5ms`, `30s`, `2m`, `1h`, `1.5s`.
///
/// # Errors
/// [`WrongQuantity::Duration`] for anything else, a number without unit included.
pub fn parse_duration(text: &str) -> Result<Duration, WrongQuantity> {
    let text = text.trim();
    let digits = text.find(|character: char| !(character.is_ascii_digit() || character == '.'));
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let wrong = || WrongQuantity::Duration { given: text.to_owned() };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        "d" => number * 86_400.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// How often something happens: 0 never, 1 always.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate(f64);

impl Rate {
    /// Never.
    pub const NEVER: Self = Self(0.0);
    /// One time in ten.
    pub const A_TENTH: Self = Self(0.1);

    /// The share as a number from 0 to 1.
    #[must_use]
    pub fn share(self) -> f64 {
        self.0
    }

    /// Whether a number drawn from `[0, 1)` means that it happens.
    pub(crate) fn hits(self, drawn: f64) -> bool {
        drawn < self.0
    }
}

impl FromStr for Rate {
    type Err = WrongQuantity;

    fn from_str(text: &str) -> Result<Self, WrongQuantity> {
        let wrong = || WrongQuantity::Rate { given: text.to_owned() };
        let (number, whole) = match text.trim().strip_suffix('%') {
            Some(percent) => (percent, 100.0),
            None => (text.trim(), 1.0),
        };
        let share = number.parse::<f64>().map_err(|_| wrong())? / whole;
        if (0.0..=1.0).contains(&share) { Ok(Self(share)) } else { Err(wrong()) }
    }
}

/// A text that is not the quantity it should be: write it as the message says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongQuantity {
    /// A duration without or with an unknown unit.
    #[error("{given:?} is not a duration: write a number with us, ms, s, m, h or d, such as 5ms or 30s")]
    Duration {
        /// As it was written.
        given: String,
    },
    /// A rate outside 0 to 1.
    #[error("{given:?} is not a rate: write a number from 0 (never) to 1 (always), such as 0.05, or 5%")]
    Rate {
        /// As it was written.
        given: String,
    },
    /// A latency that is neither one duration nor a range of two.
    #[error("{given:?} is not a latency: write one duration or a range, such as 5ms or 5ms..50ms")]
    Latency {
        /// As it was written.
        given: String,
    },
    /// A pattern of being offline that is not two durations, the first above zero.
    #[error("{given:?} is not a pattern: write the time online and the time offline, such as 30s/10s")]
    Offline {
        /// As it was written.
        given: String,
    },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations_carry_their_unit() {
        for (text, expected) in [
            ("250us", Duration::from_micros(250)),
            ("5ms", Duration::from_millis(5)),
            (" 30s ", Duration::from_secs(30)),
            ("1.5s", Duration::from_millis(1500)),
            ("2m", Duration::from_secs(120)),
            ("1h", Duration::from_secs(3600)),
            ("90d", Duration::from_secs(90 * 86_400)),
            ("0s", Duration::ZERO),
        ] {
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
        for bad in ["", "5", "ms", "-5ms", "5 ms", "5w", "1e3s", "1.2.3s", "99999999999999999999h"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rates_are_shares() {
        assert_eq!("0.25".parse::<Rate>().unwrap().share(), 0.25);
        assert_eq!("25%".parse::<Rate>().unwrap().share(), 0.25);
        for bad in ["", "%", "-0.1", "1.1", "NaN", "101%", "5 %", "5%%"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad:?}");
        }
        assert!(!Rate::NEVER.hits(0.0));
        assert!("1".parse::<Rate>().unwrap().hits(0.999_999));
    }
}
