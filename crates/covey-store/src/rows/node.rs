//! Nodes.

use covey_core::id::NodeId;
use covey_core::node::{GatewayName, NewNode, Node, NodeCount, NodeName, NodeState, Registered};

use crate::rows::{Columns, Damaged, Read, get, identity, identity_at, number};

/// The columns of a node `n` with its device `d`, in the order that [`node`] reads them.
macro_rules! node_columns {
    () => {
        "n.id, n.gateway, n.uid, n.address, n.state, n.passing_at IS NOT NULL, n.first_seen, n.last_asked, \
         d.id, d.org_id, d.device_id, d.sn"
    };
}
pub(crate) use node_columns;

/// Nodes, each with its device if that was not retired.
macro_rules! nodes {
    () => {
        "nodes n LEFT JOIN devices d ON d.id = n.device_key AND d.retired_at IS NULL"
    };
}
pub(crate) use nodes;

/// A node, from `node_columns!`.
pub(crate) fn node(row: &dyn Columns) -> Read<Node> {
    let device = match get::<Option<i64>>(row, 8)? {
        None => None,
        Some(_) => Some(identity_at(row, 8)?),
    };
    Ok(Node {
        id: NodeId(get(row, 0)?),
        name: node_name_at(row, 1)?,
        address: get(row, 3)?,
        state: node_state_at(row, 4)?,
        device,
        is_passing: get(row, 5)?,
        first_seen: get(row, 6)?,
        last_asked: get(row, 7)?,
    })
}

/// The name of a node, from `gateway, uid`.
pub(crate) fn node_name(row: &dyn Columns) -> Read<NodeName> {
    node_name_at(row, 0)
}

fn node_name_at(row: &dyn Columns, at: usize) -> Read<NodeName> {
    node_name_of(get(row, at)?, get(row, at + 1)?).ok_or(Damaged::Value(at, "name of a node"))
}

/// The name of a node, if these are its parts.
pub(crate) fn node_name_of(gateway: &str, uid: &str) -> Option<NodeName> {
    NodeName::listed(GatewayName::parse(gateway).ok()?, uid).ok()
}

fn node_state_at(row: &dyn Columns, at: usize) -> Read<NodeState> {
    NodeState::from_name(get(row, at)?).ok_or(Damaged::Value(at, "state of a node"))
}

/// Who has a serial number, from `id, org_id, device_id, sn`, and whether there is or was a certificate.
pub(crate) fn registered(row: &dyn Columns) -> Read<Registered> {
    Ok(Registered { device: identity(row)?, has_certificate: get(row, 4)? })
}

/// How many nodes are in a state, from `state, count`.
pub(crate) fn node_count(row: &dyn Columns) -> Read<NodeCount> {
    Ok(NodeCount { state: node_state_at(row, 0)?, count: number(row, 1)? })
}

/// The texts of a new node: gateway, uid, address, state.
pub(crate) fn node_texts(node: &NewNode) -> [String; 4] {
    let NewNode { name, address, state, .. } = node;
    [name.gateway().as_str(), name.uid(), address, state.name()].map(ToOwned::to_owned)
}

/// A node by its name: organisation, gateway, uid.
pub(crate) const NODE_OF_NAME: &str = concat!(
    "SELECT ",
    node_columns!(),
    " FROM ",
    nodes!(),
    " WHERE n.org_id = $1 AND n.gateway = $2 AND n.uid = $3"
);
/// A node by its number: organisation, number.
pub(crate) const NODE: &str =
    concat!("SELECT ", node_columns!(), " FROM ", nodes!(), " WHERE n.org_id = $1 AND n.id = $2");
/// A node by its device.
pub(crate) const NODE_OF_DEVICE: &str =
    concat!("SELECT ", node_columns!(), " FROM ", nodes!(), " WHERE n.device_key = $1");
/// What is registered under a serial number, and whether it has or had a certificate.
pub(crate) const REGISTERED: &str = "SELECT d.id, d.org_id, d.device_id, d.sn, \
     EXISTS (SELECT 1 FROM certificates c WHERE c.device_key = d.id) FROM devices d \
     WHERE d.sn = $1 AND d.retired_at IS NULL";
/// Whether an organisation has more than so many nodes, those that wait aside: organisation, number to skip.
pub(crate) const NODES_REACH: &str =
    "SELECT 1 FROM nodes WHERE org_id = $1 AND state <> 'waiting' LIMIT 1 OFFSET $2";
/// A new node: organisation, gateway, uid, address, state, device, server, now, now.
pub(crate) const NODE_INSERT: &str = "INSERT INTO nodes (org_id, gateway, uid, address, state, device_key, \
     passing_at, first_seen, last_asked) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id";
/// What can change of a node: address, state, device, instant; its number.
pub(crate) const NODE_UPDATE: &str =
    "UPDATE nodes SET address = $1, state = $2, device_key = $3, last_asked = $4 WHERE id = $5";
/// Forgets a node.
pub(crate) const NODE_REMOVE: &str = "DELETE FROM nodes WHERE id = $1";
/// Forgets the node whose device this is.
pub(crate) const NODE_REMOVE_OF_DEVICE: &str = "DELETE FROM nodes WHERE device_key = $1";
/// The devices of the passing nodes of an address: organisation, gateway, address, limit.
pub(crate) const NODES_PASSING_FROM: &str = "SELECT d.id, d.org_id, d.device_id, d.sn FROM nodes n \
     JOIN devices d ON d.id = n.device_key WHERE n.passing_at IS NOT NULL \
     AND n.org_id = $1 AND n.gateway = $2 AND n.address = $3 LIMIT $4";
/// The devices of the passing nodes whose connections a server holds: server, limit.
pub(crate) const NODES_PASSING_AT: &str = "SELECT d.id, d.org_id, d.device_id, d.sn FROM nodes n \
     JOIN devices d ON d.id = n.device_key WHERE n.passing_at IS NOT NULL AND n.passing_at = $1 LIMIT $2";
/// How many nodes are in each state.
pub(crate) const NODE_COUNTS: &str = "SELECT state, count(*) FROM nodes GROUP BY state ORDER BY state";
