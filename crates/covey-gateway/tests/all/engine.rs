//! The port of a gateway, over an engine on SQLite.

use std::sync::Arc;
use std::time::Instant;

use covey_core::access::Caller;
use covey_core::budget::Budgets;
use covey_core::device::IssuedCertificate;
use covey_core::error::Error;
use covey_core::id::{NodeId, Sn, TaskId, UnixMs};
use covey_core::limits::Limits;
use covey_core::links::Links;
use covey_core::node::{Admission, GatewayName, NodeName};
use covey_core::port::{CertificateIssuer, CertificateKey, Clock, Event, Ids, NoPeers, Observer, Step};
use covey_core::retention::RetentionDays;
use covey_core::webhook::NoWebhooks;
use covey_core::{Engine, Parts};
use covey_gateway::engine::{EngineNode, EnginePort, GatewayLink, Policy};
use covey_gateway::node::{Gone, Verdict};
use covey_gateway::port::{Hint, Newcomer, Port};
use covey_store::sqlite::{self, Sqlite};
use uuid::Uuid;

struct SystemClock(Instant);

impl Clock for SystemClock {
    fn now(&self) -> UnixMs {
        UnixMs(i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap())
    }

    fn monotonic_us(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }
}

/// What these tests ask nothing of.
struct Nobody;

impl Observer for Nobody {
    fn took(&self, _: Step, _: u64) {}

    fn happened(&self, _: Event) {}
}

impl Ids for Nobody {
    fn task_id(&self) -> TaskId {
        TaskId(Uuid::now_v7())
    }

    fn sn(&self) -> Sn {
        Sn::parse(&Uuid::new_v4().simple().to_string()).unwrap()
    }

    fn api_key(&self) -> String {
        Uuid::new_v4().to_string()
    }
}

impl CertificateIssuer for Nobody {
    fn issue(&self, _: &Sn, _: CertificateKey<'_>, _: UnixMs) -> Result<IssuedCertificate, Error> {
        Err(Error::not_found("issuer"))
    }

    fn issue_claim(&self, _: UnixMs, _: UnixMs) -> Result<IssuedCertificate, Error> {
        Err(Error::not_found("issuer"))
    }
}

/// A server with a gateway, and a node that is listed.
struct World {
    engine: Arc<Engine>,
    caller: Caller,
    port: Arc<EnginePort>,
    uid: Arc<str>,
    node: NodeId,
    _data: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock(Instant::now()));
        let options = sqlite::Options::new(sqlite::file_in(data.path()));
        let store = Sqlite::open(&options, Arc::clone(&clock), Arc::new(Nobody)).unwrap();
        let link = GatewayLink::new("mqtt");
        let engine = Arc::new(Engine::new(Parts {
            store: Arc::new(store),
            links: Links::new([Arc::clone(&link) as _]),
            peers: Arc::new(NoPeers),
            issuer: Arc::new(Nobody),
            clock,
            ids: Arc::new(Nobody),
            observer: Arc::new(Nobody),
            key_hasher: |_| [7; 32],
            limits: Limits::default(),
            retention: RetentionDays::default(),
            budgets: Budgets::default(),
            gauge_types: Vec::new(),
            unit_rule: Arc::new(|_| Ok(())),
            webhooks: Arc::new(NoWebhooks),
            webhook_retry_ms: 86_400_000,
        }));
        engine.server().api_key_first("default", "admin", "key").await.unwrap();
        let caller = Caller::of(&engine.server().api_key_check("key").await.unwrap().unwrap());
        let policy = Policy { org: caller.org, admission: Admission::Open, server: "a".to_owned() };
        let port = EnginePort::new(Arc::clone(&engine), link, "MQTT", policy).unwrap();
        let name = NodeName::parse(GatewayName::parse("mqtt").unwrap(), "lamp").unwrap();
        let node = engine.for_caller(&caller).node_add(name).await.unwrap().id;
        // What it is told of that is no news to a gateway that has no nodes yet.
        assert_eq!(port.next_hint().await, Hint::AskAgain);
        Self { engine, caller, port, uid: Arc::from("lamp"), node, _data: data }
    }

    async fn join(&self) -> Verdict<EngineNode> {
        let (uid, address) = (Arc::clone(&self.uid), Arc::from("192.0.2.1"));
        self.port.join(Newcomer { uid, address, is_passing: false }).await
    }

    /// Its gateway hears that the node may join, and that it may no longer.
    async fn comes_and_is_put_out(&self, node: &EngineNode) {
        self.port.came(&self.uid, node, 1, "192.0.2.1");
        assert_eq!(self.port.next_hint().await, Hint::Revoked(vec![Arc::clone(&self.uid)]));
        self.port.went(node, 1, Gone::Revoked).await;
    }
}

fn joined(verdict: Verdict<EngineNode>) -> EngineNode {
    match verdict {
        Verdict::Joined(node) => node,
        other => unreachable!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_that_is_blocked_after_it_was_allowed_and_before_it_came_is_put_out() {
    let world = World::new().await;
    let node = joined(world.join().await);
    world.engine.for_caller(&world.caller).node_block(world.node).await.unwrap();
    world.comes_and_is_put_out(&node).await;
    assert!(matches!(world.join().await, Verdict::Refused("it is blocked")));
}

#[tokio::test]
async fn a_node_that_is_removed_after_it_was_allowed_and_before_it_came_is_put_out_and_may_come_anew() {
    let world = World::new().await;
    let node = joined(world.join().await);
    world.engine.for_caller(&world.caller).node_remove(world.node).await.unwrap();
    world.comes_and_is_put_out(&node).await;
    joined(world.join().await);
}
