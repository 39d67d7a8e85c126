//! Whether a node may join: first decided from what is read, and by the writer once anything is to change.

use std::net::IpAddr;

use crate::audit::AuditEntry;
use crate::device::{DeviceIdentity, register};
use crate::error::{Error, Result};
use crate::id::{OrgId, UnixMs};
use crate::node::{
    ADDRESS_BYTES_MAX, ASKED_GRAIN_MS, Admission, NODES_MAX, NODES_WAITING_MAX, NewNode, Node, NodeName,
    NodeState,
};
use crate::operation::{Abort, Operation};
use crate::port::{Need, Transaction, Turn};

/// How many that wait give way at once where the bound was exceeded, as by several servers at the same time.
/// Limit for each newcomer: the rest gives way to the next one.
const GIVING_WAY_MAX: u32 = 10;

/// What is known of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownName {
    /// The node of this name.
    pub node: Option<Node>,
    /// What is registered under its serial number, by whichever organisation.
    pub registered: Option<Registered>,
}

/// Who has a serial number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The device.
    pub device: DeviceIdentity,
    /// Whether it has or had a certificate: then no gateway speaks for it.
    pub has_certificate: bool,
}

/// What became of a node that wants to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It is this device.
    Yes(DeviceIdentity),
    /// It waits until somebody says yes.
    Waiting,
    /// Somebody has said no.
    Blocked,
    /// It is not listed, and whoever is not may not join.
    Unknown,
    /// Another device has the serial number that its name gives.
    SnTaken,
}

/// A gateway has heard of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAdmit {
    /// The organisation whose nodes the gateway speaks for.
    pub org: OrgId,
    /// The node.
    pub name: NodeName,
    /// Where it was heard from; an IP address where it is a passing one.
    pub address: String,
    /// Whether it has a new uid at each connection.
    pub is_passing: bool,
    /// Who may join.
    pub admission: Admission,
    /// The server that holds its connection.
    pub server: String,
}

/// What follows for a node.
enum Decision {
    /// This, and nothing changes.
    Answer(Admitted),
    /// This, and it is noted that it was asked about.
    Note(Admitted),
    /// It is listed as waiting.
    Wait,
    /// It may join, as the device that is registered under its serial number, or as a new one.
    Join(Option<DeviceIdentity>),
}

impl NodeAdmit {
    /// Checks the address.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `address`, or `uid` of a name that stands for an address.
    pub fn validate(&self) -> Result<()> {
        if self.address.len() > ADDRESS_BYTES_MAX || self.address.chars().any(char::is_control) {
            return Err(Error::invalid("address", "must be at most 128 bytes without control characters"));
        }
        if self.name.is_address() {
            return Err(Error::invalid("uid", "must not be that of an address"));
        }
        self.passing_name().map(drop)
    }

    /// The name under which a passing node is approved: that of its address. None of one that has a uid of its own.
    pub(crate) fn passing_name(&self) -> Result<Option<NodeName>> {
        if !self.is_passing {
            return Ok(None);
        }
        let address: IpAddr = self
            .address
            .parse()
            .map_err(|_| Error::invalid("address", "must be an IP address of a passing node"))?;
        Ok(Some(NodeName::of_address(self.name.gateway().clone(), address)))
    }

    /// The answer that needs no writer, from what is known of the name, and of that of its address if it is a passing
    /// one; and whether it is to be noted that it was asked about.
    pub(crate) fn answer(
        &self,
        known: &KnownName,
        address: Option<&KnownName>,
        now: UnixMs,
    ) -> Option<(Admitted, bool)> {
        match self.decide(known, address, now) {
            Decision::Answer(answer) => Some((answer, false)),
            Decision::Note(answer) => Some((answer, true)),
            Decision::Wait | Decision::Join(_) => None,
        }
    }

    fn decide(&self, known: &KnownName, address: Option<&KnownName>, now: UnixMs) -> Decision {
        // Of a passing node it is its address that may join or not.
        let asked = address.unwrap_or(known).node.as_ref();
        let is_due = asked.is_some_and(|node| {
            let is_old = !(0..ASKED_GRAIN_MS).contains(&now.since_ms(node.last_asked));
            is_old && (node.device.is_none() || node.address != self.address)
        });
        let noted = |answer| if is_due { Decision::Note(answer) } else { Decision::Answer(answer) };
        let own = known.node.as_ref().and_then(|node| node.device.clone());
        let taken = known.registered.as_ref().filter(|registered| {
            let is_own = own.as_ref().is_some_and(|own| own.device == registered.device.device);
            !is_own && (registered.has_certificate || registered.device.org != self.org || self.is_passing)
        });
        let state = asked.map(|node| node.state);
        if state == Some(NodeState::Blocked) {
            return Decision::Answer(Admitted::Blocked);
        }
        if taken.is_some() {
            return Decision::Answer(Admitted::SnTaken);
        }
        let registered = known.registered.as_ref().map(|registered| registered.device.clone());
        let is_listed = state == Some(NodeState::Admitted) || registered.is_some();
        match (own, is_listed || self.admission == Admission::Open) {
            // Its address has a row of its own, which says how it is.
            (Some(own), true) if address.is_some() => Decision::Answer(Admitted::Yes(own)),
            (Some(own), true) if state == Some(NodeState::Admitted) => noted(Admitted::Yes(own)),
            (_, true) => Decision::Join(registered),
            (_, false) if state == Some(NodeState::Waiting) => noted(Admitted::Waiting),
            (_, false) if self.admission == Admission::Known => Decision::Answer(Admitted::Unknown),
            (_, false) => Decision::Wait,
        }
    }

    fn wait(&self, tx: &mut dyn Transaction, name: &NodeName) -> Result<Admitted, Abort> {
        let at = tx.now();
        let node = NewNode {
            org: self.org,
            name: name.clone(),
            address: self.address.clone(),
            state: NodeState::Waiting,
            device: None,
            passing_at: None,
            at,
        };
        tx.nodes_waiting_prune(self.org, NODES_WAITING_MAX - 1, GIVING_WAY_MAX)?;
        tx.node_insert(&node)?;
        Ok(Admitted::Waiting)
    }

    fn join(
        &self,
        tx: &mut dyn Transaction,
        node: Option<Node>,
        device: Option<DeviceIdentity>,
    ) -> Result<Admitted, Abort> {
        let at = tx.now();
        // One that waits does not count yet.
        if node.as_ref().is_none_or(|node| node.state == NodeState::Waiting) {
            demand_room(tx, self.org)?;
        }
        let device = match device {
            Some(device) => device,
            None => register(tx, self.org, &self.name.sn(), None, &[])?,
        };
        // That of a passing node as it stands in the name of its address, by which it is sought.
        let passing = self.passing_name()?;
        let address = passing.as_ref().and_then(NodeName::address).unwrap_or(&self.address).to_owned();
        let state = NodeState::Admitted;
        match node {
            Some(node) => {
                let device = Some(device.clone());
                tx.node_update(&Node { address, state, device, last_asked: at, ..node })?;
            }
            None => {
                let passing_at = self.is_passing.then(|| self.server.clone());
                let (org, name, device) = (self.org, self.name.clone(), Some(device.device));
                tx.node_insert(&NewNode { org, name, address, state, device, passing_at, at })?;
            }
        }
        Ok(Admitted::Yes(device))
    }
}

/// Refuses one more node that does not wait if there is no room for it.
pub(super) fn demand_room(tx: &mut dyn Transaction, org: OrgId) -> Result<(), Abort> {
    if tx.nodes_reach(org, NODES_MAX)? {
        return Err(Error::Exhausted { limit: "the organisation has 100000 nodes" }.into());
    }
    Ok(())
}

impl Operation for NodeAdmit {
    type Output = Admitted;

    const NEED: Need = Need::New;

    fn turn(&self) -> Turn {
        Turn::Org(self.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Admitted, Abort> {
        let passing = self.passing_name()?;
        let known = tx.node_of_name(self.org, &self.name)?;
        let address = passing.as_ref().map(|name| tx.node_of_name(self.org, name)).transpose()?;
        match self.decide(&known, address.as_ref(), tx.now()) {
            Decision::Answer(answer) => Ok(answer),
            Decision::Note(answer) => {
                let asked = address.map_or(known.node, |address| address.node);
                if let Some(node) = asked {
                    let (address, last_asked) = (self.address.clone(), tx.now());
                    tx.node_update(&Node { address, last_asked, ..node })?;
                }
                Ok(answer)
            }
            Decision::Wait => self.wait(tx, passing.as_ref().unwrap_or(&self.name)),
            Decision::Join(device) => self.join(tx, known.node, device),
        }
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}
