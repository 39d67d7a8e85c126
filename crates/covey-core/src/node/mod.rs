//! Nodes: constrained devices that know nothing of Covey, and for which a gateway speaks
//! (`docs/adr/0025-nodes-are-devices-that-a-gateway-speaks-for.md`). A node has a name, which its gateway and its own
//! uid make, and a device as soon as it is admitted.

mod admission;
mod calls;
mod operation;
mod port;
mod write;

pub(crate) use calls::ServersGone;

pub use admission::{Admitted, KnownName, NodeAdmit, Registered};
pub use operation::{
    LeftNodes, NodeAdd, NodeApprove, NodeBlock, NodeRemove, NodeRename, NodeTold, NodesLeave, NodesPassing,
};
pub use port::{NewNode, NodeCount, NodeReader, NodeSteps};
pub use write::{NODE_SET_METHOD, NextWrite, NodeWrite, WaitingTask, WriteNext};

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::device::DeviceIdentity;
use crate::error::{Error, Result};
use crate::id::{NodeId, SN_BYTES_MAX, Sn, UnixMs};
use crate::named::named;

/// Longest name of a gateway, in characters.
/// Limit for each gateway: the server does not start.
pub const GATEWAY_CHARS_MAX: usize = 16;
/// Longest uid of a node, in bytes.
/// Limit for each node: 422; what a node says under a longer one is refused and counted.
pub const UID_BYTES_MAX: usize = 128;
/// Longest address of a node as text, in bytes.
/// Limit for each node: what comes from a longer one is refused and counted.
pub const ADDRESS_BYTES_MAX: usize = 128;
/// How many nodes may wait to be admitted.
/// Limit for each organisation: the one that was heard of least recently is forgotten.
pub const NODES_WAITING_MAX: u32 = 1_000;
/// How many nodes there may be, those that wait aside.
/// Limit for each organisation: 429; what an unknown node says is refused and counted.
pub const NODES_MAX: u32 = 100_000;
/// How exactly it is known when a node that has no device was last asked about, or where a node is, in milliseconds: so
/// often at most a node that is known costs a write.
pub const ASKED_GRAIN_MS: i64 = 60_000;
/// Begins the uid of a row that stands for all passing nodes of an address.
const ADDRESS_MARK: char = '@';
/// How many characters of a serial number are kept that would be too long; a digest follows.
const SN_KEPT_CHARS: usize = 46;
/// How many bytes of the digest follow.
const SN_DIGEST_BYTES: usize = 8;

/// The name of a gateway: 1 to 16 characters of `a-z 0-9`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatewayName(Arc<str>);

impl GatewayName {
    /// Checks the alphabet and the length.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `gateway`.
    pub fn parse(text: &str) -> Result<Self> {
        let is_name = (1..=GATEWAY_CHARS_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if is_name {
            Ok(Self(Arc::from(text)))
        } else {
            Err(Error::invalid("gateway", "must be 1 to 16 characters of a-z 0-9"))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GatewayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for GatewayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which node is meant: the gateway that speaks for it, and what it calls itself; or all passing nodes of an address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeName {
    gateway: GatewayName,
    uid: Arc<str>,
}

impl NodeName {
    /// A node by its uid: 1 to 128 bytes without control characters. `@` with an IP address behind it is none, because
    /// that stands for the [passing nodes of an address](Self::of_address).
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `uid`.
    pub fn parse(gateway: GatewayName, uid: &str) -> Result<Self> {
        let name = Self::listed(gateway, uid)?;
        if name.is_address() {
            return Err(Error::invalid(
                "uid",
                "must not be @ and an address, which stands for passing nodes",
            ));
        }
        Ok(name)
    }

    /// A node, or the passing nodes of an address.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `uid`.
    pub fn listed(gateway: GatewayName, uid: &str) -> Result<Self> {
        if !(1..=UID_BYTES_MAX).contains(&uid.len()) || uid.chars().any(char::is_control) {
            return Err(Error::invalid("uid", "must be 1 to 128 bytes without control characters"));
        }
        let address = uid.strip_prefix(ADDRESS_MARK).and_then(|address| address.parse().ok());
        Ok(match address {
            // However it was written.
            Some(address) => Self::of_address(gateway, address),
            None => Self { gateway, uid: Arc::from(uid) },
        })
    }

    /// All passing nodes that come from an address. One of IPv4 is the same however it is written.
    #[must_use]
    pub fn of_address(gateway: GatewayName, address: IpAddr) -> Self {
        Self { gateway, uid: Arc::from(format!("{ADDRESS_MARK}{}", address.to_canonical())) }
    }

    /// The gateway that speaks for it.
    #[must_use]
    pub fn gateway(&self) -> &GatewayName {
        &self.gateway
    }

    /// What it calls itself; `@` and an address for the passing nodes of that.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// The address whose passing nodes it stands for; none if it is one node's name.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.uid.strip_prefix(ADDRESS_MARK).filter(|address| address.parse::<IpAddr>().is_ok())
    }

    /// Whether it stands for the passing nodes of an address.
    #[must_use]
    pub fn is_address(&self) -> bool {
        self.address().is_some()
    }

    /// The serial number of its device: `<gateway>-<uid>`, where each byte of the uid that is not of `A-Z a-z 0-9 -` is
    /// `_` and two hexadecimal digits. What would be longer than 64 characters is cut after 46, and goes on with `__` and
    /// the beginning of a digest of the uid. No other name has the same one: gateways have no hyphen, and `__` is
    /// never part of a shorter one.
    #[must_use]
    pub fn sn(&self) -> Sn {
        let mut text = format!("{}-", self.gateway);
        for byte in self.uid.bytes() {
            if byte.is_ascii_alphanumeric() || byte == b'-' {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("_{byte:02x}"));
            }
        }
        if text.len() > SN_BYTES_MAX {
            text.truncate(SN_KEPT_CHARS);
            text.push_str("__");
            let digest = Sha256::digest(self.uid.as_bytes());
            digest.iter().take(SN_DIGEST_BYTES).for_each(|byte| text.push_str(&format!("{byte:02x}")));
        }
        Sn::of_valid(text)
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.gateway, self.uid)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

named! {
    /// Who may join.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Admission {
        /// Whoever comes.
        Open => "open",
        /// Those that are listed, or whose serial number is registered without a certificate.
        Known => "known",
        /// The same; others wait until somebody says yes.
        #[default]
        Approve => "approve",
    }
}

named! {
    /// Whether a node may join.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum NodeState {
        /// It waits until somebody says yes.
        Waiting => "waiting",
        /// It may.
        Admitted => "admitted",
        /// It may not.
        Blocked => "blocked",
    }
}

/// A node as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Where it was last heard from, in words of its gateway, as of at most [`ASKED_GRAIN_MS`] ago; empty if it never was.
    pub address: String,
    /// Whether it may join.
    pub state: NodeState,
    /// Its device, once it has one.
    pub device: Option<DeviceIdentity>,
    /// Whether it has a new uid at each connection: then its device lives as long as that, and what is approved is the
    /// address that it comes from.
    pub is_passing: bool,
    /// When it was first heard of, or listed.
    pub first_seen: UnixMs,
    /// When its gateway last asked about it, as of at most [`ASKED_GRAIN_MS`] ago; of one that is admitted, when that
    /// last changed anything.
    pub last_asked: UnixMs,
}

/// Which nodes a caller wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFilter {
    /// The one with this number.
    pub id: Option<NodeId>,
    /// Those in this state.
    pub state: Option<NodeState>,
    /// Those of this gateway.
    pub gateway: Option<GatewayName>,
    /// The one with this uid, or those, of several gateways.
    pub uid: Option<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn gateway(text: &str) -> GatewayName {
        GatewayName::parse(text).unwrap()
    }

    fn name(of: &str, uid: &str) -> NodeName {
        NodeName::parse(gateway(of), uid).unwrap()
    }

    #[test]
    fn a_name_gives_the_serial_number_of_its_decision() {
        for (of, uid, sn) in [
            ("coap", "1234", "coap-1234"),
            ("mqtt", "a_b/c", "mqtt-a_5fb_2fc"),
            ("ws", "ü", "ws-_c3_bc"),
            ("coap", &"x".repeat(59), &format!("coap-{}", "x".repeat(59))),
        ] {
            assert_eq!(name(of, uid).sn().as_str(), sn);
        }
        let long = name("coap", &"x".repeat(60)).sn();
        // SHA-256 of sixty times x begins so.
        assert_eq!(long.as_str(), format!("coap-{}__{}", "x".repeat(41), LONG_DIGEST));
    }

    const LONG_DIGEST: &str = "42f2d97335669f86";

    #[test]
    fn names_are_checked() {
        for bad in ["", "Coap", "a-b", "a_b", "ä", &"x".repeat(17)] {
            assert!(GatewayName::parse(bad).is_err(), "{bad:?}");
        }
        let parsed = |uid: &str| NodeName::parse(gateway("ws"), uid);
        for bad in ["", "a\0", "a\nb", "\u{85}", &"x".repeat(129), "@192.0.2.7", "@::1"] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
        for good in ["@", "@home", "@192.0.2", "a b", &"ü".repeat(64)] {
            assert_eq!(parsed(good).unwrap().uid(), good);
        }
    }

    #[test]
    fn an_address_is_the_same_however_it_is_written() {
        let of = |text: &str| NodeName::listed(gateway("ws"), text).unwrap();
        assert_eq!(of("@::ffff:192.0.2.7"), of("@192.0.2.7"));
        assert_eq!(of("@2001:DB8:0::1").uid(), "@2001:db8::1");
        assert_eq!(of("@192.0.2.7"), NodeName::of_address(gateway("ws"), [192, 0, 2, 7].into()));
        assert!(of("@::1").is_address() && !of("@home").is_address());
    }

    proptest! {
        /// What two names have in common is the digest at most.
        #[test]
        fn two_names_never_give_one_serial_number(
            ofs in ("[a-z0-9]{1,16}", "[a-z0-9]{1,16}"),
            uids in ("[-A-Za-z0-9_/.é ]{1,64}", "[-A-Za-z0-9_/.é ]{1,64}"),
            tail in "[_x]{0,20}",
        ) {
            let pairs = [
                (name(&ofs.0, &uids.0), name(&ofs.1, &uids.1)),
                (name(&ofs.0, &uids.0), name(&ofs.1, &uids.0)),
                (name(&ofs.0, &uids.0), name(&ofs.0, &uids.1)),
            ];
            for (one, other) in pairs {
                let (first, second) = (one.sn(), other.sn());
                prop_assert!(Sn::is_valid(first.as_str()), "{first}");
                prop_assert_eq!(one == other, first == second, "{} {}", first, second);
            }
            // A short name that looks like the serial number of a long one.
            let long = name(&ofs.0, &format!("{}{}", "x".repeat(64), tail)).sn();
            if let Some((of, uid)) = long.as_str().split_once('-') {
                prop_assert_ne!(name(of, uid).sn(), long);
            }
        }
    }
}
