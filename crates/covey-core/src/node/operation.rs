//! What applications do with nodes, and what the server does with those that have gone.

use std::sync::Arc;

use crate::access::{Caller, EndedKey, Matter, Rights, demand, with_keys};
use crate::audit::{AuditAction, AuditEntry};
use crate::device::{DeviceIdentity, Tag, TagPut, register, retire};
use crate::error::{Error, Result};
use crate::id::NodeId;
use crate::node::admission::demand_room;
use crate::node::{NewNode, Node, NodeName, NodeState};
use crate::operation::{Abort, Operation};
use crate::port::{Need, Transaction, Turn};
use crate::presence::Reason;
use crate::task::{TaskDetail, Verdict, record_changes, results_of};

/// How many passing nodes of an address are put out at once.
/// Limit for each address: the others are put out as their gateway asks about them anew.
const PUT_OUT_MAX: u32 = 1_000;
/// The tag that a node's name is.
const NAME_TAG: &str = "name";

/// A node after a change, and whose connections end with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTold {
    /// The node.
    pub node: Node,
    /// The devices that may not be connected any more.
    pub put_out: Vec<DeviceIdentity>,
    /// Whether anything was stored.
    pub is_new: bool,
    /// The API keys that ended with its device.
    pub ended: Vec<EndedKey>,
}

impl NodeTold {
    /// A node that was changed.
    fn of(node: Node, put_out: Vec<DeviceIdentity>) -> Self {
        Self { node, put_out, is_new: true, ended: Vec::new() }
    }
}

/// Lists a node in advance: it is admitted when it is first heard of.
pub struct NodeAdd {
    /// Who asks.
    pub caller: Caller,
    /// The node.
    pub name: NodeName,
}

impl Operation for NodeAdd {
    type Output = NodeTold;

    const NEED: Need = Need::New;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<NodeTold, Abort> {
        let (org, at) = (self.caller.org, tx.now());
        if tx.node_of_name(org, &self.name)?.node.is_some() {
            return Err(Error::Conflict { problem: "a node of this gateway with this uid is listed" }.into());
        }
        demand_room(tx, org)?;
        let node = listed(self.name.clone(), NodeState::Admitted, &self.caller, at);
        told(tx, &self.caller, &node, Vec::new())
    }

    fn entries(&self, told: &NodeTold) -> Vec<AuditEntry> {
        vec![node_entry(&self.caller, AuditAction::NodeAdd, &told.node)]
    }
}

/// What the audit log is told of a node.
fn node_entry(caller: &Caller, action: AuditAction, node: &Node) -> AuditEntry {
    let entry = AuditEntry::of(caller, action, format!("node {}", node.id.0));
    let entry = match &node.device {
        Some(device) => entry.device(device),
        None => entry,
    };
    entry.detail("node", &node.name.to_string())
}

/// A node that was not heard of.
fn listed(name: NodeName, state: NodeState, caller: &Caller, at: crate::id::UnixMs) -> NewNode {
    NewNode { org: caller.org, name, address: String::new(), state, device: None, passing_at: None, at }
}

/// Stores a new node, and answers it.
fn told(
    tx: &mut dyn Transaction,
    caller: &Caller,
    node: &NewNode,
    put_out: Vec<DeviceIdentity>,
) -> Result<NodeTold, Abort> {
    let id = tx.node_insert(node)?;
    Ok(NodeTold::of(node_of(tx, caller, id)?, put_out))
}

fn node_of(tx: &mut dyn Transaction, caller: &Caller, id: NodeId) -> Result<Node, Abort> {
    let node = tx.node(caller.org, id)?.ok_or(Error::not_found("node"))?;
    match &node.device {
        Some(device) => {
            demand(tx, caller, Rights::DEVICES_WRITE, device.device, Matter::Device, "node")?;
        }
        // Without a device it has no tags.
        None => caller.demand(Rights::DEVICES_WRITE, &[], Matter::Device, "node")?,
    }
    Ok(node)
}

/// Somebody says yes to a node: it gets its device. Of an address it is noted that passing nodes may come from there.
pub struct NodeApprove {
    /// Who asks.
    pub caller: Caller,
    /// The node.
    pub id: NodeId,
}

impl Operation for NodeApprove {
    type Output = NodeTold;

    const NEED: Need = Need::New;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<NodeTold, Abort> {
        let org = self.caller.org;
        let mut node = node_of(tx, &self.caller, self.id)?;
        let needs_device = node.device.is_none() && !node.name.is_address();
        if node.state == NodeState::Admitted && !needs_device {
            return Ok(NodeTold::of(node, Vec::new()));
        }
        if node.state == NodeState::Waiting {
            demand_room(tx, org)?;
        }
        if needs_device {
            let device = match tx.node_of_name(org, &node.name)?.registered {
                Some(found) if found.has_certificate || found.device.org != org => {
                    return Err(Error::SnTaken.into());
                }
                Some(found) => found.device,
                None => register(tx, org, &node.name.sn(), None, &[])?,
            };
            node.device = Some(device);
        }
        node.state = NodeState::Admitted;
        tx.node_update(&node)?;
        Ok(NodeTold::of(node, Vec::new()))
    }

    fn entries(&self, told: &NodeTold) -> Vec<AuditEntry> {
        vec![node_entry(&self.caller, AuditAction::NodeApprove, &told.node)]
    }
}

/// Somebody says no to a node. Its device stays, and it may not come. Of a passing node it is its address that is
/// blocked, with all that come from there.
pub struct NodeBlock {
    /// Who asks.
    pub caller: Caller,
    /// The node.
    pub id: NodeId,
}

impl Operation for NodeBlock {
    type Output = NodeTold;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::ShutOut(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<NodeTold, Abort> {
        let (org, at) = (self.caller.org, tx.now());
        let mut node = node_of(tx, &self.caller, self.id)?;
        if let Some(name) = address_of(&node) {
            // It shuts out whoever comes from there.
            self.caller.require(Rights::DEVICES_WRITE)?;
            let put_out = tx.nodes_passing_from(org, &name, PUT_OUT_MAX)?;
            match tx.node_of_name(org, &name)?.node {
                Some(found) => node = found,
                None => {
                    let node = listed(name, NodeState::Blocked, &self.caller, at);
                    return told(tx, &self.caller, &node, put_out);
                }
            }
            return block(tx, node, put_out);
        }
        let put_out = node.device.iter().cloned().collect();
        block(tx, node, put_out)
    }

    fn entries(&self, told: &NodeTold) -> Vec<AuditEntry> {
        let node = told.is_new.then_some(&told.node);
        node.map(|node| node_entry(&self.caller, AuditAction::NodeBlock, node)).into_iter().collect()
    }
}

/// Stores that a node may not come, unless that is known.
fn block(tx: &mut dyn Transaction, mut node: Node, put_out: Vec<DeviceIdentity>) -> Result<NodeTold, Abort> {
    let is_new = node.state != NodeState::Blocked;
    if is_new {
        node.state = NodeState::Blocked;
        tx.node_update(&node)?;
    }
    Ok(NodeTold { is_new, ..NodeTold::of(node, put_out) })
}

/// The name of the address that a node stands for, or from which it comes as a passing one.
fn address_of(node: &Node) -> Option<NodeName> {
    if node.name.is_address() {
        return Some(node.name.clone());
    }
    let address = node.address.parse().ok().filter(|_| node.is_passing)?;
    Some(NodeName::of_address(node.name.gateway().clone(), address))
}

/// Forgets a node and retires its device.
pub struct NodeRemove {
    /// Who asks.
    pub caller: Caller,
    /// The node.
    pub id: NodeId,
}

impl Operation for NodeRemove {
    type Output = NodeTold;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::ShutOut(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<NodeTold, Abort> {
        let org = self.caller.org;
        let node = node_of(tx, &self.caller, self.id)?;
        let put_out = if node.name.is_address() {
            tx.nodes_passing_from(org, &node.name, PUT_OUT_MAX)?
        } else {
            node.device.iter().cloned().collect()
        };
        let mut ended = Vec::new();
        if let Some(device) = &node.device
            && let Some(device) = tx.device(org, device.device_id)?
        {
            ended = retire(tx, device, Reason::Revoked)?.ended;
        }
        tx.node_remove(self.id)?;
        Ok(NodeTold { ended, ..NodeTold::of(node, put_out) })
    }

    fn entries(&self, told: &NodeTold) -> Vec<AuditEntry> {
        with_keys(node_entry(&self.caller, AuditAction::NodeRemove, &told.node), &told.ended)
    }
}

/// Sets what a node is called: the tag `name` of its device.
pub struct NodeRename {
    /// Who asks.
    pub caller: Caller,
    /// The node.
    pub id: NodeId,
    /// What it is to be called.
    pub name: String,
}

impl NodeRename {
    /// The tag.
    pub(crate) fn tag(&self) -> Tag {
        Tag { tag: NAME_TAG.to_owned(), value: self.name.clone() }
    }
}

impl Operation for NodeRename {
    /// The node.
    type Output = Node;

    const NEED: Need = Need::New;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Node, Abort> {
        let node = node_of(tx, &self.caller, self.id)?;
        let Some(device) = &node.device else {
            return Err(Error::Conflict { problem: "the node has no device yet: approve it first" }.into());
        };
        let tag = self.tag();
        TagPut { caller: self.caller.clone(), device_id: device.device_id, tag }.apply(tx)?;
        Ok(node)
    }

    fn entries(&self, node: &Node) -> Vec<AuditEntry> {
        vec![node_entry(&self.caller, AuditAction::NodeRename, node).detail("name", &self.name)]
    }
}

/// How many tasks end in one step with the devices of passing nodes that have gone.
/// Limit for each step: the rest follows at once.
const LEFT_TASKS_MAX: u32 = 64;

/// Passing nodes have gone: their open tasks end, and their devices are retired; a bounded number of tasks.
pub struct NodesLeave {
    /// Their devices, of one organisation.
    pub devices: Vec<DeviceIdentity>,
    /// In whose turn.
    pub turn: Turn,
}

/// What ended with passing nodes.
#[derive(Clone, Debug, Default)]
pub struct LeftNodes {
    /// The tasks that ended.
    pub ended: Vec<Arc<TaskDetail>>,
    /// Whether there are more to end.
    pub is_more: bool,
}

impl Operation for NodesLeave {
    type Output = LeftNodes;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        self.turn
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<LeftNodes, Abort> {
        let now = tx.now();
        let mut left = LeftNodes::default();
        for device in &self.devices {
            let is_passing = tx.node_of_device(device.device)?.is_some_and(|node| node.is_passing);
            if !is_passing {
                continue;
            }
            let room = LEFT_TASKS_MAX as usize - left.ended.len();
            let tasks = tx.tasks_open(device.org, device.device, u32::try_from(room).unwrap_or(0))?;
            let is_more = tasks.len() >= room;
            for mut task in tasks {
                let told = task.timeline.len();
                if task.fail_as_gone(now) == Verdict::Changed {
                    tx.task_update(&task)?;
                    record_changes(tx, &task, told)?;
                    let results = results_of(tx, &task)?;
                    left.ended.push(Arc::new(TaskDetail::of(task, results)));
                }
            }
            if is_more {
                left.is_more = true;
                break;
            }
            match tx.device(device.org, device.device_id)? {
                Some(found) if found.identity.device == device.device => {
                    retire(tx, found, Reason::Unknown)?;
                }
                // It is retired already, and was a node's all the same.
                _ => tx.node_remove_of_device(device.device)?,
            }
        }
        Ok(left)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// Which passing nodes a server has left behind when it ended; a bounded number.
pub struct NodesPassing {
    /// The server.
    pub server: String,
    /// How many at most.
    pub limit: u32,
}

impl Operation for NodesPassing {
    type Output = Vec<DeviceIdentity>;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Vec<DeviceIdentity>, Abort> {
        Ok(tx.nodes_passing_of_every_org(&self.server, self.limit)?)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}
