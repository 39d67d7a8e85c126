//! How long a simulated device works on a call.

use std::str::FromStr;
use std::time::Duration;

use crate::quantity::{WrongQuantity, parse_duration};

/// A duration, or a range in which every duration is equally likely. The
/// default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    min: Duration,
    max: Duration,
}

impl Latency {
    /// The latency for a number drawn from `[0, 1)`.
    pub(crate) fn at(self, drawn: f64) -> Duration {
        if self.min == self.max { self.min } else { self.min + (self.max - self.min).mul_f64(drawn) }
    }
}

/// `5ms`, or `5ms..50ms`.
impl FromStr for Latency {
    type Err = WrongQuantity;

    fn from_str(text: &str) -> Result<Self, WrongQuantity> {
        let wrong = || WrongQuantity::Latency { given: text.to_owned() };
        let (min, max) = match text.split_once("..") {
            None => (text, text),
            Some(range) => range,
        };
        let min = parse_duration(min).map_err(|_| wrong())?;
        let max = parse_duration(max).map_err(|_| wrong())?;
        if min > max { Err(wrong()) } else { Ok(Self { min, max }) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_duration_or_a_range() {
        let constant: Latency = "5ms".parse().unwrap();
        assert_eq!(constant.at(0.9), Duration::from_millis(5));
        let range: Latency = "10ms..20ms".parse().unwrap();
        assert_eq!(range.at(0.0), Duration::from_millis(10));
        assert_eq!(range.at(0.5), Duration::from_millis(15));
        for bad in ["", "5", "20ms..10ms", "5ms..", "..5ms", "1ms..2ms..3ms", "5ms-6ms"] {
            assert!(bad.parse::<Latency>().is_err(), "{bad:?}");
        }
    }
}
