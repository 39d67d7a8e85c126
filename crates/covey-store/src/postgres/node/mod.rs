//! Nodes for which gateways speak. Steps on them are rare, so each is a statement of its own; what is to be changed is
//! held first, so that no other server changes it meanwhile.

mod reads;
mod steps;

use covey_core::error::Result;

use crate::postgres::prepared::prepared;
use crate::rows;

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// A node by its name: organisation, gateway, uid.
        node_of_name: concat!("SELECT ", rows::node_columns!(), " FROM ", rows::nodes!(),
            " WHERE n.org_id = $1 AND n.gateway = $2 AND n.uid = $3 FOR UPDATE OF n");
        /// What is registered under a serial number.
        registered: rows::REGISTERED;
        /// A node by its number: organisation, number.
        node: concat!("SELECT ", rows::node_columns!(), " FROM ", rows::nodes!(),
            " WHERE n.org_id = $1 AND n.id = $2 FOR UPDATE OF n");
        /// A node by its device.
        node_of_device: rows::NODE_OF_DEVICE;
        /// Whether there are more than so many, those that wait aside: organisation, number to skip.
        nodes_reach: rows::NODES_REACH;
        /// A new node.
        node_insert: rows::NODE_INSERT;
        /// What can change of a node.
        node_update: rows::NODE_UPDATE;
        /// Forgets a node.
        node_remove: rows::NODE_REMOVE;
        /// Forgets the node whose device this is.
        node_remove_of_device: rows::NODE_REMOVE_OF_DEVICE;
        /// Forgets those that wait but for the last ones, unless somebody is about to change them: organisation, limit,
        /// how many are kept.
        nodes_waiting_prune: "DELETE FROM nodes WHERE id IN (SELECT w.id FROM nodes w WHERE w.id = ANY (ARRAY \
             (SELECT o.id FROM nodes o WHERE o.org_id = $1 AND o.state = 'waiting' \
             ORDER BY o.last_asked DESC, o.id DESC LIMIT $2 OFFSET $3)) ORDER BY w.id FOR UPDATE SKIP LOCKED)";
        /// The devices of the passing nodes of an address: organisation, gateway, address, limit.
        nodes_passing_from: rows::NODES_PASSING_FROM;
        /// Those of a server: its name, limit.
        nodes_passing_at: rows::NODES_PASSING_AT;
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// A node by its name: organisation, gateway, uid.
        node_of_name: rows::NODE_OF_NAME;
        /// What is registered under a serial number.
        registered: rows::REGISTERED;
        /// How many nodes are in each state.
        node_counts: rows::NODE_COUNTS;
        /// The servers that are said to hold connections of passing nodes and have no name any more: limit.
        servers_gone: "SELECT DISTINCT n.passing_at FROM nodes n WHERE n.passing_at IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM servers s WHERE s.name = n.passing_at) ORDER BY n.passing_at LIMIT $1";
    }
}
