//! How the link to an MQTT broker is run.

use std::net::IpAddr;

use covey_wire::downlink::ResponseForm;

use crate::mqtt::MqttError;
use crate::tls::TlsFiles;

/// Which broker, as whom, and within which bounds.
#[derive(Clone, Debug)]
pub struct Options {
    /// The broker's host name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// TLS to it; without, only a broker on this machine is talked to.
    pub tls: Option<TlsFiles>,
    /// The name of this server among those of its deployment, stable over restarts.
    pub server: String,
    /// The group of the shared subscriptions (MQTT 5 §4.8.2): the same on all servers of a deployment.
    pub group: String,
    /// For how long the broker keeps what came for this server while it is away, in seconds.
    pub session_expiry_s: u32,
    /// How many messages of devices may be under way at a time (MQTT 5 Receive Maximum).
    pub receive_max: u16,
    /// Largest packet that is taken, in bytes.
    pub packet_bytes_max: u32,
    /// For how long a device counts as connected after its last message, where
    /// the broker does not tell, in seconds.
    pub contact_s: u32,
    /// What the body of an `rsp` with a task is.
    pub response_form: ResponseForm,
}

/// Ports by scheme (IANA).
const PORT_TLS: u16 = 8883;
const PORT_PLAIN: u16 = 1883;
/// See [`Options::group`].
const GROUP: &str = "covey";
/// See [`Options::session_expiry_s`]: a day, so that a server that was stopped over night finds
/// what devices have sent.
const SESSION_EXPIRY_S: u32 = 24 * 3600;
/// See [`Options::receive_max`].
const RECEIVE_MAX: u16 = 256;
/// See [`Options::packet_bytes_max`].
const PACKET_BYTES_MAX: u32 = 1024 * 1024;
/// See [`Options::contact_s`].
const CONTACT_S: u32 = 300;
/// Longest name of a server in a client id, in bytes.
const SERVER_BYTES_MAX: usize = 128;

impl Options {
    /// The defaults, for the broker at `url`, of the server with this name.
    ///
    /// # Errors
    /// [`MqttError`] for an address or a name that cannot be used.
    pub fn new(url: &str, tls: Option<TlsFiles>, server: &str) -> Result<Self, MqttError> {
        let (scheme, rest) = url.split_once("://").ok_or(address("it has no scheme"))?;
        let is_tls = match scheme {
            "mqtts" => true,
            "mqtt" => false,
            _ => return Err(address("its scheme is neither mqtts nor mqtt")),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('@') {
            return Err(address("a server shows a certificate, no user and password"));
        }
        if authority.contains(['/', '?', '#']) {
            return Err(address("nothing may follow the port"));
        }
        let (host, port) = host_and_port(authority)?;
        let port = port.unwrap_or(if is_tls { PORT_TLS } else { PORT_PLAIN });
        if is_tls && tls.is_none() {
            return Err(MqttError::CertificateMissing);
        }
        if !is_tls && !is_loopback(&host) {
            return Err(address("without TLS the broker must be on this machine"));
        }
        check_server(server)?;
        Ok(Self {
            host,
            port,
            tls: tls.filter(|_| is_tls),
            server: server.to_owned(),
            group: GROUP.to_owned(),
            session_expiry_s: SESSION_EXPIRY_S,
            receive_max: RECEIVE_MAX,
            packet_bytes_max: PACKET_BYTES_MAX,
            contact_s: CONTACT_S,
            response_form: ResponseForm::default(),
        })
    }

    /// The client id: it has a dot, which no serial number has.
    pub(super) fn client_id(&self) -> String {
        format!("covey.{}", self.server)
    }

    pub(super) fn check(&self) -> Result<(), MqttError> {
        check_server(&self.server)?;
        if self.group.is_empty() || self.group.contains(['/', '+', '#', '\0']) {
            return Err(MqttError::Limit { limit: "the length of the group's name, without / + #," });
        }
        if self.receive_max == 0 {
            return Err(MqttError::Limit { limit: "receive_max" });
        }
        Ok(())
    }
}

fn address(problem: &'static str) -> MqttError {
    MqttError::Address { problem }
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`.
fn host_and_port(authority: &str) -> Result<(String, Option<u16>), MqttError> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(address("a bracket is missing"))?;
            (host, after.strip_prefix(':').or(if after.is_empty() { None } else { Some("") }))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err(address("it names no host"));
    }
    let port = port.map(|text| text.parse::<u16>().ok().filter(|port| *port > 0));
    match port {
        Some(None) => Err(address("its port is no number from 1 to 65535")),
        Some(Some(port)) => Ok((host.to_owned(), Some(port))),
        None => Ok((host.to_owned(), None)),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn check_server(server: &str) -> Result<(), MqttError> {
    if server.is_empty() || server.len() > SERVER_BYTES_MAX {
        return Err(MqttError::Name { problem: "it must have 1 to 128 characters" });
    }
    if !server.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        return Err(MqttError::Name { problem: "it may have A-Z a-z 0-9 . _ -" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn files() -> TlsFiles {
        TlsFiles { ca: "ca.pem".into(), certificate: "client.pem".into(), key: "client.key".into() }
    }

    #[test]
    fn an_address_names_host_and_port() {
        let of =
            |url: &str| Options::new(url, Some(files()), "a").map(|options| (options.host, options.port));
        assert_eq!(of("mqtts://broker.example").unwrap(), ("broker.example".to_owned(), 8883));
        assert_eq!(of("mqtts://broker.example:28883/").unwrap(), ("broker.example".to_owned(), 28883));
        assert_eq!(of("mqtts://[::1]:1").unwrap(), ("::1".to_owned(), 1));
        assert_eq!(of("mqtt://127.0.0.1").unwrap(), ("127.0.0.1".to_owned(), 1883));
        for bad in [
            "broker",
            "http://broker",
            "mqtts://",
            "mqtts://:8883",
            "mqtts://b:0",
            "mqtts://b:x",
            "mqtts://b:99999",
            "mqtts://[::1",
            "mqtts://[::1]x",
            "mqtts://b/x",
            "mqtts://user:secret@b",
            "mqtt://broker.example",
        ] {
            let problem = of(bad).unwrap_err().to_string();
            assert!(!problem.contains("secret"), "{problem}");
        }
        assert!(matches!(Options::new("mqtts://b", None, "a"), Err(MqttError::CertificateMissing)));
    }

    #[test]
    fn a_server_is_named_so_that_no_device_can_have_its_client_id() {
        let options = Options::new("mqtt://localhost", None, "site-1").unwrap();
        assert_eq!(options.client_id(), "covey.site-1");
        for bad in ["", "a/b", "a b", "+", &"x".repeat(129)] {
            assert!(Options::new("mqtt://localhost", None, bad).is_err(), "{bad}");
        }
    }
}
