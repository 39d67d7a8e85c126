//! The server's address, as it is written.

use crate::error::Error;
use crate::session::Address;

/// The port of MQTT over TLS.
const MQTTS_PORT: u16 = 8883;

/// `mqtts://host[:port][/]`; an IPv6 address in brackets.
pub(super) fn parse_address(url: &str) -> Result<Address, Error> {
    let wrong = || Error::ServerAddress { given: url.to_owned() };
    let rest = url.strip_prefix("mqtts://").ok_or_else(wrong)?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[') {
        Some(v6) => {
            let (host, after) = v6.split_once(']').ok_or_else(wrong)?;
            (host, after.strip_prefix(':').or((after.is_empty()).then_some("")))
        }
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, Some("")),
        },
    };
    let port = match port.ok_or_else(wrong)? {
        "" => MQTTS_PORT,
        digits => digits.parse().map_err(|_| wrong())?,
    };
    if host.is_empty() || host.contains(['/', '@', '?', '#', ' ']) || port == 0 {
        return Err(wrong());
    }
    Ok(Address { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn server_addresses_are_read_or_refused() {
        for (url, host, port) in [
            ("mqtts://localhost:8884", "localhost", 8884),
            ("mqtts://covey.example", "covey.example", 8883),
            ("mqtts://10.0.0.1:1/", "10.0.0.1", 1),
            ("mqtts://[::1]:8885", "::1", 8885),
            ("mqtts://[::1]", "::1", 8883),
        ] {
            let address = parse_address(url).unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port), "{url}");
        }
        for url in [
            "",
            "localhost:8883",
            "mqtt://localhost",
            "mqtts://",
            "mqtts://:8883",
            "mqtts://host:port",
            "mqtts://host:0",
            "mqtts://host:70000",
            "mqtts://[::1",
            "mqtts://[::1]x",
            "mqtts://host/path",
        ] {
            assert!(matches!(parse_address(url), Err(Error::ServerAddress { .. })), "{url}");
        }
    }
}
