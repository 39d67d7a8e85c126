//! `covey node`: the nodes that gateways have heard of, who of them may join, and setting their values.

use std::borrow::Cow;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::{Args, Subcommand};
use covey_client::{Node, NodeFilter, NodeNew, PageRequest, RawValue, TaskRequest, Whole};
use serde_json::json;

use crate::command::connection::{Connection, Target};
use crate::command::output::{cell, printable};
use crate::command::{call, moment};

/// The method that sets resources of a node.
const SET_METHOD: &str = "set";

/// `covey node`.
#[derive(Args)]
pub struct NodeArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Subcommand)]
enum NodeCommand {
    /// List nodes, those that wait to be admitted among them
    #[command(after_help = "Examples:\n  \
        covey node list --state waiting\n  \
        covey node list --gateway coap --json | jq -r .uid")]
    List(ListArgs),
    /// List a node in advance: it may join as soon as it is heard of
    #[command(after_help = "Examples:\n  \
        covey node add coap 1234\n  \
        covey node add ws @192.0.2.7   (all passing nodes that come from this address)")]
    Add {
        /// The gateway that speaks for it
        #[arg(value_name = "GATEWAY")]
        gateway: String,
        /// What it calls itself
        #[arg(value_name = "UID")]
        uid: String,
    },
    /// Say yes to a node: its device is registered
    #[command(after_help = "Examples:\n  covey node approve 7\n  covey node approve coap/1234")]
    Approve {
        /// Its number, or gateway/uid
        #[arg(value_name = "NODE")]
        node: NodeRef,
    },
    /// Say no to a node: it is refused from now on, and its connection is closed
    #[command(after_help = "Example: covey node block coap/1234\n\
        Its device stays; covey node approve lets it in again. Of a node that has a new uid at each connection, it is \
        the address that is blocked.")]
    Block {
        /// Its number, or gateway/uid
        #[arg(value_name = "NODE")]
        node: NodeRef,
    },
    /// Say what a node is called: the tag name of its device
    #[command(after_help = "Example: covey node rename coap/1234 window")]
    Rename {
        /// Its number, or gateway/uid
        #[arg(value_name = "NODE")]
        node: NodeRef,
        /// What it is to be called
        name: String,
    },
    /// Forget a node and retire its device
    #[command(after_help = "Example: covey node rm coap/1234\n\
        Where whoever comes may join, it may come again, as a new device.")]
    Rm {
        /// Its number, or gateway/uid
        #[arg(value_name = "NODE")]
        node: NodeRef,
    },
    /// Set a value of a node, and wait until it is written
    #[command(
        after_help = "Examples:\n  covey node set coap/1234 led 1\n  covey node set 7 name window --ttl 60\n\n\
        The value is text, as nodes write it. Exit code as of covey call: 0 done, 1 failed, expired or deleted, 2 no \
        server or no valid key, 3 still open when the wait ended."
    )]
    Set(SetArgs),
}

#[derive(Args)]
struct ListArgs {
    /// Only nodes in this state
    #[arg(long, value_name = "STATE", value_parser = ["waiting", "admitted", "blocked"])]
    state: Option<String>,
    /// Only nodes of this gateway
    #[arg(long)]
    gateway: Option<String>,
    /// Number of the page
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    page: u32,
    /// Nodes per page
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    size: u32,
}

#[derive(Args)]
struct SetArgs {
    /// Its number, or gateway/uid
    #[arg(value_name = "NODE")]
    node: NodeRef,
    /// The resource
    #[arg(value_name = "RESOURCE")]
    resource: String,
    /// What it is to be
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    value: String,
    /// How long to wait until it is written
    #[arg(long, value_name = "SECONDS", default_value_t = call::WAIT_DEFAULT_S, value_parser = clap::value_parser!(u64).range(1..=call::WAIT_MAX_S))]
    wait: u64,
    /// Time to live of the task. Without it, as long as the wait, at least a minute
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(0..=call::TTL_MINUTES_MAX as i64))]
    ttl: Option<u32>,
    /// Priority, 0 to 9; higher goes first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
}

/// A node as a person names it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum NodeRef {
    /// By its number.
    Id(i64),
    /// By the gateway that speaks for it and what it calls itself.
    Name(String, String),
}

impl FromStr for NodeRef {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // No gateway's name holds a slash, and a uid may.
        if let Some((gateway, uid)) = text.split_once('/') {
            return Ok(Self::Name(gateway.to_owned(), uid.to_owned()));
        }
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse()
            .ok()
            .filter(|_| is_number)
            .map(Self::Id)
            .ok_or("name it by its number, or as gateway/uid")
    }
}

impl NodeRef {
    /// The node's number.
    async fn id(&self, connection: &Connection) -> Result<i64> {
        match self {
            Self::Id(id) => Ok(*id),
            Self::Name(..) => Ok(self.find(connection).await?.id),
        }
    }

    /// The node itself.
    async fn find(&self, connection: &Connection) -> Result<Node> {
        let filter = match self.clone() {
            Self::Id(id) => NodeFilter { id: Some(id), ..NodeFilter::default() },
            Self::Name(gateway, uid) => {
                NodeFilter { gateway: Some(gateway), uid: Some(uid), ..NodeFilter::default() }
            }
        };
        let page = connection.client.node_list(&filter, PageRequest { page: 1, size: 1 }).await?;
        let found = page.items.into_iter().next();
        found.ok_or_else(|| self.unknown(connection))
    }

    fn unknown(&self, connection: &Connection) -> anyhow::Error {
        let name = match self {
            Self::Id(id) => format!("with number {id}"),
            Self::Name(gateway, uid) => printable(&format!("{gateway}/{uid}")),
        };
        anyhow!("there is no node {name}: \"{}\" shows those that there are", connection.command("node list"))
    }

    /// What a refusal means for this node.
    fn explained(&self, error: covey_client::Error, connection: &Connection) -> anyhow::Error {
        if error.is_not_found() { self.unknown(connection) } else { error.into() }
    }
}

/// Runs `covey node`.
pub async fn run(args: NodeArgs, connection: &Connection) -> Result<ExitCode> {
    match args.command {
        NodeCommand::List(args) => list(args, connection).await?,
        NodeCommand::Add { gateway, uid } => {
            let node = connection.client.node_add(&NodeNew { gateway, uid }).await?;
            tell(connection, &node, "is listed: it may join as soon as it is heard of")?;
        }
        NodeCommand::Approve { node } => {
            let approved = connection.client.node_approve(node.id(connection).await?).await;
            let approved = approved.map_err(|error| node.explained(error, connection))?;
            let how = approved.sn.as_deref().map(|sn| format!("is the device {sn}"));
            tell(connection, &approved, &how.unwrap_or_else(|| "may join".to_owned()))?;
        }
        NodeCommand::Block { node } => {
            let blocked = connection.client.node_block(node.id(connection).await?).await;
            tell(connection, &blocked.map_err(|error| node.explained(error, connection))?, "is blocked")?;
        }
        NodeCommand::Rename { node, name } => {
            let id = node.id(connection).await?;
            let renamed = connection.client.node_rename(id, &name).await;
            renamed.map_err(|error| node.explained(error, connection))?;
            if connection.output.json {
                connection.output.json(&json!({"id": id, "name": name}))?;
            } else {
                connection.output.text(&format!("node {id} is called {}", printable(&name)))?;
            }
        }
        NodeCommand::Rm { node } => {
            let removed = connection.client.node_remove(node.id(connection).await?).await;
            let removed = removed.map_err(|error| node.explained(error, connection))?;
            let how = removed.sn.as_deref().map(|sn| format!("is forgotten; its device {sn} is retired"));
            tell(connection, &removed, &how.unwrap_or_else(|| "is forgotten".to_owned()))?;
        }
        NodeCommand::Set(args) => return set(args, connection).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// How a person may name a node again.
fn name_of(node: &Node) -> String {
    printable(&format!("{}/{}", node.gateway, node.uid))
}

fn tell(connection: &Connection, node: &Node, what: &str) -> Result<()> {
    if connection.output.json {
        return Ok(connection.output.json(node)?);
    }
    Ok(connection.output.text(&format!("{} (number {}) {}", name_of(node), node.id, printable(what)))?)
}

async fn list(args: ListArgs, connection: &Connection) -> Result<()> {
    let ListArgs { state, gateway, page, size } = args;
    let filter = NodeFilter { state, gateway, ..NodeFilter::default() };
    let found = connection.client.node_list(&filter, PageRequest { page, size }).await?;
    let output = connection.output;
    if found.items.is_empty() && !output.json {
        let is_all = filter == NodeFilter::default() && page == 1;
        output.note(if is_all { "no nodes yet: no gateway has heard of any" } else { "no such nodes" });
        return Ok(());
    }
    let columns = ["ID", "NODE", "STATE", "ADDRESS", "SN", "ASKED"];
    output.list(&columns, &found.items, |node| {
        vec![
            cell(node.id.to_string()),
            cell(name_of(node)),
            cell(&*node.state),
            cell(&*node.address),
            cell(node.sn.as_deref().unwrap_or_default()),
            cell(moment::ago(node.last_asked)),
        ]
    })?;
    if found.total > found.items.len() as u64 && !output.json {
        output.note(&format!(
            "{} of {} nodes; --page and --size show others",
            found.items.len(),
            found.total
        ));
    }
    Ok(())
}

async fn set(args: SetArgs, connection: &Connection) -> Result<ExitCode> {
    let node = args.node.find(connection).await?;
    let Some(device_id) = node.device_id else {
        let approve = connection.command(&format!("node approve {}", node.id));
        bail!("{} has no device yet, it is {}; to let it join: {approve}", name_of(&node), node.state);
    };
    let mut request = TaskRequest::for_device_id(device_id).with_method(SET_METHOD);
    let payload = json!({ args.resource.as_str(): args.value.as_str() }).to_string();
    request.task.payload = Some(Cow::Owned(RawValue::from_string(payload)?));
    request.task.priority = args.priority.map(|priority| Whole(priority.into()));
    let ttl = args.ttl.unwrap_or_else(|| call::ttl_for(args.wait));
    request.task.ttl = Some(Whole(ttl.into()));
    request.idempotency_key = Some(uuid::Uuid::new_v4().to_string());
    call::wait(&request, Duration::from_secs(args.wait), connection).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_node_is_named_by_its_number_or_by_gateway_and_uid() {
        let name = |gateway: &str, uid: &str| NodeRef::Name(gateway.to_owned(), uid.to_owned());
        for (text, named) in
            [("7", NodeRef::Id(7)), ("coap/7", name("coap", "7")), ("mqtt/a/b c", name("mqtt", "a/b c"))]
        {
            assert_eq!(text.parse::<NodeRef>().unwrap(), named);
        }
        for bad in ["", "coap", "-7", "+7", "99999999999999999999"] {
            assert!(bad.parse::<NodeRef>().is_err(), "{bad:?}");
        }
    }
}
