//! The UDP side: one socket for all nodes, IPv6 and IPv4.
//!
//! Datagrams are read in batches. Answers leave from the address that was asked, which a host with several
//! addresses would not do by itself, and which a client insists on (RFC 7252 §5.3.2).

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// The port of CoAP (RFC 7252 §6.1).
pub const PORT: u16 = 5683;
/// How many buffers one read fills at most.
const BATCH: usize = 8;
/// The system may put many datagrams of one sender into a buffer, up to so many bytes.
const BUFFER_BYTES: usize = 64 * 1024;
/// What the system may keep until it is read: the messages of some seconds from a thousand nodes. It gives less if
/// it is set up so.
const SYSTEM_BUFFER_BYTES: usize = 1024 * 1024;
/// How long a datagram waits for the system to take it, in milliseconds.
/// Limit for each datagram: it is dropped, and sent again as one that was lost.
const SEND_MS_MAX: u64 = 100;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The address is taken or may not be used.
    #[error("CoAP cannot listen on {address}")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The interface is not there.
    #[error("there is no network interface {0:?}")]
    NoInterface(String),
    /// The interfaces cannot be listed.
    #[error("the network interfaces cannot be listed")]
    Interfaces(#[source] io::Error),
}

/// The socket of all nodes.
#[derive(Debug)]
pub struct CoapSocket {
    io: UdpSocket,
    state: UdpSocketState,
    buffer: Vec<u8>,
    meta: [RecvMeta; BATCH],
    is_ipv6: bool,
    /// The interface of link-local addresses that come without one, or 0.
    zone: u32,
}

impl CoapSocket {
    /// Binds an address, port 0 for any that is free. `[::]` also takes IPv4, and stands for `0.0.0.0` on a host
    /// without IPv6. Link-local nodes are reached over `interface`, a name such as `eth0` or an index.
    ///
    /// # Errors
    /// An address that is taken or may not be used, an interface that is not there.
    pub fn bind(address: SocketAddr, interface: Option<&str>) -> Result<Self, SocketError> {
        let zone = interface.map_or(Ok(0), interface_index)?;
        let address = in_zone(address, zone);
        let bound = open(address).or_else(|error| {
            if address.is_ipv6() && address.ip().is_unspecified() && !is_taken(&error) {
                open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
            } else {
                Err(error)
            }
        });
        let from_socket = |socket: Socket| {
            // Where the system gives less, more is lost in a burst, and sent again.
            _ = socket.set_recv_buffer_size(SYSTEM_BUFFER_BYTES);
            let io = UdpSocket::from_std(socket.into())?;
            let state = UdpSocketState::new((&io).into())?;
            let is_ipv6 = io.local_addr()?.is_ipv6();
            let buffer = vec![0; BATCH * BUFFER_BYTES];
            Ok(Self { io, state, buffer, meta: [RecvMeta::default(); BATCH], is_ipv6, zone })
        };
        bound.and_then(from_socket).map_err(|source| SocketError::Bind { address, source })
    }

    /// What it is bound to.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// Waits until there is something to read.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.io.readable().await
    }

    /// Reads a batch, if there is one, and hands out each datagram: from whom, to which address, its bytes. False
    /// if there was nothing.
    pub(super) fn receive(
        &mut self,
        mut each: impl FnMut(SocketAddr, Option<IpAddr>, &[u8]),
    ) -> io::Result<bool> {
        let Self { io, state, buffer, meta, .. } = self;
        let mut slices: Vec<IoSliceMut<'_>> = buffer.chunks_mut(BUFFER_BYTES).map(IoSliceMut::new).collect();
        let read = io.try_io(Interest::READABLE, || state.recv((&*io).into(), &mut slices, meta));
        let count = match read {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        for (meta, bytes) in meta.iter().zip(buffer.chunks(BUFFER_BYTES)).take(count) {
            let bytes = bytes.get(..meta.len).unwrap_or(bytes);
            if bytes.is_empty() {
                each(meta.addr, meta.dst_ip, bytes);
            }
            for datagram in bytes.chunks(meta.stride.max(1)) {
                each(meta.addr, meta.dst_ip, datagram);
            }
        }
        Ok(count > 0)
    }

    /// Sends a datagram.
    pub(super) async fn send(&self, to: SocketAddr, from: Option<IpAddr>, bytes: &[u8]) -> io::Result<()> {
        let Some(destination) = self.reachable(to) else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the socket has no IPv6"));
        };
        let source = from.map(|from| if self.is_ipv6 { from } else { from.to_canonical() });
        match self.send_from(destination, source, bytes).await {
            // The address may have left this host since.
            Err(error) if source.is_some() && error.kind() != io::ErrorKind::TimedOut => {
                self.send_from(destination, None, bytes).await
            }
            sent => sent,
        }
    }

    async fn send_from(
        &self,
        destination: SocketAddr,
        src_ip: Option<IpAddr>,
        contents: &[u8],
    ) -> io::Result<()> {
        let transmit = Transmit { destination, ecn: None, contents, segment_size: None, src_ip };
        let sent = self.io.async_io(Interest::WRITABLE, || self.state.try_send((&self.io).into(), &transmit));
        timeout(Duration::from_millis(SEND_MS_MAX), sent).await?
    }

    fn reachable(&self, to: SocketAddr) -> Option<SocketAddr> {
        if self.is_ipv6 {
            return Some(in_zone(to, self.zone));
        }
        match to.ip().to_canonical() {
            IpAddr::V4(ip) => Some(SocketAddr::new(ip.into(), to.port())),
            IpAddr::V6(_) => None,
        }
    }
}

/// A link-local address without a zone gets this one.
fn in_zone(address: SocketAddr, zone: u32) -> SocketAddr {
    match address {
        SocketAddr::V6(address) if address.ip().is_unicast_link_local() && address.scope_id() == 0 => {
            SocketAddrV6::new(*address.ip(), address.port(), 0, zone).into()
        }
        _ => address,
    }
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Whether it is the port that is the matter, not the host.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

fn interface_index(name: &str) -> Result<u32, SocketError> {
    if let Ok(index) = name.parse() {
        return Ok(index);
    }
    let interfaces = if_addrs::get_if_addrs().map_err(SocketError::Interfaces)?;
    let mut named = interfaces.into_iter().filter(|interface| interface.name == name);
    named.find_map(|interface| interface.index).ok_or_else(|| SocketError::NoInterface(name.to_owned()))
}
