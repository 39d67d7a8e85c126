//! What operations and callers ask the store of nodes.

use crate::access::Caller;
use crate::device::DeviceIdentity;
use crate::id::{DeviceKey, NodeId, OrgId, UnixMs};
use crate::node::{KnownName, Node, NodeFilter, NodeName, NodeState};
use crate::port::{Found, Page, PageRequest, TxResult};

/// A node that is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// Its organisation.
    pub org: OrgId,
    /// Its name.
    pub name: NodeName,
    /// Where it was heard from.
    pub address: String,
    /// Whether it may join.
    pub state: NodeState,
    /// Its device, if it has one.
    pub device: Option<DeviceKey>,
    /// The server that holds the connection of a passing node; none for any other.
    pub passing_at: Option<String>,
    /// Now.
    pub at: UnixMs,
}

/// How many nodes are in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeCount {
    /// The state.
    pub state: NodeState,
    /// How many nodes are in it.
    pub count: u64,
}

/// The steps on nodes inside a transaction.
pub trait NodeSteps {
    /// What is known of a name.
    fn node_of_name(&mut self, org: OrgId, name: &NodeName) -> TxResult<KnownName>;
    /// A node of an organisation.
    fn node(&mut self, org: OrgId, id: NodeId) -> TxResult<Option<Node>>;
    /// The node whose device this is.
    fn node_of_device(&mut self, device: DeviceKey) -> TxResult<Option<Node>>;
    /// Whether an organisation has at least this many nodes, those that wait aside.
    fn nodes_reach(&mut self, org: OrgId, count: u32) -> TxResult<bool>;
    /// Stores a new node.
    fn node_insert(&mut self, node: &NewNode) -> TxResult<NodeId>;
    /// Stores what has changed of a node: its state, its device, where it was last heard from and when it was asked about.
    fn node_update(&mut self, node: &Node) -> TxResult<()>;
    /// Forgets a node. Its device stays.
    fn node_remove(&mut self, id: NodeId) -> TxResult<()>;
    /// Forgets the node whose device this is.
    fn node_remove_of_device(&mut self, device: DeviceKey) -> TxResult<()>;
    /// Forgets those that wait to be admitted, but for the `kept` that were asked about last; up to `limit`.
    fn nodes_waiting_prune(&mut self, org: OrgId, kept: u32, limit: u32) -> TxResult<usize>;
    /// The devices of the passing nodes of an address.
    fn nodes_passing_from(
        &mut self,
        org: OrgId,
        address: &NodeName,
        limit: u32,
    ) -> TxResult<Vec<DeviceIdentity>>;
    /// The devices of passing nodes of any organisation whose connections this server holds.
    fn nodes_passing_of_every_org(&mut self, server: &str, limit: u32) -> TxResult<Vec<DeviceIdentity>>;
}

/// The reads of nodes.
pub trait NodeReader {
    /// What is known of a name.
    fn node_of_name(&self, org: OrgId, name: NodeName) -> Found<'_, KnownName>;

    /// Nodes of the caller's organisation, in the order of their numbers.
    fn node_list(&self, caller: &Caller, filter: NodeFilter, page: PageRequest) -> Found<'_, Page<Node>>;

    /// How many nodes are in each state.
    fn node_counts_of_every_org(&self) -> Found<'_, Vec<NodeCount>>;

    /// The servers that are said to hold connections of passing nodes and do not run, in the order of their names, up to
    /// `limit`. Where there can be one server alone it is all: it has no connection yet when it asks.
    fn servers_gone_of_every_org(&self, limit: u32) -> Found<'_, Vec<String>>;
}
