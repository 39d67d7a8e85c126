//! Steps on nodes.

use covey_core::device::DeviceIdentity;
use covey_core::id::{DeviceKey, NodeId, OrgId};
use covey_core::node::{KnownName, NewNode, Node, NodeName, NodeSteps};
use covey_core::port::TxResult;

use crate::postgres::pipeline::{Reply, values};
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows;

impl NodeSteps for PostgresTransaction<'_> {
    fn node_of_name(&mut self, org: OrgId, name: &NodeName) -> TxResult<KnownName> {
        let (gateway, uid) = (name.gateway().to_string(), name.uid().to_owned());
        let steps = vec![
            self.query(|sql| &sql.node.node_of_name, values![org.0, gateway, uid]),
            self.query(|sql| &sql.node.registered, values![name.sn().as_str().to_owned()]),
        ];
        let mut replies = self.trip(steps)?.into_iter().map(Reply::rows);
        let (node, registered) = (replies.next().unwrap_or_default(), replies.next().unwrap_or_default());
        let node = self.first(&node, rows::node)?;
        Ok(KnownName { node, registered: self.first(&registered, rows::registered)? })
    }

    fn node(&mut self, org: OrgId, id: NodeId) -> TxResult<Option<Node>> {
        self.ask_first(|sql| &sql.node.node, values![org.0, id.0], rows::node)
    }

    fn node_of_device(&mut self, device: DeviceKey) -> TxResult<Option<Node>> {
        self.ask_first(|sql| &sql.node.node_of_device, values![device.0], rows::node)
    }

    fn nodes_reach(&mut self, org: OrgId, count: u32) -> TxResult<bool> {
        let Some(skip) = count.checked_sub(1) else { return Ok(true) };
        let step = self.query(|sql| &sql.node.nodes_reach, values![org.0, i64::from(skip)]);
        Ok(!self.ask(step)?.is_empty())
    }

    fn node_insert(&mut self, node: &NewNode) -> TxResult<NodeId> {
        let [gateway, uid, address, state] = rows::node_texts(node);
        let device = node.device.map(|device| device.0);
        let (passing_at, at) = (node.passing_at.clone(), node.at.0);
        let values = values![node.org.0, gateway, uid, address, state, device, passing_at, at, at];
        self.write_only(|sql| &sql.node.node_insert, values, rows::first).map(NodeId)
    }

    fn node_update(&mut self, node: &Node) -> TxResult<()> {
        let device = node.device.as_ref().map(|device| device.device.0);
        let values = values![node.address.clone(), node.state.name(), device, node.last_asked.0, node.id.0];
        self.write(|sql| &sql.node.node_update, values).map(drop)
    }

    fn node_remove(&mut self, id: NodeId) -> TxResult<()> {
        self.write(|sql| &sql.node.node_remove, values![id.0]).map(drop)
    }

    fn node_remove_of_device(&mut self, device: DeviceKey) -> TxResult<()> {
        self.write(|sql| &sql.node.node_remove_of_device, values![device.0]).map(drop)
    }

    fn nodes_waiting_prune(&mut self, org: OrgId, kept: u32, limit: u32) -> TxResult<usize> {
        let values = values![org.0, i64::from(limit), i64::from(kept)];
        let count = self.write(|sql| &sql.node.nodes_waiting_prune, values)?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    fn nodes_passing_from(
        &mut self,
        org: OrgId,
        address: &NodeName,
        limit: u32,
    ) -> TxResult<Vec<DeviceIdentity>> {
        let Some(text) = address.address() else { return Ok(Vec::new()) };
        let gateway = address.gateway().to_string();
        let values = values![org.0, gateway, text.to_owned(), i64::from(limit)];
        let found = self.ask(self.query(|sql| &sql.node.nodes_passing_from, values))?;
        self.read(rows::each(&found, rows::identity))
    }

    fn nodes_passing_of_every_org(&mut self, server: &str, limit: u32) -> TxResult<Vec<DeviceIdentity>> {
        let values = values![server.to_owned(), i64::from(limit)];
        let found = self.ask(self.query(|sql| &sql.node.nodes_passing_at, values))?;
        self.read(rows::each(&found, rows::identity))
    }
}
