//! What can be asked of nodes.

use std::collections::BTreeMap;

use crate::access::Rights;
use crate::budget::Weight;
use crate::device::{DeviceIdentity, TagPut};
use crate::engine::after_commit::AfterCommit;
use crate::engine::{ForCaller, ForDevice, ForServer};
use crate::error::{Error, Result};
use crate::id::{NodeId, OrgId, TaskId};
use crate::node::{
    Admitted, LeftNodes, NextWrite, Node, NodeAdd, NodeAdmit, NodeApprove, NodeBlock, NodeCount, NodeFilter,
    NodeName, NodeRemove, NodeRename, NodeTold, NodeWrite, NodesLeave, NodesPassing, WriteNext,
};
use crate::port::{Page, PageRequest, ReadKind, Turn};
use crate::retention::RetentionClass;

/// How many passing nodes that a server has left behind are retired in one step.
/// Limit for each step: the rest follows at once.
const LEFT_BEHIND_MAX: u32 = 100;
/// How many servers that have left passing nodes behind are found with one look.
/// Limit for each look, and each start: the others are found with a later one.
const SERVERS_GONE_MAX: u32 = 100;
/// With how many looks in a row a server must be gone before its passing nodes are retired. One that has lost the
/// database alone still has its nodes.
pub(crate) const LOOKS_GONE: u32 = 10;

/// Servers that were gone whenever one looked, and how often that was.
#[derive(Debug, Default)]
pub struct ServersGone(BTreeMap<String, u32>);

impl ServersGone {
    /// After a look that found these gone: those that have been for long enough.
    fn looked(&mut self, gone: Vec<String>) -> Vec<String> {
        let looks = |server: &String| self.0.get(server).map_or(1, |looks| looks.saturating_add(1));
        self.0 = gone.iter().map(|server| (server.clone(), looks(server))).collect();
        gone.into_iter()
            .filter(|server| self.0.get(server).is_some_and(|looks| *looks >= LOOKS_GONE))
            .collect()
    }
}

impl ForCaller<'_> {
    /// A page of nodes, in the order of their numbers.
    ///
    /// # Errors
    /// A missing right, a page out of range, or the store's.
    pub async fn node_list(self, filter: NodeFilter, page: PageRequest) -> Result<Page<Node>> {
        self.caller.require_some(Rights::DEVICES_READ)?;
        let page = page.validate()?;
        let _scan = self.begin_read(ReadKind::NodeList)?;
        self.engine.parts.store.node_list(self.caller, filter, page).await
    }

    /// Lists a node, or an address of passing nodes: it is admitted when it is first heard of, whoever else may join.
    ///
    /// # Errors
    /// A missing right, [`Error::Conflict`] for one that is listed, a limit, or the store's.
    pub async fn node_add(self, name: NodeName) -> Result<Node> {
        self.caller.require(Rights::DEVICES_WRITE)?;
        self.charge(Weight::WRITE)?;
        let operation = NodeAdd { caller: self.caller.clone(), name };
        Ok(self.engine.execute_then(operation, told(self.caller.org)).await?.node)
    }

    /// Says yes to a node: its device is registered. Of an address it is noted that passing nodes may come from there.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], [`Error::SnTaken`], a limit, or the store's.
    pub async fn node_approve(self, id: NodeId) -> Result<Node> {
        self.caller.require(Rights::DEVICES_WRITE)?;
        self.charge(Weight::WRITE)?;
        let asked = self.engine.taken_names.ask(self.caller.org, self.engine.now());
        let asked = asked
            .ok_or(Error::Exhausted { limit: "too many serial numbers that are taken were asked for" })?;
        let operation = NodeApprove { caller: self.caller.clone(), id };
        let approved = self.engine.execute_then(operation, told(self.caller.org)).await;
        if matches!(approved, Err(Error::SnTaken)) {
            asked.told();
        }
        Ok(approved?.node)
    }

    /// Says no to a node: it is refused from now on, and its connection is closed. Of a passing node it is the address
    /// that is blocked, which is what is answered.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn node_block(self, id: NodeId) -> Result<Node> {
        self.caller.require_some(Rights::DEVICES_WRITE)?;
        self.charge_relief(Weight::WRITE)?;
        let operation = NodeBlock { caller: self.caller.clone(), id };
        Ok(self.engine.execute_then(operation, told(self.caller.org)).await?.node)
    }

    /// Forgets a node and retires its device; where whoever comes may join, it may come again.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn node_remove(self, id: NodeId) -> Result<Node> {
        self.caller.require_some(Rights::DEVICES_WRITE)?;
        self.charge_relief(Weight::WRITE)?;
        let operation = NodeRemove { caller: self.caller.clone(), id };
        Ok(self.engine.execute_then(operation, told(self.caller.org)).await?.node)
    }

    /// Sets what a node is called: the tag `name` of its device.
    ///
    /// # Errors
    /// A missing right, a name out of range, [`Error::NotFound`], [`Error::Conflict`] for a node without a device, or
    /// the store's.
    pub async fn node_rename(self, id: NodeId, name: String) -> Result<()> {
        self.caller.require_some(Rights::DEVICES_WRITE)?;
        let operation = NodeRename { caller: self.caller.clone(), id, name };
        TagPut::validate(&operation.tag()).map_err(|error| match error {
            Error::Invalid { problem, fault, .. } => Error::Invalid { field: "name", problem, fault },
            other => other,
        })?;
        self.charge(Weight::WRITE)?;
        self.engine.execute(operation).await.map(drop)
    }
}

/// Tells gateways that a node may join, or no longer.
fn told(org: OrgId) -> impl FnOnce(&AfterCommit, &NodeTold) + Send + 'static {
    move |after, told| {
        after.recorded();
        told.put_out.iter().for_each(|device| after.revoked(&device.sn));
        after.node_changed(org, &told.node.name);
    }
}

impl ForServer<'_> {
    /// Whether a node may join, and as which device. One that is known is answered from what is read; what changes
    /// something is written, and for a stranger that is bounded.
    ///
    /// # Errors
    /// An address out of range, a limit, or the store's.
    pub async fn node_admit(self, asked: NodeAdmit) -> Result<Admitted> {
        asked.validate()?;
        let store = &self.engine.parts.store;
        let known = store.node_of_name(asked.org, asked.name.clone()).await?;
        let address = match asked.passing_name()? {
            Some(name) => Some(store.node_of_name(asked.org, name).await?),
            None => None,
        };
        match asked.answer(&known, address.as_ref(), self.engine.now()) {
            Some((answer, is_noted)) => {
                if is_noted {
                    // Nobody waits for that, and it is asked again.
                    let _ = self.engine.submit(asked, |_, _| ());
                }
                Ok(answer)
            }
            None => self.engine.execute(asked).await,
        }
    }

    /// A passing node has gone: its open tasks end as FAILED (`device_gone`), and its device is retired.
    ///
    /// # Errors
    /// The store's.
    pub async fn node_leave(self, device: &DeviceIdentity) -> Result<()> {
        self.nodes_leave(vec![device.clone()], Turn::Org(device.org)).await
    }

    /// The same of all passing nodes whose connections this server held when it ran last.
    ///
    /// # Errors
    /// The store's.
    pub async fn nodes_passing_clear(self, server: &str) -> Result<()> {
        loop {
            let operation = NodesPassing { server: server.to_owned(), limit: LEFT_BEHIND_MAX };
            let devices = self.engine.execute(operation).await?;
            if devices.is_empty() {
                return Ok(());
            }
            self.nodes_leave(devices, Turn::Server).await?;
        }
    }

    /// The same of all servers that do not run, for one that is alone and has no node yet: it may have been called
    /// something else when it ran last.
    ///
    /// # Errors
    /// The store's.
    pub async fn nodes_passing_clear_all(self) -> Result<()> {
        for server in self.engine.parts.store.servers_gone_of_every_org(SERVERS_GONE_MAX).await? {
            self.nodes_passing_clear(&server).await?;
        }
        Ok(())
    }

    /// Looks once for servers that do not run, and retires the passing nodes of those that have not for [`LOOKS_GONE`]
    /// looks. Each server of a deployment does so.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn nodes_left_behind(self, gone: &mut ServersGone) -> Result<()> {
        let found = self.engine.parts.store.servers_gone_of_every_org(SERVERS_GONE_MAX).await?;
        for server in gone.looked(found) {
            self.nodes_passing_clear(&server).await?;
        }
        Ok(())
    }

    async fn nodes_leave(self, devices: Vec<DeviceIdentity>, turn: Turn) -> Result<()> {
        loop {
            let operation = NodesLeave { devices: devices.clone(), turn };
            let then = |after: &AfterCommit, left: &LeftNodes| {
                after.recorded();
                left.ended.iter().for_each(|detail| after.finished(detail));
            };
            if !self.engine.execute_then(operation, then).await?.is_more {
                return Ok(());
            }
        }
    }

    /// How many nodes are in each state, over all organisations.
    ///
    /// # Errors
    /// The store's.
    pub async fn node_counts_of_every_org(self) -> Result<Vec<NodeCount>> {
        self.engine.parts.store.node_counts_of_every_org().await
    }
}

impl ForDevice<'_> {
    /// What a gateway is to write into a node of which no write is under way: what was taken and left, then the values
    /// that the best of its open tasks sets. Tasks that a node cannot do end here, and so do older ones in whose places
    /// newer ones are. The result goes the way of every other ([`Self::task_finish`]); `finishing` are the writes of
    /// which it is on that way.
    ///
    /// # Errors
    /// The store's.
    pub async fn write_next(self, finishing: &[TaskId]) -> Result<Option<NodeWrite>> {
        let (began_us, key) = (self.engine.parts.clock.monotonic_us(), self.device.device);
        let org = self.device.org;
        loop {
            let operation = WriteNext {
                device: self.device.clone(),
                finishing: finishing.to_vec(),
                limits: self.engine.limits_for(self.device.org),
            };
            let then = move |after: &AfterCommit, next: &NextWrite| {
                next.ended.iter().for_each(|detail| after.finished(detail));
                let kept = |bytes: &usize| after.kept((org, key), RetentionClass::Tasks, *bytes, 1);
                next.answered.iter().for_each(kept);
                next.freed.iter().for_each(|freed| after.freed((org, key), freed));
                if let Some(task) = &next.taken {
                    after.answered(key, task.id);
                    after.taken(task);
                }
                after.took_since(crate::port::Step::Take, began_us);
            };
            let next = self.engine.execute_then(operation, then).await?;
            if next.write.is_some() || !next.is_more {
                return Ok(next.write);
            }
        }
    }
}
