//! Bounds that are reached by rows in great number: on the store that is filled fastest.

use covey_core::Error;
use covey_core::id::NodeId;
use covey_core::node::{
    Admission, Admitted, GatewayName, NODES_MAX, NewNode, NodeAdmit, NodeName, NodeState,
};
use futures_executor::block_on;

use crate::world::sqlite::SqliteBackend;
use crate::world::steps::run;
use crate::world::{SERVER, World};

fn name(uid: &str) -> NodeName {
    NodeName::parse(GatewayName::parse("coap").unwrap(), uid).unwrap()
}

#[test]
fn an_organisation_has_no_more_nodes_than_may_be_also_where_they_are_blocked() {
    let world = World::new(SqliteBackend::new());
    let (org, at) = (world.org(0).org, world.now());
    let caller = || world.engine().for_caller(world.org(0));
    let admit = |uid: &str, admission| {
        let asked = NodeAdmit {
            org,
            name: name(uid),
            address: "192.0.2.7".to_owned(),
            is_passing: false,
            admission,
            server: SERVER.to_owned(),
        };
        block_on(world.engine().server().node_admit(asked))
    };
    let blocked: NodeId = run(&world, move |tx| {
        let mut last = NodeId(0);
        for number in 1..NODES_MAX {
            let node = NewNode {
                org,
                name: name(&number.to_string()),
                address: String::new(),
                state: NodeState::Blocked,
                device: None,
                passing_at: None,
                at,
            };
            last = tx.node_insert(&node)?;
        }
        Ok(last)
    });
    let is_refused = |outcome: Result<(), Error>| matches!(outcome, Err(Error::Exhausted { .. }));
    let last = block_on(caller().node_add(name("last"))).unwrap();
    assert!(is_refused(block_on(caller().node_add(name("one more"))).map(drop)));
    // Blocking makes no room, and is never refused.
    block_on(caller().node_block(last.id)).unwrap();
    assert!(is_refused(block_on(caller().node_add(name("one more"))).map(drop)));
    assert!(is_refused(admit("one more", Admission::Open).map(drop)));
    assert_eq!(admit("stranger", Admission::Approve), Ok(Admitted::Waiting));
    let waiting = run(&world, move |tx| Ok(tx.node_of_name(org, &name("stranger"))?.node.unwrap().id));
    assert!(is_refused(block_on(caller().node_approve(waiting)).map(drop)));
    block_on(caller().node_block(waiting)).unwrap();
    // Who is blocked counts already.
    block_on(caller().node_approve(blocked)).unwrap();
    for id in [blocked, waiting] {
        block_on(caller().node_remove(id)).unwrap();
    }
    block_on(caller().node_add(name("one more"))).unwrap();
}
