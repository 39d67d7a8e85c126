//! Who a peer is: an IP address, without its port, since nodes send from a new port each time; of one with a session
//! (DTLS) the port as well.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The address of a peer. An IPv4 address is kept as the IPv6 address that stands for it, `::ffff:192.0.2.7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// The IP address.
    pub ip: Ipv6Addr,
    /// Of a link-local address, the index of the interface it is reached through, so that the same address on
    /// two links is two peers; otherwise 0.
    pub scope_id: u32,
    /// Of a peer with a session, the port at the other end of it; of others 0.
    pub session_port: u16,
}

impl Address {
    /// That of one end of a datagram.
    #[must_use]
    pub fn of(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::in_zone(address.ip().to_ipv6_mapped(), 0),
            SocketAddr::V6(address) => Self::in_zone(*address.ip(), address.scope_id()),
        }
    }

    /// That of the other end of a session.
    #[must_use]
    pub fn of_session(address: SocketAddr) -> Self {
        Self { session_port: address.port(), ..Self::of(address) }
    }

    /// Whether it is that of a session.
    #[must_use]
    pub const fn has_session(self) -> bool {
        self.session_port != 0
    }

    /// One that may be link-local, with the index of its interface.
    #[must_use]
    pub fn in_zone(ip: Ipv6Addr, scope_id: u32) -> Self {
        Self { ip, scope_id: if ip.is_unicast_link_local() { scope_id } else { 0 }, session_port: 0 }
    }

    /// The end of a datagram at this address; with a session it is that of the session, whatever the port.
    #[must_use]
    pub const fn at(self, port: u16) -> SocketAddr {
        let port = if self.has_session() { self.session_port } else { port };
        SocketAddr::V6(SocketAddrV6::new(self.ip, port, 0, self.scope_id))
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        Self::of(SocketAddr::new(ip, 0))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope_id {
            0 => fmt::Display::fmt(&self.ip, formatter),
            scope_id => write!(formatter, "{}%{scope_id}", self.ip),
        }
    }
}
