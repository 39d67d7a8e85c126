//! The world of a test: a whole engine over a store of the test's choosing, with everything else in
//! the test's hand.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, missing_docs)]

pub mod parts;
pub mod sqlite;
pub mod steps;
pub mod store;
mod store_of_webhooks;

use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};

use covey_core::access::{Caller, Rights};
use covey_core::budget::Budgets;
use covey_core::device::{Connection, Device, DeviceFilter, DeviceIdentity, DevicePage, DeviceSpec};
use covey_core::error::{Result, StorageFault};
use covey_core::id::{CallerId, DeviceId, OrgId, TaskId, UnixMs};
use covey_core::limits::Limits;
use covey_core::links::Links;
use covey_core::port::{Clock, Job, NoPeers, Observer, PageRequest, Store, Transaction, Turn};
use covey_core::task::{
    DeviceRef, FinishedTask, NewResult, ResultBody, Task, TaskDetail, TaskFilter, TaskPage, TaskSpec,
};
use covey_core::{Engine, Parts};
use futures_executor::block_on;

pub use parts::LINK;
use parts::{Outside, RecordingLink, SilentSender, digest};
use store::WatchedStore;

/// A kind of store. Opening it again, after the last one was dropped, shows
/// what that one had stored.
pub trait Backend: Sync + 'static {
    fn open(&self, clock: Arc<dyn Clock>, observer: Arc<dyn Observer>) -> Arc<dyn Store>;
}

/// Who may do everything, of no organisation that has anything.
pub fn root() -> Caller {
    caller(OrgId(0), CallerId(0))
}

/// A caller of an organisation that may do everything.
pub fn caller(org: OrgId, id: CallerId) -> Caller {
    Caller { id, org_name: "org".into(), ..Caller::server(org, "test", Rights::ALL) }
}

/// An engine over a store, and the world around it.
pub struct World {
    backend: Box<dyn Backend>,
    pub limits: Limits,
    pub budgets: Budgets,
    pub outside: Outside,
    pub link: Arc<RecordingLink>,
    server: Option<(Arc<Engine>, Arc<WatchedStore>)>,
    orgs: Vec<Caller>,
}

/// An address at which no unit may be in these tests.
pub const NO_UNIT: &str = "192.0.2.99:8888";

fn unit_rule(address: std::net::SocketAddr) -> Result<(), &'static str> {
    if address.to_string() == NO_UNIT { Err("must not be this one") } else { Ok(()) }
}

impl World {
    pub fn new(backend: impl Backend) -> Self {
        Self::with_limits(backend, Limits::default())
    }

    pub fn with_limits(backend: impl Backend, limits: Limits) -> Self {
        Self::made(backend, limits, Budgets::default(), 0)
    }

    /// For tests that write more than anybody may.
    pub fn without_budgets(backend: impl Backend) -> Self {
        Self::made(backend, Limits::default(), Budgets::unbounded(), 0)
    }

    /// On a store that others have filled, whose ids were smaller.
    pub fn on_what_is_there(backend: impl Backend, ids_from: u64) -> Self {
        Self::made(backend, Limits::default(), Budgets::default(), ids_from)
    }

    fn made(backend: impl Backend, limits: Limits, budgets: Budgets, ids_from: u64) -> Self {
        let outside = Outside::default();
        outside.ids.skip_to(ids_from);
        let link = Arc::default();
        let mut world =
            Self { backend: Box::new(backend), limits, budgets, outside, link, server: None, orgs: vec![] };
        world.start();
        for name in ["first", "second"] {
            let root = root();
            let made =
                block_on(world.engine().for_caller(&root).api_key_add(name, "test", Rights::ALL)).unwrap();
            world.orgs.push(Caller::of(&made.key));
        }
        world
    }

    fn start(&mut self) {
        let Outside { clock, counts, ids, issuer } = self.outside.clone();
        let inner = self.backend.open(Arc::clone(&clock) as _, Arc::clone(&counts) as _);
        let store = Arc::new(WatchedStore::new(inner));
        let engine = Engine::new(Parts {
            store: Arc::clone(&store) as _,
            links: Links::new([Arc::clone(&self.link) as _]),
            peers: Arc::new(NoPeers),
            issuer,
            clock,
            ids,
            observer: counts,
            key_hasher: digest,
            limits: self.limits,
            retention: covey_core::retention::RetentionDays::default(),
            budgets: self.budgets,
            gauge_types: vec![44],
            unit_rule: Arc::new(unit_rule),
            webhooks: Arc::new(SilentSender),
            webhook_retry_ms: 86_400_000,
        });
        self.server = Some((Arc::new(engine), store));
    }

    /// Stops the server, and starts it on what it had stored.
    pub fn restart(&mut self) {
        self.restart_quietly();
        block_on(self.engine().server().presence_clear(SERVER)).unwrap();
    }

    /// The same, with its connections as they were.
    pub fn restart_quietly(&mut self) {
        self.server = None;
        self.link = Arc::default();
        self.start();
    }

    pub fn engine(&self) -> &Arc<Engine> {
        &self.server.as_ref().unwrap().0
    }

    pub fn store(&self) -> &Arc<WatchedStore> {
        &self.server.as_ref().unwrap().1
    }

    pub fn now(&self) -> UnixMs {
        self.outside.clock.now()
    }

    pub fn pass_ms(&self, ms: i64) {
        self.outside.clock.pass_ms(ms);
    }

    /// The caller of the first organisation, and of the second.
    pub fn org(&self, number: usize) -> &Caller {
        &self.orgs[number]
    }

    pub fn register(&self, org: usize, spec: DeviceSpec) -> Result<(Device, String)> {
        let registered = block_on(self.engine().for_caller(self.org(org)).device_register(spec));
        registered.map(|(device, issued)| (device, issued.unwrap().record.serial_hex))
    }

    /// A new device of an organisation.
    pub fn device(&self, org: usize) -> DeviceIdentity {
        self.register(org, DeviceSpec::default()).unwrap().0.identity
    }

    pub fn create(&self, spec: TaskSpec) -> Arc<Task> {
        self.create_as(0, spec).unwrap()
    }

    pub fn create_as(&self, org: usize, spec: TaskSpec) -> Result<Arc<Task>> {
        let engine = self.engine();
        block_on(engine.for_caller(self.org(org)).task_create(engine.task_id(), spec, None))
            .map(|made| made.task)
    }

    pub fn ack(&self, device: &DeviceIdentity, id: TaskId) -> Result<()> {
        block_on(self.engine().for_device(device).task_ack(id))
    }

    pub fn request(&self, device: &DeviceIdentity, id: TaskId) -> Option<Arc<Task>> {
        block_on(self.engine().for_device(device).task_next(Some(id))).unwrap()
    }

    pub fn poll(&self, device: &DeviceIdentity) -> Option<Arc<Task>> {
        block_on(self.engine().for_device(device).task_next(None)).unwrap()
    }

    pub fn finish(&self, device: &DeviceIdentity, id: TaskId, result: NewResult) -> Result<FinishedTask> {
        block_on(self.engine().for_device(device).task_finish(id, result))
    }

    pub fn too_large(&self, device: &DeviceIdentity, id: TaskId) -> Result<()> {
        block_on(self.engine().for_device(device).task_too_large(id))
    }

    pub fn delete(&self, org: usize, id: TaskId) -> Result<Arc<TaskDetail>> {
        block_on(self.engine().for_caller(self.org(org)).task_delete(id))
    }

    pub fn get(&self, id: TaskId) -> TaskDetail {
        self.get_as(0, id).unwrap()
    }

    pub fn get_as(&self, org: usize, id: TaskId) -> Result<TaskDetail> {
        block_on(self.engine().for_caller(self.org(org)).task_get(id))
    }

    pub fn list(&self, org: usize, filter: TaskFilter, page: u32, size: u32) -> TaskPage {
        block_on(self.engine().for_caller(self.org(org)).task_list(filter, PageRequest { page, size }))
            .unwrap()
    }

    pub fn devices(&self, org: usize, filter: DeviceFilter) -> DevicePage {
        let page = PageRequest { page: 1, size: 1000 };
        block_on(self.engine().for_caller(self.org(org)).device_list(filter, page, usize::MAX)).unwrap()
    }

    /// Waits until what was written behind the caller's back is stored: presence is.
    pub fn settle(&self) {
        block_on(self.engine().for_caller(self.org(0)).retention_put(Vec::new())).unwrap();
    }

    /// Sweeps until nothing is left.
    pub fn sweep(&self) {
        while block_on(self.engine().server().task_sweep()).unwrap() {}
        self.announce();
    }

    pub fn listen(&self, device: &DeviceIdentity) {
        self.engine().for_device(device).connected(connection(""));
        self.engine().for_device(device).subscribed(LINK);
        self.announce();
    }

    /// Lets the engine make announcements until it waits for something to happen.
    pub fn announce(&self) {
        announce_at(self.engine(), self.store());
    }

    /// What was announced since the last look, in order.
    pub fn announced(&self) -> Vec<TaskId> {
        self.link.announced().into_iter().map(|task| task.id).collect()
    }

    /// Holds the store's writer in a job until the gate is opened, so that what
    /// is submitted meanwhile gathers.
    pub fn hold_writer(&self) -> Gate {
        let (open, opened) = mpsc::channel();
        let (reach, reached) = mpsc::channel();
        self.store().submit(Box::new(Hold { reach, opened })).unwrap();
        reached.recv().unwrap();
        Gate(open)
    }
}

/// Lets an engine make announcements until it waits for something to happen.
pub fn announce_at(engine: &Engine, store: &WatchedStore) {
    loop {
        let mut announcing = pin!(engine.server().task_announce());
        let (waker, woken) = wake_channel();
        loop {
            match announcing.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(outcome) => {
                    outcome.unwrap();
                    break;
                }
                Poll::Pending if store.is_looking() => woken.recv().unwrap(),
                Poll::Pending => return,
            }
        }
    }
}

/// Opens on drop.
pub struct Gate(#[allow(dead_code)] mpsc::Sender<()>);

struct Hold {
    reach: mpsc::Sender<()>,
    opened: mpsc::Receiver<()>,
}

impl Job for Hold {
    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn run(&mut self, _: &mut dyn Transaction) -> Result<(), StorageFault> {
        self.reach.send(()).unwrap();
        // Ends with an error when the gate is dropped.
        let _ = self.opened.recv();
        Ok(())
    }

    fn settle(self: Box<Self>, _: Result<(), StorageFault>) {}
}

struct SendOnWake(mpsc::Sender<()>);

impl Wake for SendOnWake {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(());
    }
}

/// A waker that tells of each time it is used.
pub fn wake_channel() -> (Waker, mpsc::Receiver<()>) {
    let (send, receive) = mpsc::channel();
    (Waker::from(Arc::new(SendOnWake(send))), receive)
}

/// The name of the server that the tests run.
pub const SERVER: &str = "server-1";

/// A connection of a device to that server.
pub fn connection(session: &str) -> Connection {
    Connection { session: session.to_owned(), server: SERVER.to_owned(), ..Connection::default() }
}

/// What an application asks of a device, if it says no more than it must.
pub fn spec(device: &DeviceIdentity) -> TaskSpec {
    TaskSpec {
        device: DeviceRef::Sn(device.sn.clone()),
        ext_task_id: String::new(),
        method_code: 20,
        method: None,
        priority: 0,
        ttl_minutes: 10,
        payload: Some(r#"{"dt":[{"cl":5}]}"#.into()),
    }
}

/// The same with a priority.
pub fn urgent(device: &DeviceIdentity, priority: i64) -> TaskSpec {
    TaskSpec { priority, ..spec(device) }
}

/// The same by the device's number, with a life in minutes.
pub fn lasting(device: &DeviceIdentity, ttl_minutes: i64) -> TaskSpec {
    TaskSpec { device: DeviceRef::Id(DeviceId(device.device_id.0)), ttl_minutes, ..spec(device) }
}

pub fn result(status_code: i64, ext_id: i64, body: &str) -> NewResult {
    let body = if body.is_empty() { ResultBody::Empty } else { ResultBody::Text(body.into()) };
    NewResult { ext_id, status_code, body }
}
