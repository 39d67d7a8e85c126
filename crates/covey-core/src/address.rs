//! Ranges of IP addresses.

use std::net::IpAddr;

pub use ipnet::IpNet;

/// Reads `10.0.0.0/8`, `fd00::/8`, or a single address.
#[must_use]
pub fn parse_range(text: &str) -> Option<IpNet> {
    match text.parse::<IpNet>() {
        Ok(range) => Some(range.trunc()),
        Err(_) => text.parse::<IpAddr>().ok().map(IpNet::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_with_its_length_or_as_one_address_and_nothing_else_is() {
        for (text, read) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("fd00::1/8", "fd00::/8"),
            ("::1", "::1/128"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(parse_range(text).map(|range| range.to_string()).as_deref(), Some(read), "{text}");
        }
        for wrong in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "example.com",
            "10.0.0.0/8/8",
        ] {
            assert_eq!(parse_range(wrong), None, "{wrong:?}");
        }
    }
}
