//! Where messages may go: to public addresses, and to those that the operator
//! allows. Who sets a webhook must not reach through the server what only the
//! server can reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::address::parse_range;
use crate::error::{Error, Result};

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits))
}

const fn v6(first: u128, bits: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(first), bits))
}

const LOOPBACK: [IpNet; 2] = [v4(127, 0, 0, 0, 8), v6(1, 128)];
const PRIVATE: [IpNet; 5] = [
    v4(10, 0, 0, 0, 8),
    v4(172, 16, 0, 0, 12),
    v4(192, 168, 0, 0, 16),
    v4(100, 64, 0, 0, 10),
    v6(0xfc00 << 112, 7),
];
/// Where clouds tell a machine its credentials. They are not allowed by
/// `private` either, although some lie there.
const METADATA: [IpNet; 6] = [
    v4(169, 254, 169, 254, 32),
    v4(169, 254, 170, 2, 32),
    v4(100, 100, 100, 200, 32),
    v4(168, 63, 129, 16, 32),
    v4(192, 0, 0, 192, 32),
    v6(0xfd00_0ec2_0000_0000_0000_0000_0000_0254, 128),
];
/// IPv4 addresses that are not public (the IANA registry of special-purpose
/// addresses, RFC 6890, and multicast).
const SPECIAL_V4: [IpNet; 16] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(168, 63, 129, 16, 32),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
];
/// What is public of IPv6.
const GLOBAL_V6: IpNet = v6(0x2000 << 112, 3);
/// What is not public of that: protocol assignments with Teredo, documentation,
/// 6to4.
const SPECIAL_V6: [IpNet; 4] =
    [v6(0x2001 << 112, 23), v6(0x2001_0db8 << 96, 32), v6(0x2002 << 112, 16), v6(0x3fff << 112, 20)];
/// An IPv4 address in an IPv6 one, which a gateway translates (RFC 6052).
const TRANSLATED: IpNet = v6(0x0064_ff9b << 96, 96);

/// Where messages may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRule {
    allowed: Vec<IpNet>,
    allows_all: bool,
    allows_plain_http: bool,
}

impl AddressRule {
    /// Reads what an operator allows beside public addresses: ranges such as
    /// `10.1.0.0/16`, and the words `loopback`, `private`, `all`, and `http`
    /// for plain HTTP to public addresses.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `webhook_allow`.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut rule = Self::default();
        for word in words.into_iter().map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "loopback" => rule.allowed.extend(LOOPBACK),
                "private" => rule.allowed.extend(PRIVATE),
                "all" => rule.allows_all = true,
                "http" => rule.allows_plain_http = true,
                range => rule.allowed.push(parse_range(range).ok_or(Error::invalid(
                    "webhook_allow",
                    "must be ranges such as 10.1.0.0/16, or the words loopback, private, http, all",
                ))?),
            }
        }
        Ok(rule)
    }

    /// Whether messages may go to an address, over TLS or in plain HTTP. Plain
    /// HTTP may only go where the operator allows it.
    #[must_use]
    pub fn admits(&self, address: IpAddr, is_tls: bool) -> bool {
        let address = address.to_canonical();
        if self.allows_all || self.is_allowed(address) {
            return true;
        }
        (is_tls || self.allows_plain_http) && is_public(address)
    }

    /// Whether plain HTTP may go anywhere at all.
    #[must_use]
    pub fn admits_plain_http(&self) -> bool {
        self.allows_all || self.allows_plain_http || !self.allowed.is_empty()
    }

    fn is_allowed(&self, address: IpAddr) -> bool {
        let covering = |range: &&IpNet| range.contains(&address);
        let Some(narrowest) = self.allowed.iter().filter(covering).max_by_key(|range| range.prefix_len())
        else {
            return false;
        };
        // A range that is wider than such an address was not meant for it.
        !METADATA
            .iter()
            .any(|metadata| metadata.contains(&address) && narrowest.prefix_len() < metadata.prefix_len())
    }
}

/// Whether an address is one of the public Internet.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => !SPECIAL_V4.iter().any(|range| range.contains(&address)),
        IpAddr::V6(v6) if TRANSLATED.contains(&address) => is_public(IpAddr::V4(last_four_bytes(v6))),
        IpAddr::V6(_) => {
            GLOBAL_V6.contains(&address) && !SPECIAL_V6.iter().any(|range| range.contains(&address))
        }
    }
}

fn last_four_bytes(address: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn admits(rule: &AddressRule, address: &str) -> bool {
        rule.admits(address.parse().unwrap(), true)
    }

    #[test]
    fn without_permission_only_public_addresses_are_reached() {
        let rule = AddressRule::default();
        for address in ["1.1.1.1", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "64:ff9b::101:101"] {
            assert!(admits(&rule, address), "{address}");
            assert!(!rule.admits(address.parse().unwrap(), false), "{address} over plain HTTP");
        }
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "169.254.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "100::1",
            "3fff::1",
            "4000::1",
        ] {
            assert!(!admits(&rule, address), "{address}");
        }
    }

    #[test]
    fn an_operator_allows_ranges_and_never_metadata_by_the_way() {
        let rule = |words: &[&str]| AddressRule::parse(words.iter().copied()).unwrap();
        let loopback = rule(&["loopback"]);
        assert!(admits(&loopback, "127.0.0.1") && admits(&loopback, "::1"));
        assert!(admits(&loopback, "::ffff:127.0.0.1") && !admits(&loopback, "10.0.0.1"));
        assert!(loopback.admits("127.0.0.1".parse().unwrap(), false), "plain HTTP goes where it is allowed");
        let private = rule(&["private"]);
        assert!(admits(&private, "10.0.0.1") && admits(&private, "fd12::1"));
        for metadata in ["100.100.100.200", "fd00:ec2::254", "169.254.169.254"] {
            assert!(!admits(&private, metadata), "{metadata}");
            assert!(admits(&rule(&[metadata]), metadata), "{metadata} by name");
            assert!(admits(&rule(&["all"]), metadata), "{metadata} with all");
        }
        let some = rule(&["10.1.0.0/16", "2001:db8::/32", "0.0.0.0/0"]);
        assert!(admits(&some, "10.1.2.3") && admits(&some, "2001:db8::7") && admits(&some, "192.168.0.1"));
        assert!(!admits(&some, "::1") && !admits(&some, "169.254.169.254"));
        assert!(rule(&["http"]).admits("1.1.1.1".parse().unwrap(), false));
        assert!(!rule(&["http"]).admits("10.0.0.1".parse().unwrap(), false));
        for wrong in ["localhost", "10.0.0.0/33", "10.0.0", "::1/129", "10.0.0.0/-1", "/8"] {
            assert!(AddressRule::parse([wrong]).is_err(), "{wrong}");
        }
    }
}
