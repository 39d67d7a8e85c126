//! Where clients are: address and port, small enough to be kept twice for each.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// An address with its port. Of an IPv6 address that holds one of IPv4 it is the latter; the flow label is no part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Peer {
    ip: [u8; 16],
    scope: u32,
    port: u16,
}

/// Those who share a bound: an IPv4 address, or an IPv6 network of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Network([u8; 16]);

impl Peer {
    pub fn of(address: SocketAddr) -> Self {
        let (ip, scope) = match address {
            SocketAddr::V4(address) => (address.ip().to_ipv6_mapped(), 0),
            SocketAddr::V6(address) => (*address.ip(), address.scope_id()),
        };
        Self { ip: ip.octets(), scope, port: address.port() }
    }

    pub fn address(self) -> SocketAddr {
        let ip = Ipv6Addr::from(self.ip);
        match ip.to_ipv4_mapped() {
            Some(ip) => SocketAddr::from((ip, self.port)),
            None => SocketAddr::V6(SocketAddrV6::new(ip, self.port, 0, self.scope)),
        }
    }

    /// The network; none of loopback, which is not bounded.
    pub fn network(self) -> Option<Network> {
        match self.address().ip() {
            ip if ip.is_loopback() => None,
            IpAddr::V4(_) => Some(Network(self.ip)),
            IpAddr::V6(_) => {
                let mut network = self.ip;
                network[8..].fill(0);
                Some(Network(network))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_ipv4_address_is_the_same_over_both_kinds_of_sockets() {
        let mapped = Peer::of("[::ffff:192.0.2.7]:1885".parse().unwrap());
        assert_eq!(mapped, Peer::of("192.0.2.7:1885".parse().unwrap()));
        assert_eq!(mapped.address().to_string(), "192.0.2.7:1885");
    }

    #[test]
    fn the_flow_label_makes_no_other_peer_and_the_zone_does() {
        let ip = "fe80::1".parse().unwrap();
        let peer = |flow, scope| Peer::of(SocketAddrV6::new(ip, 7, flow, scope).into());
        assert_eq!(peer(9, 2), peer(0, 2));
        assert_ne!(peer(0, 2), peer(0, 3));
        assert_eq!(peer(0, 2).address(), SocketAddrV6::new(ip, 7, 0, 2).into());
    }

    #[test]
    fn the_lower_half_of_an_ipv6_address_makes_no_other_network() {
        let network = |text: &str| Peer::of(text.parse().unwrap()).network();
        assert_eq!(network("[2001:db8::1]:1"), network("[2001:db8::ffff:2]:2"));
        assert_ne!(network("[2001:db8::1]:1"), network("[2001:db8:0:1::1]:1"));
        assert_ne!(network("192.0.2.1:1"), network("192.0.2.2:1"));
        assert_eq!((network("[::1]:1"), network("127.0.0.9:1")), (None, None));
    }
}
