//! What a gateway asks of whoever decides: the engine of this server, or the broker at the other end of `/gw`.

use std::pin::Pin;
use std::sync::Arc;

use crate::node::{Gone, Outcome, Verdict, Write};

/// Something that is known later.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A node that asks to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// Its uid.
    pub uid: Arc<str>,
    /// Where it was heard.
    pub address: Arc<str>,
    /// Whether the uid is that of one connection: nothing of the node stays when it is gone.
    pub is_passing: bool,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// It is stored.
    Stored,
    /// It breaks a limit: said again it would be refused again.
    Refused,
    /// It can be said again later.
    Later,
}

/// What a node has said.
#[derive(Clone, Debug)]
pub struct Report<N> {
    /// What the node is to the port.
    pub node: N,
    /// Resource and value, as JSON text, in the order in which they came.
    pub values: Vec<(String, Arc<str>)>,
}

/// Who decides. Each future is begun, that is polled for the first time, in the order in which it was made for its
/// node; what must keep its order is begun then.
pub trait Port: Send + Sync + 'static {
    /// What a node is to the port.
    type Node: Clone + Send + Sync + 'static;
    /// What a write is to the port.
    type Write: Clone + Send + Sync + 'static;

    /// Whether a node may join.
    fn join(&self, newcomer: Newcomer) -> Later<Verdict<Self::Node>>;

    /// A node is here: its visit tells this appearance from others.
    fn came(&self, uid: &Arc<str>, node: &Self::Node, visit: u64, address: &str);

    /// A node has begun anew: what it said is of the past.
    fn reset(&self, _node: &Self::Node) {}

    /// Nodes have said values; answers what became of each report, in their order.
    fn report(&self, reports: Vec<Report<Self::Node>>) -> Later<Vec<Reported>>;

    /// A node is gone.
    fn went(&self, node: &Self::Node, visit: u64, why: Gone) -> Later<()>;

    /// The next write of a node, if there is one; `now_ms` is the present instant of the gateway's clock.
    fn next_write(&self, node: &Self::Node, now_ms: u64) -> Later<Option<Write<Self::Write>>>;

    /// A write has not left for as long as it was wanted. It is asked for the next one now, which may be the same.
    fn given_back(&self, _node: &Self::Node, _write: Self::Write) {}

    /// What came of a write.
    fn finish(&self, node: &Self::Node, write: Self::Write, outcome: Outcome) -> Later<()>;

    /// What has happened that the gateway must hear of; ends when the gateway is to end.
    fn next_hint(&self) -> Later<Hint>;
}

/// What the port tells a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// There may be something to write to these nodes.
    Wanted(Vec<Arc<str>>),
    /// These nodes may no longer take part.
    Revoked(Vec<Arc<str>>),
    /// Somebody has changed who may join.
    AskAgain,
}
