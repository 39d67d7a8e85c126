//! `/api/v1/nodes`: the nodes that gateways have heard of, and who of them may join (rest-api "Nodes").

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;

use axum::http::StatusCode;
use covey_api::{Node, NodeNew, NodePage, NodeRename, NodeRenamed};
use covey_core::id::NodeId;
use covey_core::node::{GatewayName, NodeFilter, NodeName, NodeState};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Asked;
use crate::docs::{
    BodyProblems, ConflictProblem, GuardProblems, InvalidProblem, NotFoundProblem, ScanProblems,
};
use crate::extract::{Parameters, RawBody, Segment};
use crate::problem::Answer;
use crate::wire::{Whole, from_text, json, page};

/// How many nodes a page has unless asked for otherwise.
const SIZE_DEFAULT: u32 = 50;

/// The routes of nodes.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([
        routes!(node_list, node_add),
        routes!(node_remove),
        routes!(node_approve),
        routes!(node_block),
        routes!(node_rename),
    ])
}

/// A state in a query.
struct StateWanted(NodeState);

impl FromStr for StateWanted {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        NodeState::from_name(text).map(Self).ok_or("must be waiting, admitted or blocked")
    }
}

/// A gateway in a query.
struct GatewayWanted(GatewayName);

impl FromStr for GatewayWanted {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        GatewayName::parse(text).map(Self).map_err(|_| "must be 1 to 16 characters of a-z 0-9")
    }
}

/// Which nodes are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct NodeListQuery {
    /// The one with this number.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false)]
    id: Option<Whole>,
    /// Those in this state.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = covey_api::NodeStateName, inline, required = false)]
    state: Option<StateWanted>,
    /// Those of the gateway of this name.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = String, required = false, pattern = "^[a-z0-9]{1,16}$")]
    gateway: Option<GatewayWanted>,
    /// The one with this uid, or those, of several gateways.
    #[serde(default)]
    #[param(nullable = false)]
    uid: Option<String>,
    /// The number of the page.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1_000_000_000, default = 1)]
    page: Option<Whole>,
    /// How many nodes a page has.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1000, default = 50)]
    size: Option<Whole>,
}

/// A page of nodes, in the order of their numbers
#[utoipa::path(
    get, path = "/api/v1/nodes", tag = "nodes",
    params(NodeListQuery),
    responses(
        (status = 200, description = "The page.", body = NodePage),
        InvalidProblem, ScanProblems, GuardProblems,
    )
)]
async fn node_list(asked: Asked, Parameters(query): Parameters<NodeListQuery>) -> Answer {
    let wanted = page(query.page, query.size, SIZE_DEFAULT);
    let filter = NodeFilter {
        id: query.id.map(|Whole(id)| NodeId(id)),
        state: query.state.map(|StateWanted(state)| state),
        gateway: query.gateway.map(|GatewayWanted(name)| name),
        uid: query.uid,
    };
    let found = asked.engine().node_list(filter, wanted).await?;
    Ok(json(StatusCode::OK, &NodePage::of(&found, wanted)))
}

/// Lists a node: it may join as soon as it is heard of, whoever else may
#[utoipa::path(
    post, path = "/api/v1/nodes", tag = "nodes",
    request_body(content = NodeNew, content_type = "application/json",
        example = json!({"gateway": "coap", "uid": "1234"})),
    responses(
        (status = 201, description = "The node is listed.", body = Node),
        BodyProblems, ConflictProblem, GuardProblems,
    )
)]
async fn node_add(asked: Asked, body: RawBody) -> Answer {
    let NodeNew { gateway, uid } = body.read()?;
    let name = NodeName::listed(GatewayName::parse(&gateway)?, &uid)?;
    let node = asked.engine().node_add(name).await?;
    Ok(json(StatusCode::CREATED, &Node::of(&node)))
}

/// Says yes to a node: its device is registered, and it may join
#[utoipa::path(
    post, path = "/api/v1/nodes/{id}/approve", tag = "nodes",
    params(("id" = i64, Path, description = "The node's number.")),
    responses(
        (status = 200, description = "The node.", body = Node),
        InvalidProblem, NotFoundProblem, ConflictProblem, GuardProblems,
    )
)]
async fn node_approve(asked: Asked, Segment(Whole(id)): Segment<Whole>) -> Answer {
    let node = asked.engine().node_approve(NodeId(id)).await?;
    Ok(json(StatusCode::OK, &Node::of(&node)))
}

/// Says no to a node: it is refused from now on
///
/// Its device stays. Of a passing node it is the address that is blocked, which is what is answered.
#[utoipa::path(
    post, path = "/api/v1/nodes/{id}/block", tag = "nodes",
    params(("id" = i64, Path, description = "The node's number.")),
    responses(
        (status = 200, description = "The node.", body = Node),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
async fn node_block(asked: Asked, Segment(Whole(id)): Segment<Whole>) -> Answer {
    let node = asked.engine().node_block(NodeId(id)).await?;
    Ok(json(StatusCode::OK, &Node::of(&node)))
}

/// Sets what a node is called: the tag `name` of its device
#[utoipa::path(
    post, path = "/api/v1/nodes/{id}/rename", tag = "nodes",
    params(("id" = i64, Path, description = "The node's number.")),
    request_body(content = NodeRename, content_type = "application/json", example = json!({"name": "window"})),
    responses(
        (status = 200, description = "The node is renamed.", body = NodeRenamed),
        BodyProblems, NotFoundProblem, ConflictProblem, GuardProblems,
    )
)]
async fn node_rename(asked: Asked, Segment(Whole(id)): Segment<Whole>, body: RawBody) -> Answer {
    let NodeRename { name } = body.read()?;
    asked.engine().node_rename(NodeId(id), name.clone()).await?;
    Ok(json(StatusCode::OK, &NodeRenamed { id, name: Cow::Owned(name) }))
}

/// Forgets a node and retires its device
///
/// Where whoever comes may join, it may come again, as a new device.
#[utoipa::path(
    delete, path = "/api/v1/nodes/{id}", tag = "nodes",
    params(("id" = i64, Path, description = "The node's number.")),
    responses(
        (status = 200, description = "The node, as it was.", body = Node),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
async fn node_remove(asked: Asked, Segment(Whole(id)): Segment<Whole>) -> Answer {
    let node = asked.engine().node_remove(NodeId(id)).await?;
    Ok(json(StatusCode::OK, &Node::of(&node)))
}
