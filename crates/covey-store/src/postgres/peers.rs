//! The other servers on the database: what they are told and heard to say, over
//! a connection that also holds this server's name.
//!
//! Notifications are sent after the commits and not within them: PostgreSQL
//! lets transactions that notify commit one at a time. What is lost, because
//! the process ended or the connection was away, is made up for by looking: a
//! gap says when.

use std::future::poll_fn;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use covey_core::port::{Clock, FromPeers, PeerMessage, Peers};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{AsyncMessage, Client};

use crate::error::StoreError;
use crate::postgres::connection::{Connector, asked};
use crate::postgres::fault::failure;
use crate::postgres::locks::LockClass;
use crate::postgres::options::said;
use crate::postgres::peer_message::{self, CHANNEL};
use crate::postgres::servers::{Housekeeping, Own};

/// How much news may wait to be sent; beyond that the others are told of a gap.
const NEWS_WAITING_MAX: usize = 50_000;
/// How much is sent in one statement.
const NEWS_SENT_MAX: usize = 5_000;
/// How long news are gathered for the next statement, counted from the last: each
/// is a transaction, and wakes every server.
const NEWS_PAUSE: Duration = Duration::from_millis(2);
/// How long a server that starts waits for the end of its predecessor.
const NAME_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between looks whether it has ended.
const NAME_PAUSE: Duration = Duration::from_millis(10);
/// How long one exchange with the database may take.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(15);
/// How often this server looks after the others.
const HOUSEKEEPING_PAUSE: Duration = Duration::from_secs(1);
/// After how long a server that has just come looks once more for what it may
/// have missed: the others may not have known that they are not alone.
const ARRIVAL: Duration = Duration::from_secs(2);
/// The pauses between attempts to connect.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Whom to tell what was heard. Called on the store's own runtime; it must not
/// block, and must not panic.
pub type OnHeard = Arc<dyn Fn(FromPeers) + Send + Sync>;

/// What waits to be sent, and who listens.
#[derive(Default)]
pub(super) struct Exchange {
    waiting: Mutex<Waiting>,
    news: Notify,
    on_heard: RwLock<Option<OnHeard>>,
    company: Company,
    /// The number of this server's writer.
    writer: AtomicI32,
}

/// Whether any other server is there: in the lowest bit; above it, how often
/// one was heard or supposed to be.
#[derive(Default)]
struct Company(AtomicU64);

impl Company {
    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn is_there(&self) -> bool {
        self.now() & 1 == 1
    }

    fn has_come(&self) {
        let count = |was: u64| Some((was | 1).wrapping_add(2));
        // It always answers something, so this cannot fail.
        let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count);
    }

    /// Nobody was seen by a look that began when it was `before`; whoever came
    /// meanwhile is there.
    fn has_gone(&self, before: u64) {
        let _ = self.0.compare_exchange(before, before & !1, Ordering::SeqCst, Ordering::SeqCst);
    }
}

#[derive(Default)]
struct Waiting {
    lines: Vec<String>,
    /// Whether records were written. It is said of nearly every commit, so it is
    /// kept as this and said once in each pause.
    has_records: bool,
    has_gap: bool,
}

impl Exchange {
    pub(super) fn on_heard(&self, on_heard: OnHeard) {
        *self.on_heard.write().unwrap_or_else(PoisonError::into_inner) = Some(on_heard);
    }

    fn hear(&self, heard: FromPeers) {
        let on_heard = self.on_heard.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(on_heard) = on_heard {
            on_heard(heard);
        }
    }

    /// A message came from a server that may be this one.
    fn message(&self, text: &str, own: Option<i32>) {
        let Some(message) = peer_message::read(text).filter(|message| Some(message.from) != own) else {
            return;
        };
        self.company.has_come();
        if message.has_gap {
            self.hear(FromPeers::Gap);
        }
        if !message.news.is_empty() {
            self.hear(FromPeers::Messages(message.news));
        }
    }

    /// What is to be sent next; that records were written, only if a pause was
    /// made before.
    fn take(&self, is_after_pause: bool) -> Waiting {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.lines.len().min(NEWS_SENT_MAX);
        let rest = waiting.lines.split_off(count);
        let mut lines = std::mem::replace(&mut waiting.lines, rest);
        let has_records = is_after_pause && std::mem::take(&mut waiting.has_records);
        if has_records {
            lines.push(peer_message::line(&PeerMessage::Recorded));
        }
        Waiting { lines, has_records, has_gap: std::mem::take(&mut waiting.has_gap) }
    }

    /// What could not be sent is a gap for the others.
    fn lose(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.lines.clear();
        waiting.has_records = false;
        waiting.has_gap = true;
        drop(waiting);
        self.news.notify_one();
    }

    /// If no other server is known to be on the database: since when, as a
    /// number that is another one after each visit.
    pub(super) fn alone_since(&self) -> Option<u64> {
        let now = self.company.now();
        (now & 1 == 0).then_some(now)
    }

    pub(super) fn set_writer(&self, writer: i32) {
        self.writer.store(writer, Ordering::SeqCst);
    }

    pub(super) fn writer(&self) -> i32 {
        self.writer.load(Ordering::SeqCst)
    }
}

impl Peers for Exchange {
    fn broadcast(&self, news: PeerMessage) {
        if !self.company.is_there() {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if news == PeerMessage::Recorded {
            if std::mem::replace(&mut waiting.has_records, true) {
                // Whoever was woken for it has not come yet.
                return;
            }
        } else {
            if waiting.lines.len() >= NEWS_WAITING_MAX {
                waiting.lines.clear();
                waiting.has_gap = true;
            }
            waiting.lines.push(peer_message::line(&news));
        }
        drop(waiting);
        self.news.notify_one();
    }
}

/// The connection to the others.
pub(super) struct PeerSession {
    client: Client,
    server: i32,
}

impl PeerSession {
    /// Connects, takes this server's name, and listens. A name that is taken
    /// is waited for a while: a connection outlives its process for a moment.
    pub(super) async fn open(connector: &Connector, exchange: &Arc<Exchange>) -> Result<Self, StoreError> {
        let options = connector.options();
        let unreachable = |error: tokio_postgres::Error| StoreError::Unreachable {
            place: options.place(),
            problem: said(&error),
        };
        let (client, mut connection) = connector.connect_raw().await.map_err(unreachable)?;
        let own = Arc::new(OnceLock::new());
        let (ears, own_number) = (Arc::clone(exchange), Arc::clone(&own));
        tokio::spawn(async move {
            // Ends with the client, or with the connection.
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(notification) = message {
                    ears.message(notification.payload(), own_number.get().copied());
                }
            }
        });
        connector.set_up(&client).await.map_err(unreachable)?;
        // Nothing here is worth waiting for the disk.
        client.batch_execute("SET synchronous_commit = off").await.map_err(unreachable)?;
        let server = take_name(&client, &options.server).await?;
        // Nobody has set it before.
        let _ = own.set(server);
        let report = |error: tokio_postgres::Error| asked("listen to other servers", &error);
        client.batch_execute(&format!("LISTEN {CHANNEL}")).await.map_err(report)?;
        let hello = vec![peer_message::hello(server)];
        notify(&client, &hello).await.map_err(report)?;
        // Until the first look says otherwise.
        exchange.company.has_come();
        Ok(Self { client, server })
    }
}

async fn notify(client: &Client, messages: &[String]) -> Result<(), tokio_postgres::Error> {
    let sql = "SELECT pg_notify($1, m) FROM unnest($2::text[]) AS m";
    client.execute(sql, &[&CHANNEL, &messages]).await.map(drop)
}

/// Takes the lock of this server's name; answers the name's number.
async fn take_name(client: &Client, name: &str) -> Result<i32, StoreError> {
    let report = |error: tokio_postgres::Error| asked("take this server's name", &error);
    let begun = Instant::now();
    loop {
        let sql = "INSERT INTO servers (name) VALUES ($1) \
             ON CONFLICT (name) DO UPDATE SET started_at = now() RETURNING id";
        let number: i32 =
            client.query_one(sql, &[&name]).await.and_then(|row| row.try_get(0)).map_err(report)?;
        let sql = "SELECT pg_try_advisory_lock($1, $2)";
        let class = LockClass::Server.number();
        let row = client.query_one(sql, &[&class, &number]).await.map_err(report)?;
        if row.try_get(0).map_err(report)? {
            // Another server may have forgotten the name just before.
            let sql = "SELECT 1 FROM servers WHERE id = $1";
            if client.query_opt(sql, &[&number]).await.map_err(report)?.is_some() {
                return Ok(number);
            }
            client.execute("SELECT pg_advisory_unlock($1, $2)", &[&class, &number]).await.map_err(report)?;
        } else if begun.elapsed() > NAME_TIMEOUT {
            return Err(StoreError::NameTaken { name: name.to_owned() });
        }
        sleep(NAME_PAUSE).await;
    }
}

/// Speaks, listens and looks after the others until the runtime ends.
pub(super) async fn run(
    connector: Connector,
    exchange: Arc<Exchange>,
    clock: Arc<dyn Clock>,
    first: PeerSession,
) {
    let mut housekeeping = Housekeeping::default();
    let mut session = Some(first);
    let mut pause = PAUSE_MIN;
    loop {
        let open = match session.take() {
            Some(session) => session,
            None => match timeout(EXCHANGE_TIMEOUT, PeerSession::open(&connector, &exchange)).await {
                Ok(Ok(session)) => {
                    // What was said meanwhile was missed, here and there.
                    exchange.hear(FromPeers::Gap);
                    exchange.lose();
                    pause = PAUSE_MIN;
                    session
                }
                outcome => {
                    if let Ok(Err(error)) = outcome {
                        tracing::warn!(%error, "no notifications from other servers; reconnecting");
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                    continue;
                }
            },
        };
        if let Err(error) = converse(&*clock, &exchange, &open, &mut housekeeping).await {
            failure(&error);
        }
        // Whoever comes now is not heard.
        exchange.company.has_come();
        exchange.lose();
        sleep(PAUSE_MIN).await;
    }
}

/// Until the connection fails.
async fn converse(
    clock: &dyn Clock,
    exchange: &Exchange,
    session: &PeerSession,
    housekeeping: &mut Housekeeping,
) -> Result<(), tokio_postgres::Error> {
    let arrived = Instant::now();
    let mut is_settled = false;
    let mut sent_at = arrived;
    loop {
        // Whoever comes after the look says so.
        if housekeeping.is_due(HOUSEKEEPING_PAUSE) {
            let before = exchange.company.now();
            let own = Own { server: session.server, writer: exchange.writer.load(Ordering::SeqCst) };
            match timeout(EXCHANGE_TIMEOUT, housekeeping.run(&session.client, own, clock.now())).await {
                Ok(has_company) => {
                    if has_company? {
                        exchange.company.has_come();
                    } else {
                        exchange.company.has_gone(before);
                    }
                }
                Err(_) => return Ok(()),
            }
        }
        // Either there is news, or it is time to look around.
        let _ = timeout(HOUSEKEEPING_PAUSE, exchange.news.notified()).await;
        tokio::time::sleep_until(sent_at + NEWS_PAUSE).await;
        let mut is_after_pause = true;
        loop {
            let Waiting { lines, has_gap, .. } = exchange.take(is_after_pause);
            is_after_pause = false;
            let messages = peer_message::messages(session.server, &lines, has_gap);
            if messages.is_empty() {
                break;
            }
            match timeout(EXCHANGE_TIMEOUT, notify(&session.client, &messages)).await {
                Ok(sent) => sent?,
                Err(_) => return Ok(()),
            }
            sent_at = Instant::now();
        }
        if !is_settled && arrived.elapsed() > ARRIVAL {
            is_settled = true;
            exchange.hear(FromPeers::Gap);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use covey_core::id::DeviceKey;

    #[test]
    fn that_records_were_written_is_said_once_a_pause_and_to_nobody_if_nobody_is_there() {
        let exchange = Exchange::default();
        exchange.broadcast(PeerMessage::Recorded);
        assert_eq!(exchange.take(true).lines, Vec::<String>::new(), "nobody is there");
        exchange.company.has_come();
        for _ in 0..1_000 {
            exchange.broadcast(PeerMessage::Recorded);
            exchange.broadcast(PeerMessage::Opened(DeviceKey(1)));
        }
        let lines = exchange.take(true).lines;
        assert_eq!(lines.iter().filter(|line| *line == "w").count(), 1);
        assert_eq!(lines.len(), 1_001);
        exchange.broadcast(PeerMessage::Recorded);
        assert!(exchange.take(false).lines.is_empty(), "not before the next pause");
        assert_eq!(exchange.take(true).lines, ["w"]);
    }
}
