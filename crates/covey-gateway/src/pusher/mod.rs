//! Pusher Channels, both ways (`docs/pusher.md`, `docs/adr/0031-pusher-channels.md`): a server that clients and server libraries
//! of Pusher use unchanged, and a client that takes a base unit's place at a dashboard.
//!
//! ```text
//!  client ──/app/{key}──▶ socket.rs ──▶ session.rs (may it?) ──▶ channels.rs ──▶ line.rs ──▶ other clients
//!  server library ──/apps/{id}/…──▶ rest.rs ──▶ channels.rs        │
//!  outbox ──▶ devices.rs ──private-device-<sn>──▶ channels.rs       └──▶ hooks.rs ──▶ webhooks of the app
//!  upstream.rs ◀──/app/{key}── a dashboard's Pusher ◀── its update.request ──▶ requests.rs ──▶ a task of the unit
//!  outbox ──▶ readings.rs ──PUT webhook/update-unit──▶ the dashboard
//! ```
//!
//! `session.rs`, `channels.rs` and `client.rs` have no I/O.

pub mod channel;
pub mod channels;
mod client;
pub mod config;
mod devices;
pub mod error;
mod hooks;
mod line;
pub mod message;
mod outgoing;
mod rate;
mod readings;
mod requests;
mod rest;
pub mod session;
pub mod signature;
mod socket;
mod upstream;
mod web;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use covey_core::Engine;
use covey_core::access::Caller;
use covey_core::id::{OrgId, RecordNumber};
use covey_core::webhook::address::AddressRule;
use rand::RngExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::web::Door;
use crate::web::owners::{self, NotKnown, Owners};
use channels::{Channels, ConnectionId, Effect};
use config::{AppConfig, Config};
use error::Refusal;
use hooks::Hooks;
use line::Line;
pub use outgoing::{Answered, Method, Outgoing, ToSend};
pub use requests::{LiveUnits, UnitList, Units};

/// What is needed to speak Pusher.
pub struct Parts {
    /// The engine.
    pub engine: Arc<Engine>,
    /// The apps, and the services of others.
    pub config: Config,
    /// Who sends requests over HTTP.
    pub outgoing: Arc<dyn Outgoing>,
    /// Where services of others may be.
    pub rule: AddressRule,
    /// The units that this server speaks with.
    pub units: Arc<dyn Units>,
    /// The organisation of the units.
    pub org: OrgId,
    /// How long a write lives that a request becomes, in minutes.
    pub ttl_minutes: i64,
    /// The server, as in presence.
    pub server: String,
    /// What happened up to here is not told to dashboards: the last record before the units of this server were asked.
    pub since: RecordNumber,
}

/// Pusher Channels, as it is spoken here.
pub struct Pusher {
    parts: Parts,
    by_key: HashMap<String, Arc<App>>,
    owners: Owners,
    last_connection: AtomicU64,
    began: Instant,
    /// What runs for it, connections included.
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// An app at work.
struct App {
    config: AppConfig,
    state: Mutex<State>,
    hooks: Vec<Arc<Hooks>>,
    /// Whether the outbox is followed for it.
    following: tokio::sync::Mutex<bool>,
}

#[derive(Default)]
struct State {
    channels: Channels,
    lines: HashMap<ConnectionId, Arc<Line>>,
}

impl Pusher {
    /// One that ends with `stop`.
    #[must_use]
    pub fn new(parts: Parts, stop: CancellationToken) -> Arc<Self> {
        let apps = parts.config.apps.iter().map(|config| {
            let app = App {
                config: config.clone(),
                state: Mutex::default(),
                hooks: config.webhooks.iter().map(Hooks::new).collect(),
                following: tokio::sync::Mutex::default(),
            };
            (config.key.clone(), Arc::new(app))
        });
        Arc::new(Self {
            by_key: apps.collect(),
            owners: Owners::new(Arc::clone(&parts.engine)),
            parts,
            last_connection: AtomicU64::new(0),
            began: Instant::now(),
            tasks: TaskTracker::new(),
            stop,
        })
    }

    /// The routes, for a server's HTTP listeners.
    pub fn routes(self: &Arc<Self>, door: Arc<dyn Door>) -> Router {
        let shared = Arc::new(web::Shared::new(Arc::clone(self), door));
        let router = web::router(Arc::clone(&shared));
        if self.by_key.is_empty() { router } else { router.merge(rest::router(shared)) }
    }

    /// Runs what is not a connection's until the server ends, and waits for all connections.
    pub async fn run(self: Arc<Self>) {
        for app in self.by_key.values() {
            for hooks in &app.hooks {
                let sending = Arc::clone(hooks).send(app.config.clone(), Arc::clone(&self.parts.outgoing));
                self.spawn(sending);
            }
        }
        for service in &self.parts.config.services {
            let service = Arc::new(service.clone());
            self.spawn(upstream::follow(Arc::clone(&self), Arc::clone(&service)));
            self.spawn(readings::tell(Arc::clone(&self), service));
        }
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.watch_owners()).await;
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(work).await;
        });
    }

    /// Closes the connections of apps whose API keys are not valid any more.
    async fn watch_owners(&self) {
        loop {
            tokio::time::sleep(owners::KNOWN_FOR).await;
            for app in self.by_key.values().filter(|app| app.connections() > 0) {
                if self.owner(app).await == Err(Refusal::DISABLED) {
                    tracing::info!(app = %app.config.id, "connections of a Pusher app are closed: its API key is not valid");
                    app.close_all(&Refusal::DISABLED);
                }
            }
        }
    }

    /// Milliseconds since the beginning.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The caller that an app stands for. Pages come from anywhere, so a key that is not valid from anywhere has no app.
    async fn owner(&self, app: &App) -> Result<Caller, Refusal> {
        match self.owners.of(app.config.api_key).await {
            Ok(caller) => caller.filter(|key| key.bounds.addresses.is_empty()).ok_or(Refusal::DISABLED),
            Err(NotKnown) => Err(Refusal::UNAVAILABLE),
        }
    }

    fn app_of_id(&self, id: &str) -> Option<&Arc<App>> {
        self.by_key.values().find(|app| app.config.id == id)
    }

    fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.last_connection.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// A socket id, which nobody can guess.
fn socket_id() -> Arc<str> {
    let mut random = rand::rng();
    let [one, other]: [u32; 2] = [random.random(), random.random()];
    format!("{one}.{other}").into()
}

impl App {
    fn state(&self) -> MutexGuard<'_, State> {
        // What it guards is whole at every moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the channels, and carries out what follows before anybody else can change them.
    fn change<T>(&self, change: impl FnOnce(&mut Channels, &mut Vec<Effect>) -> T) -> T {
        let mut effects = Vec::new();
        let mut state = self.state();
        let changed = change(&mut state.channels, &mut effects);
        for effect in effects {
            match effect {
                Effect::Send { to, text } => {
                    let lines = to.iter().filter_map(|id| state.lines.get(id));
                    lines.for_each(|line| line.push(text.clone()));
                }
                Effect::Hook(event) => {
                    self.hooks.iter().for_each(|hooks| hooks.push(event.clone()));
                }
            }
        }
        changed
    }

    fn enter(&self, id: ConnectionId, socket_id: &Arc<str>, now_ms: u64) -> Result<Arc<Line>, Refusal> {
        let mut state = self.state();
        state.channels.connect(id, socket_id, now_ms)?;
        let line = Arc::<Line>::default();
        state.lines.insert(id, Arc::clone(&line));
        Ok(line)
    }

    fn leave(&self, id: ConnectionId) {
        self.state().lines.remove(&id);
        self.change(|channels, effects| channels.disconnect(id, effects));
    }

    fn connections(&self) -> usize {
        self.state().channels.connections()
    }

    fn close_all(&self, refusal: &Refusal) {
        self.state().lines.values().for_each(|line| line.close(refusal.clone()));
    }
}
