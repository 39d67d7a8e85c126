//! Patterns of serial numbers.

use crate::error::{Error, Result};
use crate::id::{SN_BYTES_MAX, Sn};

/// Which serial numbers are meant: `*` stands for any number of characters, `?` for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnPattern(String);

impl SnPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `pattern`.
    pub fn parse(text: &str) -> Result<Self> {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"_-*?".contains(&byte);
        if !(1..=SN_BYTES_MAX).contains(&text.len()) || !text.bytes().all(is_good) {
            return Err(Error::invalid(
                "pattern",
                "must be 1 to 64 of A-Z a-z 0-9 _ - and the signs * and ?",
            ));
        }
        // Whoever holds the claim could take every name there is.
        if !text.bytes().any(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Error::invalid("pattern", "must have a letter or a digit"));
        }
        Ok(Self(text.to_owned()))
    }

    /// As it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this serial number is meant.
    #[must_use]
    pub fn matches(&self, sn: &Sn) -> bool {
        let (pattern, text) = (self.0.as_bytes(), sn.as_str().as_bytes());
        let (mut at, mut place) = (0, 0);
        // The last star, and the place up to which it reaches: one more is tried where the rest does not match.
        let mut star = None;
        while place < text.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    star = Some((at, place));
                    at += 1;
                }
                Some(byte) if *byte == b'?' || *byte == text[place] => {
                    at += 1;
                    place += 1;
                }
                _ => {
                    let Some((star_at, reached)) = star else { return false };
                    star = Some((star_at, reached + 1));
                    at = star_at + 1;
                    place = reached + 1;
                }
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// The same, slowly and plainly.
    fn is_meant(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                is_meant(rest, text) || text.split_first().is_some_and(|(_, text)| is_meant(pattern, text))
            }
            (Some((byte, rest)), Some((first, text))) => {
                (*byte == b'?' || byte == first) && is_meant(rest, text)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_pattern_means_what_its_signs_say(pattern in "a[ab*?]{0,7}", sn in "[ab]{1,8}") {
            let expected = is_meant(pattern.as_bytes(), sn.as_bytes());
            let read = SnPattern::parse(&pattern).unwrap();
            prop_assert_eq!(read.matches(&Sn::parse(&sn).unwrap()), expected);
        }
    }

    #[test]
    fn what_is_no_pattern_or_means_everything_is_refused() {
        for bad in ["", "*", "??", "-*", "a.b", "a/b", "a b", &"a".repeat(65)] {
            assert!(SnPattern::parse(bad).is_err(), "{bad}");
        }
        assert!(SnPattern::parse("LAMP-*").unwrap().matches(&Sn::parse("LAMP-0001").unwrap()));
    }
}
