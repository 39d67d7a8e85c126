//! A server: an engine on SQLite with the link.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use covey_core::access::Caller;
use covey_core::budget::Budgets;
use covey_core::device::{Device, DeviceFilter, DeviceSpec};
use covey_core::event::{DeviceEvent, EventFilter, EventsFrom, Gauge, GaugeFilter};
use covey_core::id::{Sn, TaskId, UnixMs};
use covey_core::limits::Limits;
use covey_core::links::Links;
use covey_core::port::{Clock, Event, Ids, NoPeers, Observer, PageRequest, Refusal, Step};
use covey_core::retention::RetentionDays;
use covey_core::task::{DeviceRef, TaskDetail, TaskSpec};
use covey_core::webhook::NoWebhooks;
use covey_core::{Engine, Parts};
use covey_store::sqlite::{self, Sqlite};
use uuid::Uuid;

use crate::broker::AnyBroker;
use crate::device::PATIENCE;

pub struct Site<B: AnyBroker> {
    pub engine: Arc<Engine>,
    pub link: Arc<B::Link>,
    running: B::Running,
    pub caller: Caller,
    pub watcher: Arc<Watcher>,
    _announcing: Announcing,
}

/// Announces until it is dropped.
struct Announcing(tokio::task::JoinHandle<()>);

/// Counts what happens.
#[derive(Default)]
pub struct Watcher(Mutex<Vec<Event>>);

impl Observer for Watcher {
    fn took(&self, _: Step, _: u64) {}
    fn happened(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Watcher {
    pub fn count(&self, is_wanted: impl Fn(&Event) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|event| is_wanted(event)).count()
    }

    pub fn seen(&self, wanted: Event) -> usize {
        self.count(|event| *event == wanted)
    }

    pub fn refused(&self, reason: Refusal) -> usize {
        self.seen(Event::Refused(reason))
    }
}

struct SystemClock(Instant);

impl Clock for SystemClock {
    fn now(&self) -> UnixMs {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
        UnixMs(i64::try_from(now).unwrap())
    }
    fn monotonic_us(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }
}

struct RandomIds;

impl Ids for RandomIds {
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

fn digest(text: &str) -> [u8; 32] {
    let mut digest = [0; 32];
    for (place, byte) in text.bytes().enumerate() {
        digest[place % 32] ^= byte;
    }
    digest
}

impl<B: AnyBroker> Site<B> {
    /// Starts the server `name` and waits until it is connected.
    pub async fn start(broker: &B, data: &Path, name: &str) -> Self {
        Self::start_with(broker, data, name, |_| {}).await
    }

    /// Starts the server `a`, which knows these devices.
    pub async fn with<const N: usize>(broker: &B, data: &Path, sns: [&str; N]) -> Self {
        let site = Self::start(broker, data, "a").await;
        for sn in sns {
            site.register(sn).await;
        }
        site
    }

    pub async fn start_with(
        broker: &B,
        data: &Path,
        name: &str,
        adjust: impl FnOnce(&mut B::Options),
    ) -> Self {
        Self::start_as(broker, data, name, adjust, Budgets::default()).await
    }

    /// Starts one that takes so much of a device.
    pub async fn start_with_budgets(broker: &B, data: &Path, budgets: Budgets) -> Self {
        Self::start_as(broker, data, "a", |_| {}, budgets).await
    }

    async fn start_as(
        broker: &B,
        data: &Path,
        name: &str,
        adjust: impl FnOnce(&mut B::Options),
        budgets: Budgets,
    ) -> Self {
        let mut options = broker.options(name);
        adjust(&mut options);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock(Instant::now()));
        let watcher = Arc::new(Watcher::default());
        let observer: Arc<dyn Observer> = watcher.clone();
        let link = B::link(options, Arc::clone(&clock), Arc::clone(&observer));
        let store = Sqlite::open(
            &sqlite::Options::new(sqlite::file_in(data)),
            Arc::clone(&clock),
            Arc::clone(&observer),
        )
        .unwrap();
        let engine = Arc::new(Engine::new(Parts {
            store: Arc::new(store),
            links: Links::new([link.clone() as _]),
            peers: Arc::new(NoPeers),
            issuer: broker.issuer(),
            clock,
            ids: Arc::new(RandomIds),
            observer,
            key_hasher: digest,
            limits: Limits::default(),
            retention: RetentionDays::default(),
            budgets,
            gauge_types: vec![44],
            unit_rule: Arc::new(|_| Ok(())),
            webhooks: Arc::new(NoWebhooks),
            webhook_retry_ms: 86_400_000,
        }));
        engine.server().api_key_first("default", "admin", "key").await.unwrap();
        let key = engine.server().api_key_check("key").await.unwrap().unwrap();
        let announcer = Arc::clone(&engine);
        let announcing = tokio::spawn(async move {
            loop {
                announcer.server().task_announce().await.unwrap();
            }
        });
        let running = B::run(Arc::clone(&link), Arc::clone(&engine)).await;
        let caller = Caller::of(&key);
        let site = Self { engine, link, running, caller, watcher, _announcing: Announcing(announcing) };
        site.until_up().await;
        site
    }

    pub async fn until_up(&self) {
        until("the link is up", || async { B::is_up(&self.link) }).await;
        tokio::time::sleep(B::UP_TO_SETTLED).await;
    }

    pub async fn register(&self, sn: &str) -> Device {
        let spec = DeviceSpec { sn: Some(Sn::parse(sn).unwrap()), ..DeviceSpec::default() };
        self.engine.for_caller(&self.caller).device_register(spec).await.unwrap().0
    }

    pub async fn create(&self, sn: &str) -> TaskId {
        let spec = TaskSpec {
            device: DeviceRef::Sn(Sn::parse(sn).unwrap()),
            ext_task_id: String::new(),
            method_code: 7,
            method: Some("blink".to_owned()),
            priority: 0,
            ttl_minutes: 10,
            payload: Some("{\"n\":1}".into()),
        };
        self.engine
            .for_caller(&self.caller)
            .task_create(self.engine.task_id(), spec, None)
            .await
            .unwrap()
            .task
            .id
    }

    pub async fn task(&self, id: TaskId) -> TaskDetail {
        self.engine.for_caller(&self.caller).task_get(id).await.unwrap()
    }

    pub async fn presence(&self, sn: &str) -> Option<(bool, Vec<(String, String)>)> {
        let filter = DeviceFilter { sn: Some(sn.to_owned()), ..DeviceFilter::default() };
        let page = PageRequest { page: 1, size: 10 };
        let found = self.engine.for_caller(&self.caller).device_list(filter, page, usize::MAX).await.unwrap();
        let device = found.items.into_iter().next()?;
        device.presence.map(|presence| (presence.online, presence.details))
    }

    /// The events that devices have told, oldest first. What servers note of
    /// devices is left out.
    pub async fn events(&self) -> Vec<DeviceEvent> {
        let mut events: Vec<DeviceEvent> = Vec::new();
        loop {
            let from = EventsFrom::Before(events.last().map(|event| event.id), 1_000);
            let found = self
                .engine
                .for_caller(&self.caller)
                .event_list(EventFilter::default(), from)
                .await
                .unwrap()
                .items;
            if found.is_empty() {
                events.retain(|event| event.type_code >= 0);
                events.reverse();
                return events;
            }
            events.extend(found);
        }
    }

    pub async fn gauges(&self) -> Vec<Gauge> {
        let page = PageRequest { page: 1, size: 100 };
        self.engine.for_caller(&self.caller).gauge_list(GaugeFilter::default(), page).await.unwrap().items
    }

    pub async fn until_online(&self, sn: &str, online: bool) {
        until("presence is as it is", || async {
            self.presence(sn).await.is_some_and(|(is_online, _)| is_online == online)
        })
        .await;
    }

    /// How many commits it has made.
    pub fn commits(&self) -> usize {
        self.watcher.count(|event| matches!(event, Event::Committed { .. }))
    }

    pub async fn stop(self) {
        B::stop(self.running).await;
    }
}

impl Drop for Announcing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits until something holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
