//! Reads of nodes.

use covey_core::access::Caller;
use covey_core::id::OrgId;
use covey_core::node::{
    GatewayName, KnownName, Node, NodeCount, NodeFilter, NodeName, NodeReader, NodeState,
};
use covey_core::port::{Found, Page, PageRequest, ReadKind, Turn};

use crate::postgres::Postgres;
use crate::postgres::lists::{Conditions, SNAPSHOT, page};
use crate::postgres::pipeline::values;
use crate::postgres::pool::ReadSession;
use crate::rows::{self, ListColumns, ListScope, Read};

impl NodeReader for Postgres {
    fn node_of_name(&self, org: OrgId, name: NodeName) -> Found<'_, KnownName> {
        let (gateway, uid) = (name.gateway().to_string(), name.uid().to_owned());
        let sn = name.sn().as_str().to_owned();
        self.reads.read(ReadKind::NodeOfName, Turn::Server, move |session| {
            let (gateway, uid, sn) = (gateway.clone(), uid.clone(), sn.clone());
            Box::pin(async move {
                let steps = [
                    session.query(|sql| &sql.node.node_of_name, values![org.0, gateway, uid]),
                    session.query(|sql| &sql.node.registered, values![sn]),
                ];
                let [node, registered] = session.at_one_moment(SNAPSHOT, steps).await?;
                let node = node.first().map(|row| rows::node(row)).transpose()?;
                let registered = registered.first().map(|row| rows::registered(row)).transpose()?;
                Ok(KnownName { node, registered })
            })
        })
    }

    fn node_list(&self, caller: &Caller, filter: NodeFilter, page: PageRequest) -> Found<'_, Page<Node>> {
        let (org, scope) = (caller.org, ListScope::of(caller, ListColumns::NODES));
        self.reads.read(ReadKind::NodeList, Turn::Org(org), move |session| {
            let (filter, scope) = (filter.clone(), scope.clone());
            Box::pin(async move { node_page(session, org, scope.as_ref(), &filter, page).await })
        })
    }

    fn node_counts_of_every_org(&self) -> Found<'_, Vec<NodeCount>> {
        self.rows(
            ReadKind::NodeCounts,
            Turn::Server,
            |sql| &sql.node.node_counts,
            values![],
            rows::node_count,
        )
    }

    fn servers_gone_of_every_org(&self, limit: u32) -> Found<'_, Vec<String>> {
        let values = values![i64::from(limit)];
        self.rows(ReadKind::ServersGone, Turn::Server, |sql| &sql.node.servers_gone, values, rows::first)
    }
}

async fn node_page(
    session: &ReadSession,
    org: OrgId,
    scope: Option<&ListScope>,
    filter: &NodeFilter,
    request: PageRequest,
) -> Read<Page<Node>> {
    let mut conditions = Conditions::default();
    conditions.number("n.org_id = #", Some(org.0));
    conditions.scope(scope);
    conditions.number("n.id = #", filter.id.map(|id| id.0));
    conditions.text("n.state = #", filter.state.map(NodeState::name));
    conditions.text("n.gateway = #", filter.gateway.as_ref().map(GatewayName::as_str));
    conditions.text("n.uid = #", filter.uid.as_deref());
    if conditions.is_impossible {
        return Ok(Page { items: Vec::new(), total: 0, is_cut: false });
    }
    let clause = conditions.clause();
    let total = format!("SELECT count(*) FROM nodes n WHERE {clause}");
    let items = format!(
        "SELECT {} FROM {} WHERE {clause} ORDER BY n.id LIMIT {} OFFSET {}",
        rows::node_columns!(),
        rows::nodes!(),
        request.size,
        request.offset()
    );
    let (total, found) = page(session, &conditions, &total, &items).await?;
    Ok(Page { items: rows::each(&found, rows::node)?, total, is_cut: false })
}
