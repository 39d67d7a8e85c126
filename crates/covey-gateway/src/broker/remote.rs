//! The port of a gateway that is a program of its own: the broker at the other end of `/gw` decides. It is told of nodes and
//! values; while it is away they are kept, of each resource the newest, and it is told them when it is back.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use rand::RngExt;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use crate::broker::board::{Board, Follower, Said, TooSlow, rank};
use crate::broker::dial::{Dial, DialError, Stream};
use crate::broker::messages::{self, FromClient, NoMessage, Set, from_broker};
use crate::broker::{answer_close, send_all};
use crate::node::{Gone, Outcome, Uid, Verdict, Write};
use crate::port::{Hint, Later, Newcomer, Port, Report, Reported};

/// How often the broker is told that the gateway is there, in milliseconds.
const ALIVE_MS: u64 = 30_000;
/// How long it is waited before the first new attempt to connect, in milliseconds.
const RETRY_MS_MIN: u64 = 500;
/// How long it is waited between two attempts at most, in milliseconds.
/// Limit for each gateway: it tries again.
const RETRY_MS_MAX: u64 = 30_000;
/// How many writes of a node wait until it has done the one before.
/// Limit for each node: the oldest is dropped.
const WRITES_MAX: usize = 64;
/// How long a write waits for a node that is silent, in milliseconds.
/// Limit for each write of a gateway elsewhere: it is dropped.
const WRITE_MS_MAX: u64 = 60_000;
/// How many bytes are taken at once of what waits for the broker.
const TAKE_BYTES: usize = 64 * 1024;
/// How long the last words to the broker may take, in milliseconds.
const GOODBYE_MS: u64 = 1_000;

/// How nodes are called towards the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// As they call themselves.
    AsSaid,
    /// Anew each time they appear.
    Anew,
}

/// The port to a broker.
pub struct RemotePort {
    naming: Naming,
    board: Arc<Board<Uid>>,
    /// Orders what nodes say.
    version: AtomicI64,
    writes: Mutex<Writes>,
    news: Notify,
}

#[derive(Default)]
struct Writes {
    waiting: HashMap<Uid, VecDeque<(Instant, Set)>>,
    wanted: HashSet<Uid>,
}

impl RemotePort {
    /// One that nobody has connected yet.
    #[must_use]
    pub fn new(naming: Naming) -> Arc<Self> {
        Arc::new(Self {
            naming,
            board: Arc::new(Board::new()),
            version: AtomicI64::new(0),
            writes: Mutex::default(),
            news: Notify::new(),
        })
    }

    /// Keeps a connection to the broker until `stop`.
    pub async fn run(&self, dial: Dial, stop: CancellationToken) {
        let mut pause_ms = RETRY_MS_MIN;
        loop {
            let Some(connected) = stop.run_until_cancelled(dial.connect()).await else { return };
            match connected {
                Ok(socket) => {
                    tracing::info!(broker = dial.url(), "connected to the node broker");
                    let began = Instant::now();
                    let why = self.speak(socket, &stop).await;
                    if stop.is_cancelled() {
                        return;
                    }
                    tracing::warn!(broker = dial.url(), "lost the node broker: {why}; nodes are served on");
                    if began.elapsed() > Duration::from_millis(RETRY_MS_MAX) {
                        pause_ms = RETRY_MS_MIN;
                    }
                }
                Err(error @ DialError::Keys) => {
                    tracing::error!(broker = dial.url(), "no node broker: {error}")
                }
                Err(error) => tracing::warn!(broker = dial.url(), "no node broker: {error}"),
            }
            // Gateways that have lost one broker do not all come back in one moment.
            let jittered = rand::rng().random_range(pause_ms / 2..=pause_ms);
            if stop.run_until_cancelled(sleep(Duration::from_millis(jittered))).await.is_none() {
                return;
            }
            pause_ms = (pause_ms * 2).min(RETRY_MS_MAX);
        }
    }

    /// Speaks with the broker; answers why that is over.
    async fn speak(&self, mut socket: WebSocketStream<Stream>, stop: &CancellationToken) -> &'static str {
        let mut follower = self.board.follow();
        follower.ask(&Arc::from(messages::ALL));
        let mut messages = Vec::new();
        let alive = Duration::from_millis(ALIVE_MS);
        let mut alive = interval_at(Instant::now() + alive, alive);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    let _ = timeout(Duration::from_millis(GOODBYE_MS), socket.close(None)).await;
                    return "the gateway ends";
                }
                () = follower.news() => {
                    if follower.take(TAKE_BYTES, &mut messages) == Err(TooSlow) {
                        return "it did not take what it was told";
                    }
                    if !self.tell(&mut socket, &follower, &mut messages, stop).await {
                        return "it did not take what it was told";
                    }
                }
                _ = alive.tick() => {
                    messages.push(messages::alive().into());
                    if !self.tell(&mut socket, &follower, &mut messages, stop).await {
                        return "it did not take a sign of life";
                    }
                }
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => self.hear(&text, &mut follower),
                    Some(Ok(Message::Close(_))) => {
                        answer_close(&mut socket).await;
                        return "it closed the connection";
                    }
                    None => return "it closed the connection",
                    Some(Ok(_)) => {}
                    Some(Err(_)) => return "the connection broke",
                }
            }
        }
    }

    async fn tell(
        &self,
        socket: &mut WebSocketStream<Stream>,
        follower: &Follower<Uid>,
        messages: &mut Vec<Utf8Bytes>,
        stop: &CancellationToken,
    ) -> bool {
        tokio::select! {
            biased;
            sent = send_all(socket, messages.drain(..).map(Message::Text)) => sent,
            () = follower.until_cut() => false,
            // What the broker has not taken is not waited for.
            () = stop.cancelled() => true,
        }
    }

    /// Takes a message of the broker.
    fn hear(&self, message: &str, follower: &mut Follower<Uid>) {
        match from_broker(message) {
            Ok((FromClient::New, Some(src))) => follower.ask(&Arc::from(src)),
            Ok((FromClient::Set(set), _)) => match self.board.key_of(&set.uid) {
                Some(uid) => self.want(uid, set),
                // The gateway that has it is told, too.
                None => {
                    tracing::debug!(uid = set.uid, "the broker sets a resource of another gateway's node")
                }
            },
            Ok((FromClient::New | FromClient::Nothing, _)) => {}
            Err(NoMessage(why)) => tracing::warn!("a message of the node broker is dropped: {why}"),
        }
    }

    fn want(&self, uid: Uid, set: Set) {
        {
            let mut writes = self.writes();
            let waiting = writes.waiting.entry(Arc::clone(&uid)).or_default();
            // Nobody wants an older value of the resource any more.
            waiting.retain(|(_, other)| other.endpoint != set.endpoint);
            if waiting.len() >= WRITES_MAX {
                waiting.pop_front();
                tracing::warn!(%uid, "a write is dropped: too many wait for the node");
            }
            waiting.push_back((Instant::now(), set));
            writes.wanted.insert(uid);
        }
        self.news.notify_one();
    }

    fn writes(&self) -> MutexGuard<'_, Writes> {
        // What it guards is whole at every moment.
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_wanted(&self) -> Option<Vec<Uid>> {
        let mut writes = self.writes();
        (!writes.wanted.is_empty()).then(|| writes.wanted.drain().collect())
    }
}

/// The port of a gateway, which the gateway holds beside the connection.
pub struct Remote(pub Arc<RemotePort>);

impl Port for Remote {
    type Node = Uid;
    type Write = ();

    fn join(&self, newcomer: Newcomer) -> Later<Verdict<Uid>> {
        // What the broker makes of it, it does not say.
        Box::pin(std::future::ready(Verdict::Joined(newcomer.uid)))
    }

    fn came(&self, uid: &Uid, _: &Uid, _: u64, _: &str) {
        let shown = match self.0.naming {
            Naming::AsSaid => Arc::clone(uid),
            Naming::Anew => uuid::Uuid::new_v4().to_string().into(),
        };
        self.0.board.change().appear(uid, &shown, &[]);
    }

    fn reset(&self, node: &Uid) {
        self.0.board.change().reset(node);
    }

    fn report(&self, reports: Vec<Report<Uid>>) -> Later<Vec<Reported>> {
        let reported = vec![Reported::Stored; reports.len()];
        let mut change = self.0.board.change();
        for Report { node, mut values } in reports {
            values.sort_by_key(|(resource, _)| rank(resource));
            for (resource, json) in values {
                let version = self.0.version.fetch_add(1, Ordering::Relaxed);
                change.said(&node, &Said { resource: resource.into(), json, version });
            }
        }
        Box::pin(std::future::ready(reported))
    }

    fn went(&self, node: &Uid, _: u64, _: Gone) -> Later<()> {
        self.0.board.change().out(node);
        self.0.writes().waiting.remove(node);
        Box::pin(std::future::ready(()))
    }

    fn next_write(&self, node: &Uid, now_ms: u64) -> Later<Option<Write<()>>> {
        let next = {
            let mut writes = self.0.writes();
            let next = writes.waiting.get_mut(node).and_then(|waiting| {
                std::iter::from_fn(|| waiting.pop_front())
                    .map(|(at, set)| (u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX), set))
                    .find(|(age_ms, _)| *age_ms < WRITE_MS_MAX)
            });
            if writes.waiting.get(node).is_some_and(VecDeque::is_empty) {
                writes.waiting.remove(node);
            }
            next
        };
        let write = next.map(|(age_ms, Set { endpoint, payload, .. })| Write {
            id: (),
            values: vec![(endpoint, payload)],
            until_ms: now_ms.saturating_add(WRITE_MS_MAX - age_ms),
        });
        Box::pin(std::future::ready(write))
    }

    fn given_back(&self, node: &Uid, (): ()) {
        tracing::warn!(uid = %node, "a write is dropped: it could not be sent to the node in time");
    }

    fn finish(&self, node: &Uid, (): (), outcome: Outcome) -> Later<()> {
        // A value that was set, the node has said. What was not done there is no message for.
        if outcome.status >= 300 {
            let Outcome { status, body } = outcome;
            tracing::warn!(uid = %node, status, "a node did not do what was set: {body}");
        }
        Box::pin(std::future::ready(()))
    }

    fn next_hint(&self) -> Later<Hint> {
        let port = Arc::clone(&self.0);
        Box::pin(async move {
            loop {
                if let Some(wanted) = port.next_wanted() {
                    return Hint::Wanted(wanted);
                }
                port.news.notified().await;
            }
        })
    }
}
