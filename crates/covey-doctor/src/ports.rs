//! Ports: taken by another program, or not answering.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use covey_core::finding::{Code, Finding};

/// How long an answer is waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How many addresses of one name are tried.
/// Limit for each name: further ones are not tried.
const ADDRESSES_MAX: usize = 8;

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// An address at which a server is to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The option that says so, such as `--https`.
    pub option: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// What it speaks.
    pub transport: Transport,
}

impl Listener {
    /// What keeps a server that is stopped from listening there: it is tried, for a moment.
    #[must_use]
    pub fn finding(self) -> Option<Finding> {
        let Self { option, address, transport } = self;
        if address.port() == 0 {
            return None;
        }
        let tried = match transport {
            Transport::Tcp => TcpListener::bind(address).map(drop),
            Transport::Udp => UdpSocket::bind(address).map(drop),
        };
        let error = tried.err()?;
        let about = format!("{option} {address}");
        let port = address.port();
        let kind = if transport == Transport::Tcp { "t" } else { "u" };
        let other = format!("or give another address with {option}");
        Some(match error.kind() {
            io::ErrorKind::AddrInUse => Finding::error(
                Code::PortTaken,
                about,
                format!("another program has port {port}"),
                format!("see which: ss -Hln{kind}p sport = :{port}; stop it, {other}"),
            ),
            io::ErrorKind::AddrNotAvailable => Finding::error(
                Code::PortUnusable,
                about,
                "this machine does not have the address",
                format!("see which it has: ip address; {other}"),
            ),
            io::ErrorKind::PermissionDenied => Finding::error(
                Code::PortUnusable,
                about,
                format!("this user may not listen on port {port}"),
                format!("use a port above 1023, {other}"),
            ),
            _ => Finding::error(
                Code::PortUnusable,
                about,
                error,
                format!("see the log of the system (dmesg), {other}"),
            ),
        })
    }
}

/// What keeps whoever wants to from reaching `host:port`; waits for up to three seconds for each of its addresses.
///
/// # Errors
/// What the last of its addresses said.
pub fn reach(host_and_port: &str) -> Result<(), String> {
    let addresses =
        host_and_port.to_socket_addrs().map_err(|error| format!("no address of {host_and_port}: {error}"))?;
    let mut said = format!("{host_and_port} has no address");
    for address in addresses.take(ADDRESSES_MAX) {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(error) => said = format!("{address}: {error}"),
        }
    }
    Err(said)
}

/// What is wrong with a listener of a server that runs: `name` is what it is for.
#[must_use]
pub fn unreachable(name: &str, host_and_port: &str) -> Option<Finding> {
    let problem = reach(host_and_port).err()?;
    let remedy = "see that the server listens there (ss -Hlntp), and that no firewall is between; its log says which \
                  connections it closed";
    Some(Finding::error(Code::PortUnreachable, format!("{name} {host_and_port}"), problem, remedy))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_port_that_another_has_is_told_of_and_one_that_is_free_is_left_free() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let listener = Listener { option: "--https", address, transport: Transport::Tcp };
        let found = listener.finding().unwrap();
        assert_eq!((found.code, found.about), (Code::PortTaken, format!("--https {address}")));
        assert!(found.remedy.contains("--https") && found.remedy.contains(&address.port().to_string()));
        assert_eq!(reach(&address.to_string()), Ok(()));
        drop(taken);
        assert_eq!((listener.finding(), listener.finding()), (None, None));
        assert!(reach(&address.to_string()).unwrap_err().contains(&address.to_string()));
        assert_eq!(unreachable("https", &address.to_string()).unwrap().code, Code::PortUnreachable);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        let listener = Listener { option: "--coap", address, transport: Transport::Udp };
        assert_eq!(listener.finding().unwrap().code, Code::PortTaken);
    }

    #[test]
    fn an_address_that_is_not_this_machines_is_told_of() {
        // TEST-NET-1 (RFC 5737) is nobody's.
        let address = "192.0.2.1:8443".parse().unwrap();
        let listener = Listener { option: "--https", address, transport: Transport::Tcp };
        assert_eq!(listener.finding().unwrap().code, Code::PortUnusable);
    }
}
