//! Whole numbers in requests, however JSON, a query or a path writes them.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};

/// A whole number. `2.0` is one (JSON Schema 2020-12 §6.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole(pub i64);

impl Serialize for Whole {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0)
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WholeVisitor;

        impl Visitor<'_> for WholeVisitor {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Whole, E> {
                Ok(Whole(number))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Whole, E> {
                i64::try_from(number)
                    .map(Whole)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
            }

            #[allow(clippy::cast_possible_truncation)] // whole and below 2^53: nothing is cut off
            fn visit_f64<E: Error>(self, number: f64) -> Result<Whole, E> {
                if is_whole(number) {
                    Ok(Whole(number as i64))
                } else {
                    Err(E::invalid_value(Unexpected::Float(number), &self))
                }
            }
        }

        deserializer.deserialize_any(WholeVisitor)
    }
}

impl FromStr for Whole {
    type Err = &'static str;

    /// `2.0` is a whole number in a query or a path too.
    #[allow(clippy::cast_possible_truncation)] // whole and below 2^53: nothing is cut off
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let by_decimal = || text.parse().ok().filter(|number| is_whole(*number)).map(|number| number as i64);
        text.parse().ok().or_else(by_decimal).map(Self).ok_or("must be a whole number")
    }
}

fn is_whole(number: f64) -> bool {
    number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0
}

/// Reads a field that may be left out but may not be null.
pub(crate) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// Tells a field that is null from one that is not there.
pub(crate) fn change<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// A whole number that JSON carries as text, such as `"44"`.
pub(crate) mod text {
    use std::borrow::Cow;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref)] // the shape that serde asks for
    pub(crate) fn serialize<S: Serializer>(number: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom("must be a whole number in quotes"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn whole_numbers_are_read_however_json_writes_them() {
        for (text, number) in [("7", 7), ("-7", -7), ("7.0", 7), ("7e2", 700)] {
            assert_eq!(serde_json::from_str::<Whole>(text).unwrap(), Whole(number), "{text}");
        }
        for (text, number) in [("7", 7), ("-7", -7), ("7.0", 7)] {
            assert_eq!(text.parse(), Ok(Whole(number)), "{text}");
        }
        for text in ["", "7.5", "inf", "NaN", "1e300", "seven"] {
            assert!(text.parse::<Whole>().is_err(), "{text}");
        }
        for text in ["7.5", "\"7\"", "true", "null", "[7]", "1e300", "18446744073709551615"] {
            assert!(serde_json::from_str::<Whole>(text).is_err(), "{text}");
        }
    }
}
