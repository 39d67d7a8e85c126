//! Several engines on one store, with the wire between them in the test's hand.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use covey_core::access::{Caller, Rights};
use covey_core::device::{DeviceIdentity, DeviceSpec};
use covey_core::id::{DeviceKey, OrgId, Sn, TaskId};
use covey_core::limits::Limits;
use covey_core::links::Links;
use covey_core::node::NodeName;
use covey_core::port::{Announcement, BoxFuture, FromPeers, Link, PeerMessage, Peers, Store};
use covey_core::task::{Task, TaskSpec};
use covey_core::watch::Watch;
use covey_core::webhook::NoWebhooks;
use covey_core::{Engine, Parts};
use futures_executor::block_on;

use crate::world::parts::{Outside, digest};
use crate::world::sqlite::SqliteBackend;
use crate::world::store::WatchedStore;
use crate::world::{Backend, announce_at, result};

/// What one server has told and the others have not heard yet.
#[derive(Default)]
struct Wire(Mutex<Vec<PeerMessage>>);

impl Peers for Wire {
    fn broadcast(&self, message: PeerMessage) {
        self.0.lock().unwrap().push(message);
    }
}

/// The name of the servers' link.
const LINK: &str = "broker";

/// A link to devices that all servers reach, or each its own.
struct Broker {
    is_shared: bool,
    announced: Arc<Mutex<Vec<TaskId>>>,
    changed: Arc<Mutex<Vec<NodeName>>>,
}

impl Link for Broker {
    fn announce(&self, task: Announcement) {
        self.announced.lock().unwrap().push(task.id);
    }

    fn revoke(&self, _: &Sn) {}

    fn node_changed(&self, _: OrgId, name: &NodeName) {
        self.changed.lock().unwrap().push(name.clone());
    }

    fn name(&self) -> &'static str {
        LINK
    }

    fn admit(&self, _: &Sn) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn is_shared(&self) -> bool {
        self.is_shared
    }
}

struct Server {
    changed: Arc<Mutex<Vec<NodeName>>>,
    engine: Engine,
    store: Arc<WatchedStore>,
    wire: Arc<Wire>,
}

/// The servers, and the devices' side of their links.
pub struct Servers {
    servers: Vec<Server>,
    caller: Caller,
    is_shared: bool,
    announced: Arc<Mutex<Vec<TaskId>>>,
    outside: Outside,
    store: Arc<dyn Store>,
    _bench: SqliteBackend,
}

impl Servers {
    pub fn new(count: usize, is_shared: bool) -> Self {
        let backend = SqliteBackend::new();
        let outside = Outside::default();
        let store = backend.open(Arc::clone(&outside.clock) as _, Arc::clone(&outside.counts) as _);
        let announced = Arc::default();
        let servers = (0..count).map(|_| server(&outside, &store, is_shared, &announced)).collect::<Vec<_>>();
        let root = crate::world::root();
        let made =
            block_on(servers[0].engine.for_caller(&root).api_key_add("first", "test", Rights::ALL)).unwrap();
        let caller = Caller::of(&made.key);
        Self { servers, caller, is_shared, announced, outside, store, _bench: backend }
    }

    pub fn device(&self) -> DeviceIdentity {
        let registered =
            self.servers[0].engine.for_caller(&self.caller).device_register(DeviceSpec::default());
        block_on(registered).unwrap().0.identity
    }

    /// The device connects: to this server, or to the broker that all share,
    /// and this server is the first to say so.
    pub fn listen_at(&self, first: usize, device: &DeviceIdentity) {
        for (number, server) in self.servers.iter().enumerate() {
            if number == first {
                server.engine.for_device(device).subscribed(LINK);
            } else if self.is_shared {
                server.engine.for_device(device).subscribed_elsewhere(LINK);
            }
        }
        self.announce();
    }

    /// One server hears of a connection to the broker, as the first.
    pub fn listen_first_at(&self, at: usize, device: &DeviceIdentity) {
        self.servers[at].engine.for_device(device).subscribed(LINK);
        self.announce();
    }

    /// Another hears of it.
    pub fn listen_elsewhere_at(&self, at: usize, device: &DeviceIdentity) {
        self.servers[at].engine.for_device(device).subscribed_elsewhere(LINK);
        self.announce();
    }

    pub fn create(&self, at: usize, spec: TaskSpec) -> Arc<Task> {
        let engine = &self.servers[at].engine;
        let made =
            block_on(engine.for_caller(&self.caller).task_create(engine.task_id(), spec, None)).unwrap().task;
        self.announce();
        made
    }

    /// A server that knows of no device stores a task, tells nobody, and is gone.
    pub fn create_and_die(&self, _at: usize, spec: TaskSpec) -> TaskId {
        let dying = server(&self.outside, &self.store, self.is_shared, &Arc::default());
        let made = dying.engine.for_caller(&self.caller).task_create(dying.engine.task_id(), spec, None);
        block_on(made).unwrap().task.id
    }

    pub fn finish(&self, at: usize, device: &DeviceIdentity, task: TaskId) {
        let engine = &self.servers[at].engine;
        block_on(engine.for_device(device).task_next(Some(task))).unwrap();
        block_on(engine.for_device(device).task_finish(task, result(200, 0, ""))).unwrap();
        self.announce();
    }

    pub fn list_node(&self, at: usize, name: NodeName) {
        block_on(self.servers[at].engine.for_caller(&self.caller).node_add(name)).unwrap();
    }

    /// The nodes of which a server's gateways have heard that they may get another answer.
    pub fn changed(&self, at: usize) -> Vec<NodeName> {
        self.servers[at].changed.lock().unwrap().clone()
    }

    pub fn watch(&self, at: usize, task: TaskId) -> Waiting {
        Waiting(self.servers[at].engine.for_caller(&self.caller).task_watch(task))
    }

    /// Everything that was told reaches all others, and so does what they tell then.
    pub fn deliver(&self) {
        self.deliver_times(1);
    }

    pub fn deliver_twice(&self) {
        self.deliver_times(2);
    }

    fn deliver_times(&self, times: usize) {
        loop {
            let told: Vec<_> = self.servers.iter().map(|server| server.take_told()).collect();
            if told.iter().all(Vec::is_empty) {
                return;
            }
            for (from, news) in told.into_iter().enumerate() {
                for (to, server) in self.servers.iter().enumerate() {
                    for _ in 0..if from == to { 0 } else { times } {
                        block_on(server.engine.server().receive(FromPeers::Messages(news.clone()))).unwrap();
                    }
                }
            }
            self.announce();
        }
    }

    /// Everything that was told is lost.
    pub fn lose(&self) {
        self.servers.iter().for_each(|server| drop(server.take_told()));
    }

    /// A server looks by itself, as it does from time to time.
    pub fn look(&self, at: usize) {
        let engine = &self.servers[at].engine;
        block_on(engine.server().task_catch_up()).unwrap();
        block_on(engine.server().task_look_again(DeviceKey(0))).unwrap();
        self.announce();
        self.deliver();
    }

    /// What was announced since the last look, in order.
    pub fn announced(&self) -> Vec<TaskId> {
        std::mem::take(&mut self.announced.lock().unwrap())
    }

    fn announce(&self) {
        self.servers.iter().for_each(|server| announce_at(&server.engine, &server.store));
    }
}

impl Server {
    fn take_told(&self) -> Vec<PeerMessage> {
        std::mem::take(&mut self.wire.0.lock().unwrap())
    }
}

fn server(
    outside: &Outside,
    store: &Arc<dyn Store>,
    is_shared: bool,
    announced: &Arc<Mutex<Vec<TaskId>>>,
) -> Server {
    let Outside { clock, counts, ids, issuer } = outside.clone();
    let store = Arc::new(WatchedStore::new(Arc::clone(store)));
    let (wire, changed) = (Arc::<Wire>::default(), Arc::default());
    let broker = Broker { is_shared, announced: Arc::clone(announced), changed: Arc::clone(&changed) };
    let engine = Engine::new(Parts {
        store: Arc::clone(&store) as _,
        links: Links::new([Arc::new(broker) as _]),
        peers: Arc::clone(&wire) as _,
        issuer,
        clock,
        ids,
        observer: counts,
        key_hasher: digest,
        limits: Limits::default(),
        retention: covey_core::retention::RetentionDays::default(),
        budgets: covey_core::budget::Budgets::default(),
        gauge_types: vec![44],
        unit_rule: Arc::new(|_| Ok(())),
        webhooks: Arc::new(NoWebhooks),
        webhook_retry_ms: 86_400_000,
    });
    Server { changed, engine, store, wire }
}

/// Someone who waits for a task.
pub struct Waiting(Watch);

impl Waiting {
    pub fn is_told(&mut self) -> bool {
        Pin::new(&mut self.0).poll(&mut Context::from_waker(Waker::noop())) != Poll::Pending
    }
}
