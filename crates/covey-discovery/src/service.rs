//! What there is to announce: the types of services, their names, and the entries of their TXT records
//! (`docs/discovery.md`).

use std::net::{IpAddr, SocketAddr};

use sha2::{Digest, Sha256};

/// The version of the TXT record's form, its first entry (RFC 6763 §6.7).
pub(crate) const TXT_VERSION: (&str, &str) = ("txtvers", "1");
/// Longest name of an instance, in bytes. A label of DNS has 63 (RFC 1035 §2.3.4); the rest is for what tells it from
/// another one of that name, such as ` (2)`.
/// Limit for each name: it is cut.
const INSTANCE_NAME_BYTES_MAX: usize = 56;

/// How much of a name goes into that of a host, in bytes.
/// Limit for each name: it is cut.
const HOST_NAME_BYTES_MAX: usize = 48;

/// A type of services (RFC 6763 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A server of Covey: its REST API over HTTPS.
    Covey,
    /// The same for who knows nothing of Covey.
    Https,
    /// MQTT over TLS.
    SecureMqtt,
    /// MQTT.
    Mqtt,
    /// CoAP over UDP.
    Coap,
    /// CoAP over DTLS.
    Coaps,
    /// A TCP unit, which Covey connects to.
    Unit,
}

impl Kind {
    /// Its name, such as `_covey._tcp`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Covey => "_covey._tcp",
            Self::Https => "_https._tcp",
            Self::SecureMqtt => "_secure-mqtt._tcp",
            Self::Mqtt => "_mqtt._tcp",
            Self::Coap => "_coap._udp",
            Self::Coaps => "_coaps._udp",
            Self::Unit => "_covey-unit._tcp",
        }
    }

    /// Its name in the domain of the local network.
    pub(crate) fn domain(self) -> String {
        format!("{}.local.", self.name())
    }
}

/// Entries of a TXT record, without that of its version.
pub type Txt = Vec<(&'static str, String)>;

/// At which addresses of this machine something can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// At all.
    All,
    /// At all of IPv4.
    V4,
    /// At one.
    Only(IpAddr),
}

impl Reach {
    /// Where a listener is reached from other machines; nowhere on loopback.
    #[must_use]
    pub fn of(listener: SocketAddr) -> Option<Self> {
        match listener.ip().to_canonical() {
            ip if ip.is_loopback() => None,
            IpAddr::V4(ip) if ip.is_unspecified() => Some(Self::V4),
            IpAddr::V6(ip) if ip.is_unspecified() => Some(Self::All),
            ip => Some(Self::Only(ip)),
        }
    }

    /// Whether whoever is reached so is reached at all addresses of another.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::All, _) | (Self::V4, Self::V4) => true,
            (Self::V4, Self::Only(ip)) => ip.is_ipv4(),
            (own, other) => own == other,
        }
    }
}

/// Something that is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// What it is.
    pub kind: Kind,
    /// Where it is reached.
    pub reach: Reach,
    /// Its port.
    pub port: u16,
    /// What its TXT record says.
    pub txt: Txt,
}

/// A name as that of an instance: without dots, which separate labels, and not longer than there is room for.
#[must_use]
pub fn instance_name(name: &str) -> String {
    let mut named: String = name.chars().map(|c| if c == '.' || c.is_control() { '-' } else { c }).collect();
    while named.len() > INSTANCE_NAME_BYTES_MAX {
        named.pop();
    }
    named
}

/// What a machine is called that has this name and these addresses, such as `lab-1f2e3d4c.local`: letters, digits and
/// hyphens (RFC 1123 §2.1). No two machines of a network have the same addresses, so no two have the same name.
#[must_use]
pub fn host_name(name: &str, addresses: &[IpAddr]) -> String {
    let host: String = name.chars().filter(char::is_ascii).take(HOST_NAME_BYTES_MAX).collect();
    let host: String = host.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let host = host.trim_matches('-');
    let mut addresses: Vec<_> = addresses.iter().filter(|address| !address.is_loopback()).collect();
    addresses.sort_unstable();
    let named: String = addresses.iter().map(|address| format!(" {address}")).collect();
    let digest = Sha256::digest(format!("{name}{named}"));
    let digest: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{digest}.local", if host.is_empty() { "covey" } else { host })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn reach(listener: &str) -> Option<Reach> {
        Reach::of(listener.parse().unwrap())
    }

    #[test]
    fn what_listens_on_loopback_is_reached_by_nobody() {
        for loopback in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(reach(loopback), None, "{loopback}");
        }
        assert_eq!(reach("0.0.0.0:1"), Some(Reach::V4));
        assert_eq!(reach("[::]:1"), Some(Reach::All));
        let one = Reach::Only("10.0.0.1".parse().unwrap());
        assert_eq!(reach("10.0.0.1:1"), Some(one));
        assert!(Reach::V4.covers(one) && Reach::All.covers(Reach::V4) && one.covers(one));
        assert!(!one.covers(Reach::V4) && !Reach::V4.covers(Reach::All));
        assert!(!Reach::V4.covers(Reach::Only("fd00::1".parse().unwrap())));
    }

    #[test]
    fn names_fit_into_a_label_whatever_they_are() {
        assert_eq!(instance_name("lab.attic"), "lab-attic");
        let long = instance_name(&"ü".repeat(60));
        assert!(long.len() <= INSTANCE_NAME_BYTES_MAX && long.starts_with('ü'));
        for (name, begins) in
            [("Lab_1", "Lab-1-"), ("--", "covey-"), ("", "covey-"), (&"a.".repeat(99), "a-a-")]
        {
            let host = host_name(name, &[]);
            assert!(host.starts_with(begins) && host.ends_with(".local") && host.len() <= 63, "{host}");
        }
        let at = |addresses: &[&str]| {
            host_name("lab", &addresses.iter().map(|address| address.parse().unwrap()).collect::<Vec<_>>())
        };
        assert_eq!(at(&["10.0.0.1", "127.0.0.1", "fd00::1"]), at(&["fd00::1", "10.0.0.1"]));
        assert_ne!(at(&["10.0.0.1"]), at(&["10.0.0.2"]));
        for kind in
            [Kind::Covey, Kind::Https, Kind::SecureMqtt, Kind::Mqtt, Kind::Coap, Kind::Coaps, Kind::Unit]
        {
            // RFC 6763 §7.2: at most 15 characters beside the underscore.
            let service = kind.name().split('.').next().unwrap();
            assert!((2..=16).contains(&service.len()), "{service}");
        }
    }
}
