//! TCP units: microcontrollers that are servers and know nothing of Covey. Applications list them; one server of the
//! deployment, whose unit gateway has the lease of the organisation, speaks with them
//! (`docs/adr/0032-units-are-listed-and-one-server-speaks-with-them.md`).

mod calls;
mod operation;
mod port;

pub use operation::{UnitAdd, UnitGatewayClaim, UnitRemove, UnitSet};
pub use port::{NewUnit, UnitReader, UnitSteps};

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::id::{UnitId, UnixMs};
use crate::named::named;
use crate::node::{GatewayName, NodeName};
use crate::twin;

/// The name of the gateway that speaks with units: their serial numbers begin with it.
pub const UNIT_GATEWAY: &str = "unit";
/// The port at which a unit listens unless another is named.
pub const UNIT_PORT: u16 = 8888;
/// The resource of a unit unless another is named.
pub const UNIT_RESOURCE: &str = "value";
/// How many units may be listed.
/// Limit for each organisation: 429; a file with more is refused.
pub const UNITS_MAX: u32 = 10_000;
/// Longest name of a unit, in bytes.
/// Limit for each unit: 422; a file with a longer one is refused.
pub const UNIT_NAME_BYTES_MAX: usize = 64;
/// How long a server that speaks with an organisation's units has them without saying so again, in milliseconds.
pub const UNIT_LEASE_MS: i64 = 60_000;

named! {
    /// What a unit does.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum UnitKind {
        /// It sends a measurement a line, as long as a connection is open.
        Read => "read",
        /// It waits for a line.
        Update => "update",
    }
}

/// Whether a unit may be at an address: says why not. The server knows its own listeners and what its operator allows.
pub type UnitAddressRule = Arc<dyn Fn(SocketAddr) -> Result<(), &'static str> + Send + Sync>;

/// A unit that is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its number.
    pub id: UnitId,
    /// Its name as a node of the gateway [`UNIT_GATEWAY`].
    pub name: NodeName,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it does.
    pub kind: UnitKind,
    /// Its one resource.
    pub resource: String,
    /// When it was listed.
    pub created_at: UnixMs,
    /// The server that speaks with the organisation's units, and until when it has them.
    pub speaker: Option<(String, UnixMs)>,
}

/// A unit to be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitSpec {
    /// Its name; its address unless one is given.
    pub name: Option<String>,
    /// Where it is, and what it does.
    pub place: UnitPlace,
}

/// Where a unit is, and what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitPlace {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it does.
    pub kind: UnitKind,
    /// Its one resource.
    pub resource: String,
}

impl UnitPlace {
    /// Checks each field.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field.
    pub fn validate(&self) -> Result<()> {
        if self.address.port() == 0 {
            return Err(Error::invalid("port", "must be 1 to 65535"));
        }
        let ip = self.address.ip();
        if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::from([255; 4]) {
            return Err(Error::invalid("address", "must be the address of one machine"));
        }
        // What is checked is the name.
        twin::validate(&self.resource, "null")
    }
}

/// An address of IPv4 is the same however it is written.
#[must_use]
pub fn unit_address(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

/// What a unit is called that has no name: its address, with the port unless that is the usual one.
#[must_use]
pub fn unit_name_of(address: SocketAddr) -> String {
    match address.port() {
        UNIT_PORT => address.ip().to_string(),
        _ => address.to_string(),
    }
}

/// The name of a unit as a node.
///
/// # Errors
/// [`Error::Invalid`] naming `name`.
pub fn unit_name(name: &str) -> Result<NodeName> {
    let parsed = GatewayName::parse(UNIT_GATEWAY).and_then(|gateway| NodeName::parse(gateway, name));
    match parsed {
        Ok(parsed) if name.len() <= UNIT_NAME_BYTES_MAX => Ok(parsed),
        _ => Err(Error::invalid(
            "name",
            "must be 1 to 64 bytes without control characters, and not @ and an address",
        )),
    }
}

/// Which units a caller wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitFilter {
    /// The one with this number.
    pub id: Option<UnitId>,
    /// The one with this name.
    pub name: Option<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn place(address: &str) -> UnitPlace {
        let (address, resource) = (address.parse().unwrap(), UNIT_RESOURCE.to_owned());
        UnitPlace { address, kind: UnitKind::Read, resource }
    }

    #[test]
    fn a_unit_is_called_as_it_is_said_or_by_its_address() {
        let of = |text: &str| unit_name_of(text.parse().unwrap());
        assert_eq!(of("192.0.2.7:8888"), "192.0.2.7");
        assert_eq!(of("192.0.2.7:9000"), "192.0.2.7:9000");
        assert_eq!(of("[2001:db8::7]:9000"), "[2001:db8::7]:9000");
        assert_eq!(unit_name("lamp").unwrap().sn().as_str(), "unit-lamp");
        for bad in ["", "a\n", "@192.0.2.7", &"x".repeat(65)] {
            assert!(unit_name(bad).is_err(), "{bad:?}");
        }
        let mapped = unit_address("::ffff:192.0.2.7".parse().unwrap(), 8888);
        assert_eq!(mapped, unit_address("192.0.2.7".parse().unwrap(), 8888));
    }

    #[test]
    fn a_unit_is_at_the_address_of_one_machine() {
        assert!(place("192.0.2.7:8888").validate().is_ok());
        for bad in ["192.0.2.7:0", "0.0.0.0:8888", "[::]:8888", "224.0.0.1:8888", "255.255.255.255:8888"] {
            assert!(place(bad).validate().is_err(), "{bad}");
        }
        let named = |resource: &str| UnitPlace { resource: resource.to_owned(), ..place("192.0.2.7:8888") };
        assert!(named("color").validate().is_ok() && named("a b").validate().is_err());
    }
}
