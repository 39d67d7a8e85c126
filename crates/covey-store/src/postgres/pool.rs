//! The connections that read: a few for each lane, made when they are needed and kept
//! (`docs/adr/0021-reads-in-lanes-writes-in-turns.md`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use covey_core::error::{Error, Result, StorageFault};
use covey_core::port::{BoxFuture, Found, Lane, ReadKind, Turn};
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_postgres::{Client, Row, Statement};

use crate::postgres::connection::Connector;
use crate::postgres::fault::{Failure, failure};
use crate::postgres::options::said;
use crate::postgres::pipeline::{self, Reply, Step, Value, query};
use crate::postgres::statements::Reading;
use crate::queue::{LANES, LaneQueue};
use crate::rows::{Damaged, Read};

/// How long a read of a few rows may take, its wait for a connection included.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a read waits for a connection to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take to tell the database that a statement shall end.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

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

/// Those who wait for a connection of a lane.
type Waiting = LaneQueue<oneshot::Sender<Place>>;

struct Shared {
    runtime: Handle,
    connector: Connector,
    idle: Mutex<Vec<ReadSession>>,
    lanes: [Mutex<Waiting>; LANES],
}

/// The right to use a connection of a lane.
struct Place {
    shared: Arc<Shared>,
    lane: Lane,
    turn: Turn,
    is_taken: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_taken {
            self.shared.waiting(self.lane).end(self.turn);
            self.shared.let_in(self.lane);
        }
    }
}

/// Why a statement was not waited for.
enum GivenUp {
    /// Nobody waits for its answer any more.
    Gone,
    /// It takes longer than it may.
    TookTooLong,
}

impl Pool {
    pub(super) fn new(runtime: Handle, connector: Connector) -> Self {
        let (readers, queue_max) = (connector.options().readers, connector.options().queue_max);
        let lanes = Lane::ALL.map(|lane| Mutex::new(LaneQueue::new(lane, readers, queue_max)));
        Self(Arc::new(Shared { runtime, connector, idle: Mutex::default(), lanes }))
    }

    /// Reads in the lane of this kind, in its turn. Where that may take long it ends when the future is
    /// dropped. `query` may be asked a second time, if the first time its connection turned out to be gone.
    pub(super) fn read<T: Send + 'static>(
        &self,
        kind: ReadKind,
        turn: Turn,
        query: impl for<'c> Fn(&'c ReadSession) -> BoxFuture<'c, Read<T>> + Send + Sync + 'static,
    ) -> Found<'static, T> {
        let shared = Arc::clone(&self.0);
        let (tell, told) = oneshot::channel();
        if shared.waiting(kind.lane()).put(turn, tell).is_err() {
            return Box::pin(std::future::ready(Err(StorageFault::Overloaded.into())));
        }
        shared.let_in(kind.lane());
        let (mut reply, answer) = oneshot::channel();
        let runtime = shared.runtime.clone();
        runtime.spawn(async move {
            let outcome = match kind.ms_max() {
                None => {
                    let read = shared.read(kind, None, told, &mut reply, &query);
                    timeout(READ_TIMEOUT, read).await.unwrap_or(Err(StorageFault::Unreachable.into()))
                }
                Some(ms) => {
                    shared.read(kind, Some(Duration::from_millis(ms)), told, &mut reply, &query).await
                }
            };
            // Whoever asked may have gone away.
            let _ = reply.send(outcome);
        });
        Box::pin(async move { answer.await.unwrap_or(Err(Error::from(StorageFault::Stopped))) })
    }
}

impl Shared {
    fn waiting(&self, lane: Lane) -> MutexGuard<'_, Waiting> {
        // Whole whenever it is unlocked.
        self.lanes[lane as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the places that are free to those whose turn it is.
    fn let_in(self: &Arc<Self>, lane: Lane) {
        loop {
            let Some((turn, tell)) = self.waiting(lane).begin() else { return };
            let place = Place { shared: Arc::clone(self), lane, turn, is_taken: true };
            if let Err(mut place) = tell.send(place) {
                // It has gone away. Not by the place's drop, which would come back here for the next one.
                place.is_taken = false;
                self.waiting(lane).end(turn);
            }
        }
    }

    /// Reads once there is a place. Where there is a limit of time it also ends when nobody waits for the reply.
    async fn read<T>(
        &self,
        kind: ReadKind,
        time_max: Option<Duration>,
        told: oneshot::Receiver<Place>,
        reply: &mut oneshot::Sender<Result<T>>,
        query: &(impl for<'c> Fn(&'c ReadSession) -> BoxFuture<'c, Read<T>> + Send + Sync),
    ) -> Result<T> {
        // Dropped with its future, one that waits has given up its place.
        let _place = match time_max {
            None => told.await,
            Some(_) => match select(told, reply.cancellation()).await {
                Either::Left((place, _)) => place,
                Either::Right(_) => return Err(StorageFault::Stopped.into()),
            },
        }
        .map_err(|_| StorageFault::Unreachable)?;
        let mut last = Failure::Lost;
        for _ in 0..2 {
            let session = self.session(kind.lane()).await?;
            let asked = match time_max {
                None => Ok(query(&session).await),
                Some(time_max) => {
                    match timeout(time_max, select(query(&session), reply.cancellation())).await {
                        Ok(Either::Left((answer, _))) => Ok(answer),
                        Ok(Either::Right(_)) => Err(GivenUp::Gone),
                        Err(_) => Err(GivenUp::TookTooLong),
                    }
                }
            };
            match asked {
                Ok(Ok(found)) => {
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
                    return Ok(found);
                }
                // Whatever went wrong: the next read has a new connection.
                Ok(Err(Damaged::Postgres(error))) => last = failure(&error),
                Ok(Err(error)) => {
                    tracing::error!(%error, "PostgreSQL");
                    return Err(StorageFault::Io.into());
                }
                Err(why) => {
                    tracing::debug!(read = kind.name(), "read given up");
                    self.cancel(session).await;
                    return Err(match why {
                        GivenUp::TookTooLong => Error::TookTooLong,
                        GivenUp::Gone => StorageFault::Stopped.into(),
                    });
                }
            }
            if !matches!(last, Failure::Lost | Failure::Again) {
                break;
            }
        }
        Err(last.fault().into())
    }

    /// Ends what a connection is doing, and the connection: a request to cancel may reach the database when
    /// the statement has just ended, and must not hit the next one (PostgreSQL "Canceling Requests in Progress").
    async fn cancel(&self, session: ReadSession) {
        match timeout(CANCEL_TIMEOUT, self.connector.cancel(&session.client)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error = %said(&error), "PostgreSQL was not told to end a read"),
            Err(_) => tracing::debug!("PostgreSQL was not told to end a read in time"),
        }
    }

    /// A connection that nobody uses, or a new one.
    async fn session(&self, lane: Lane) -> Result<ReadSession, StorageFault> {
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
            Err(_) => {
                // Those who wait behind it need not: each would wait as long.
                let behind = self.waiting(lane).take_all();
                drop(behind);
                Err(StorageFault::Unreachable)
            }
        }
    }
}
