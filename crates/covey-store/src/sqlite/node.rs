//! Nodes for which gateways speak.

use covey_core::access::Caller;
use covey_core::device::DeviceIdentity;
use covey_core::id::{DeviceKey, NodeId, OrgId};
use covey_core::node::{
    GatewayName, KnownName, NewNode, Node, NodeCount, NodeFilter, NodeName, NodeReader, NodeState, NodeSteps,
};
use covey_core::port::{Found, Page, PageRequest, ReadKind, Turn, TxResult};
use rusqlite::{Connection, params};

use crate::rows::{self, ListColumns, ListScope};
use crate::sqlite::Sqlite;
use crate::sqlite::conditions::Conditions;
use crate::sqlite::statement::Ask;
use crate::sqlite::transaction::SqliteTransaction;

/// The servers that are said to hold connections of passing nodes: limit. The one that runs has none yet.
const SERVERS_GONE: &str =
    "SELECT DISTINCT passing_at FROM nodes WHERE passing_at IS NOT NULL ORDER BY passing_at LIMIT ?1";
/// Forgets those that wait but for the last ones: organisation, limit, how many are kept.
const NODES_WAITING_PRUNE: &str = "DELETE FROM nodes WHERE id IN (SELECT id FROM nodes \
     WHERE org_id = ?1 AND state = 'waiting' ORDER BY last_asked DESC, id DESC LIMIT ?2 OFFSET ?3)";

impl NodeReader for Sqlite {
    fn node_of_name(&self, org: OrgId, name: NodeName) -> Found<'_, KnownName> {
        self.read(ReadKind::NodeOfName, Turn::Server, move |connection| {
            let snapshot = connection.unchecked_transaction()?;
            known_name(&snapshot, org, &name)
        })
    }

    fn node_list(&self, caller: &Caller, filter: NodeFilter, page: PageRequest) -> Found<'_, Page<Node>> {
        let (org, scope) = (caller.org, ListScope::of(caller, ListColumns::NODES));
        self.read(ReadKind::NodeList, Turn::Org(org), move |connection| {
            node_page(connection, org, scope.as_ref(), &filter, page)
        })
    }

    fn node_counts_of_every_org(&self) -> Found<'_, Vec<NodeCount>> {
        self.rows(ReadKind::NodeCounts, Turn::Server, rows::NODE_COUNTS, [], rows::node_count)
    }

    fn servers_gone_of_every_org(&self, limit: u32) -> Found<'_, Vec<String>> {
        self.rows(ReadKind::ServersGone, Turn::Server, SERVERS_GONE, [limit], rows::first)
    }
}

fn known_name(connection: &Connection, org: OrgId, name: &NodeName) -> rusqlite::Result<KnownName> {
    let values = (org.0, name.gateway().as_str(), name.uid());
    let node = connection.row(rows::NODE_OF_NAME, values, rows::node)?;
    let registered = connection.row(rows::REGISTERED, [name.sn().as_str()], rows::registered)?;
    Ok(KnownName { node, registered })
}

fn node_page(
    connection: &Connection,
    org: OrgId,
    scope: Option<&ListScope>,
    filter: &NodeFilter,
    page: PageRequest,
) -> rusqlite::Result<Page<Node>> {
    let mut conditions = Conditions::default();
    conditions.add("n.org_id = ?", org.0);
    conditions.add_scope(scope);
    conditions.add_if("n.id = ?", filter.id.map(|id| id.0));
    conditions.add_if("n.state = ?", filter.state.map(NodeState::name));
    conditions.add_if("n.gateway = ?", filter.gateway.as_ref().map(GatewayName::to_string));
    conditions.add_if("n.uid = ?", filter.uid.clone());
    let clause = conditions.clause();
    let snapshot = connection.unchecked_transaction()?;
    let total = conditions.total(&snapshot, &format!("SELECT count(*) FROM nodes n WHERE {clause}"))?;
    let sql = format!(
        "SELECT {} FROM {} WHERE {clause} ORDER BY n.id LIMIT {} OFFSET {}",
        rows::node_columns!(),
        rows::nodes!(),
        page.size,
        page.offset()
    );
    Ok(Page { items: conditions.rows(&snapshot, &sql, rows::node)?, total, is_cut: false })
}

impl NodeSteps for SqliteTransaction<'_> {
    fn node_of_name(&mut self, org: OrgId, name: &NodeName) -> TxResult<KnownName> {
        self.try_sql(|connection| known_name(connection, org, name))
    }

    fn node(&mut self, org: OrgId, id: NodeId) -> TxResult<Option<Node>> {
        self.row(rows::NODE, (org.0, id.0), rows::node)
    }

    fn node_of_device(&mut self, device: DeviceKey) -> TxResult<Option<Node>> {
        self.row(rows::NODE_OF_DEVICE, [device.0], rows::node)
    }

    fn nodes_reach(&mut self, org: OrgId, count: u32) -> TxResult<bool> {
        let Some(skip) = count.checked_sub(1) else { return Ok(true) };
        self.exists(rows::NODES_REACH, (org.0, skip))
    }

    fn node_insert(&mut self, node: &NewNode) -> TxResult<NodeId> {
        let [gateway, uid, address, state] = rows::node_texts(node);
        let values = params![
            node.org.0,
            gateway,
            uid,
            address,
            state,
            node.device.map(|device| device.0),
            node.passing_at,
            node.at.0,
            node.at.0,
        ];
        self.only(rows::NODE_INSERT, values, rows::first).map(NodeId)
    }

    fn node_update(&mut self, node: &Node) -> TxResult<()> {
        let device = node.device.as_ref().map(|device| device.device.0);
        let values = (&node.address, node.state.name(), device, node.last_asked.0, node.id.0);
        self.change(rows::NODE_UPDATE, values).map(drop)
    }

    fn node_remove(&mut self, id: NodeId) -> TxResult<()> {
        self.change(rows::NODE_REMOVE, [id.0]).map(drop)
    }

    fn node_remove_of_device(&mut self, device: DeviceKey) -> TxResult<()> {
        self.change(rows::NODE_REMOVE_OF_DEVICE, [device.0]).map(drop)
    }

    fn nodes_waiting_prune(&mut self, org: OrgId, kept: u32, limit: u32) -> TxResult<usize> {
        self.change(NODES_WAITING_PRUNE, (org.0, limit, kept))
    }

    fn nodes_passing_from(
        &mut self,
        org: OrgId,
        address: &NodeName,
        limit: u32,
    ) -> TxResult<Vec<DeviceIdentity>> {
        let Some(text) = address.address() else { return Ok(Vec::new()) };
        let values = (org.0, address.gateway().as_str(), text, limit);
        self.rows(rows::NODES_PASSING_FROM, values, rows::identity)
    }

    fn nodes_passing_of_every_org(&mut self, server: &str, limit: u32) -> TxResult<Vec<DeviceIdentity>> {
        self.rows(rows::NODES_PASSING_AT, (server, limit), rows::identity)
    }
}
