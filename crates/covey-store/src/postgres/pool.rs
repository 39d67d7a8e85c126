//! The connections that read: a few, made when they are needed and kept.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use covey_core::error::{Error, Result, StorageFault};
use covey_core::port::{BoxFuture, Found};
use futures_channel::oneshot;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_postgres::{Client, Row, Statement};

use crate::postgres::connection::Connector;
use crate::postgres::fault::{Failure, failure};
use crate::postgres::pipeline::{self, Reply, Step, Value, query};
use crate::postgres::statements::Reading;
use crate::rows::{Damaged, Read};

/// How long a read may take, its wait for a connection included.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a read waits for a connection to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that reads.
pub(super) struct ReadSession {
    pub(super) client: Client,
    pub(super) sql: Reading,
}

impl ReadSession {
    /// A statement that answers rows.
    pub(super) fn query<'s>(
        &'s self,
        statement: fn(&Reading) -> &Statement,
        values: Vec<Value<'s>>,
    ) -> Step<'s> {
        query(&self.client, statement(&self.sql), values)
    }

    /// What several statements answer as of one moment, in one trip; `begin` begins
    /// the transaction.
    pub(super) async fn at_one_moment<'s, const N: usize>(
        &'s self,
        begin: &'s str,
        steps: [Step<'s>; N],
    ) -> Read<[Vec<Row>; N]> {
        let mut all = vec![pipeline::batch(&self.client, begin)];
        all.extend(steps);
        all.push(pipeline::batch(&self.client, "COMMIT"));
        let mut replies = pipeline::run(all).await?.into_iter().skip(1).map(Reply::rows);
        // There is an answer to each.
        Ok(std::array::from_fn(|_| replies.next().unwrap_or_default()))
    }
}

/// The connections that read. What waits does so on the store's own runtime,
/// so that a read may be awaited on any other.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    runtime: Handle,
    connector: Connector,
    idle: Mutex<Vec<ReadSession>>,
    connections: Semaphore,
    waiting: AtomicUsize,
    queue_max: usize,
}

impl Pool {
    pub(super) fn new(runtime: Handle, connector: Connector) -> Self {
        let connections = Semaphore::new(connector.options().readers.max(1));
        let queue_max = connector.options().queue_max.max(1);
        let (idle, waiting) = (Mutex::default(), AtomicUsize::new(0));
        Self(Arc::new(Shared { runtime, connector, idle, connections, waiting, queue_max }))
    }

    /// Reads. `query` may be asked a second time, if the first time its
    /// connection turned out to be gone.
    pub(super) fn read<T: Send + 'static>(
        &self,
        query: impl for<'c> Fn(&'c ReadSession) -> BoxFuture<'c, Read<T>> + Send + Sync + 'static,
    ) -> Found<'static, T> {
        let shared = Arc::clone(&self.0);
        if shared.waiting.fetch_add(1, Ordering::Relaxed) >= shared.queue_max {
            shared.waiting.fetch_sub(1, Ordering::Relaxed);
            return Box::pin(std::future::ready(Err(StorageFault::Overloaded.into())));
        }
        let (reply, answer) = oneshot::channel();
        let runtime = shared.runtime.clone();
        runtime.spawn(async move {
            let outcome = timeout(READ_TIMEOUT, shared.attempts(&query)).await;
            shared.waiting.fetch_sub(1, Ordering::Relaxed);
            let outcome = outcome.unwrap_or(Err(StorageFault::Unreachable));
            // Whoever asked may have gone away.
            let _ = reply.send(outcome.map_err(Error::from));
        });
        Box::pin(async move { answer.await.unwrap_or(Err(Error::from(StorageFault::Stopped))) })
    }
}

impl Shared {
    async fn attempts<T>(
        &self,
        query: &(impl for<'c> Fn(&'c ReadSession) -> BoxFuture<'c, Read<T>> + Send + Sync),
    ) -> Result<T, StorageFault> {
        let _permit = self.connections.acquire().await.map_err(|_| StorageFault::Stopped)?;
        let mut last = Failure::Lost;
        for _ in 0..2 {
            let session = self.session().await?;
            match query(&session).await {
                Ok(found) => {
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
                    return Ok(found);
                }
                // Whatever went wrong: the next read has a new connection.
                Err(Damaged::Postgres(error)) => last = failure(&error),
                Err(error) => {
                    tracing::error!(%error, "PostgreSQL");
                    return Err(StorageFault::Io);
                }
            }
            if !matches!(last, Failure::Lost | Failure::Again) {
                break;
            }
        }
        Err(last.fault())
    }

    async fn session(&self) -> Result<ReadSession, StorageFault> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                Some(session) if !session.client.is_closed() => return Ok(session),
                Some(_) => {}
                None => break,
            }
        }
        let connect = async {
            let client = self.connector.connect().await?;
            let sql = Reading::prepare(&client).await?;
            Ok(ReadSession { client, sql })
        };
        match timeout(CONNECT_TIMEOUT, connect).await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(error)) => {
                failure(&error);
                Err(StorageFault::Unreachable)
            }
            Err(_) => Err(StorageFault::Unreachable),
        }
    }
}
