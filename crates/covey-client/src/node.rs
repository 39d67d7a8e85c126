//! Nodes: those that gateways have heard of, and who of them may join.

use covey_api::{NodeNew, NodeRename};
use reqwest::Method;

use crate::client::Client;
use crate::error::Result;
use crate::task::PageRequest;

/// A node, or an address from which passing nodes come.
pub type Node = covey_api::Node<'static>;
/// A page of nodes.
pub type NodePage = covey_api::NodePage<'static>;

/// Which nodes are wanted; all, if nothing is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFilter {
    /// The one with this number.
    pub id: Option<i64>,
    /// Those in this state: `waiting`, `admitted` or `blocked`.
    pub state: Option<String>,
    /// Those of the gateway of this name.
    pub gateway: Option<String>,
    /// The one with this uid.
    pub uid: Option<String>,
}

const NODES: [&str; 3] = ["api", "v1", "nodes"];

impl Client {
    /// A page of nodes, in the order of their numbers.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn node_list(&self, filter: &NodeFilter, page: PageRequest) -> Result<NodePage> {
        let request = self
            .request(Method::GET, &NODES)
            .query_if("id", filter.id)
            .query_if("state", filter.state.as_ref())
            .query_if("gateway", filter.gateway.as_ref())
            .query_if("uid", filter.uid.as_ref());
        page.add_to(request).send().await?.json()
    }

    /// Lists a node: it may join as soon as it is heard of.
    ///
    /// # Errors
    /// A refusal (409 if it is listed), or the transport's.
    pub async fn node_add(&self, request: &NodeNew) -> Result<Node> {
        self.request(Method::POST, &NODES).json(request).send().await?.json()
    }

    /// Says yes to a node: its device is registered.
    ///
    /// # Errors
    /// A refusal (404 if there is none of that number), or the transport's.
    pub async fn node_approve(&self, id: i64) -> Result<Node> {
        self.of_node(Method::POST, id, &["approve"]).send().await?.json()
    }

    /// Says no to a node; of a passing one, to its address, which is what is answered.
    ///
    /// # Errors
    /// A refusal (404 if there is none of that number), or the transport's.
    pub async fn node_block(&self, id: i64) -> Result<Node> {
        self.of_node(Method::POST, id, &["block"]).send().await?.json()
    }

    /// Sets what a node is called.
    ///
    /// # Errors
    /// A refusal (409 if it has no device yet), or the transport's.
    pub async fn node_rename(&self, id: i64, name: &str) -> Result<()> {
        let body = NodeRename { name: name.to_owned() };
        self.of_node(Method::POST, id, &["rename"]).json(&body).send().await.map(|_| ())
    }

    /// Forgets a node and retires its device.
    ///
    /// # Errors
    /// A refusal (404 if there is none of that number), or the transport's.
    pub async fn node_remove(&self, id: i64) -> Result<Node> {
        self.of_node(Method::DELETE, id, &[]).send().await?.json()
    }

    fn of_node(&self, method: Method, id: i64, action: &[&str]) -> crate::client::Request<'_> {
        let id = id.to_string();
        let path: Vec<_> = NODES.iter().copied().chain([id.as_str()]).chain(action.iter().copied()).collect();
        self.request(method, &path)
    }
}
