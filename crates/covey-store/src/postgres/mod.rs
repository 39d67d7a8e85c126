//! The store on PostgreSQL: one writer that commits for many, and separate readers.
//!
//! All writes of a server go through one thread with one connection. It takes
//! the jobs that wait, organisation by organisation in turns (`crate::queue`),
//! fetches what they need in one trip, runs them in memory, and sends what they
//! wrote with the commit in a second trip. Several servers may share a database.
//!
//! Its sessions hold locks and settings, so a pooler that gives each
//! transaction another connection (PgBouncer in transaction mode) cannot be
//! between the store and PostgreSQL.

mod access;
mod audit;
mod certificate;
mod clock;
mod connection;
mod device;
mod device_session;
mod enrolment;
mod event;
mod fault;
mod lists;
pub(crate) mod locks;
mod look;
mod migrations;
mod node;
pub(crate) mod numbers;
mod options;
mod own_limits;
pub(crate) mod partitions;
mod peer_message;
mod peers;
mod person;
mod pipeline;
mod pool;
mod prepared;
mod presence;
mod quota;
mod reader;
mod record;
mod retention;
pub(crate) mod servers;
mod session;
mod statements;
mod task;
mod tls;
mod token;
mod twin;
pub(crate) mod unfinished_move;
mod unit;
mod usage;
mod webhook;
mod write;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use covey_core::error::{Error, Result, StorageFault};
use covey_core::port::{BoxFuture, Clock, Found, Job, Observer, Peers, Reader, Room, Store};
use covey_core::retention::{Prune, Pruned};
use futures_channel::oneshot;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::error::StoreError;
use crate::postgres::connection::{Connector, asked};
use crate::postgres::fault::failure;
pub(crate) use crate::postgres::options::said;
use crate::postgres::peers::{Exchange, PeerSession};
use crate::postgres::pool::Pool;
use crate::postgres::session::Session;
use crate::postgres::write::writer::Writer;
use crate::queue::{self, Entrance};
use crate::write_state::WriteState;

pub use clock::DatabaseClock;
pub use look::{Look, look};
pub use options::{Options, TlsMode};
pub use peers::OnHeard;

/// How many threads do what is neither writing nor waiting for a caller.
const IO_THREADS: usize = 2;
/// How long a call beside the operations may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// A store on PostgreSQL.
pub struct Postgres {
    jobs: Option<Entrance<Box<dyn Job>>>,
    reads: Pool,
    connector: Connector,
    exchange: Arc<Exchange>,
    write_state: Arc<WriteState>,
    writer: Option<JoinHandle<()>>,
    io: Option<Runtime>,
}

impl Postgres {
    /// Connects, takes this server's name, brings the database to the newest
    /// version, and starts the threads of the store. Blocks.
    ///
    /// # Errors
    /// A database that cannot be reached for [`Options::open_timeout`], that
    /// refuses us, or is not of a kind that can be used; a name that is taken.
    pub fn open(
        options: &Options,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, StoreError> {
        // A thread of its own, because the caller's may belong to a runtime.
        std::thread::scope(|scope| {
            let opening = scope.spawn(|| Self::start(options, clock, observer));
            opening.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn start(
        options: &Options,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, StoreError> {
        let thread = |source| StoreError::Thread { source };
        let connector = Connector::new(options)?;
        let writing = Builder::new_current_thread().enable_all().build().map_err(thread)?;
        let io = Builder::new_multi_thread()
            .worker_threads(IO_THREADS)
            .thread_name("store-io")
            .enable_all()
            .build()
            .map_err(thread)?;
        writing.block_on(prepare(&connector, &*clock))?;
        let exchange = Arc::<Exchange>::default();
        let peers = io.block_on(PeerSession::open(&connector, &exchange))?;
        let session = writing.block_on(first_session(&connector))?;
        exchange.set_writer(session.writer.number());
        writing.block_on(unfinished_move::refuse_unfinished(&session.client, &options.place()))?;
        io.spawn(peers::run(connector.clone(), Arc::clone(&exchange), Arc::clone(&clock), peers));
        let reads = Pool::new(io.handle().clone(), connector.clone());
        let (jobs, job_queue) = queue::of_jobs(options.queue_max);
        let writer = Writer::new(
            writing,
            connector.clone(),
            session,
            clock,
            observer,
            Arc::clone(&exchange),
            job_queue,
        );
        let write_state = writer.state();
        let writer = std::thread::Builder::new()
            .name("store-write".to_owned())
            .spawn(move || writer.run())
            .map_err(thread)?;
        let (jobs, writer, io) = (Some(jobs), Some(writer), Some(io));
        Ok(Self { jobs, reads, connector, exchange, write_state, writer, io })
    }

    /// The way to the other servers on the database.
    #[must_use]
    pub fn peers(&self) -> Arc<dyn Peers> {
        Arc::clone(&self.exchange) as _
    }

    /// Sets whom to tell what other servers say, in place of whoever was told before.
    pub fn on_heard(&self, on_heard: OnHeard) {
        self.exchange.on_heard(on_heard);
    }

    /// A fact that all servers on the database must agree on: `value`, if none
    /// was stored under this key, or else what was stored first. Blocks.
    ///
    /// # Errors
    /// The database's.
    pub fn deployment_fact(&self, key: &str, value: &str) -> Result<String, StoreError> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.call("store a fact of the deployment", move |client| {
            Box::pin(async move {
                let sql = "INSERT INTO deployment (key, value) VALUES ($1, $2) ON CONFLICT DO NOTHING";
                client.execute(sql, &[&key, &value]).await?;
                client.query_one("SELECT value FROM deployment WHERE key = $1", &[&key]).await?.try_get(0)
            })
        })
    }

    /// Changes a fact of the deployment, if it is one of these now; answers what it is then.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub fn deployment_fact_change(
        &self,
        key: &str,
        from: Vec<String>,
        to: &str,
    ) -> Result<String, StoreError> {
        let (key, to) = (key.to_owned(), to.to_owned());
        self.call("change a fact of the deployment", move |client| {
            Box::pin(async move {
                let sql = "UPDATE deployment SET value = $2 WHERE key = $1 AND value = ANY($3)";
                client.execute(sql, &[&key, &to, &from]).await?;
                client.query_one("SELECT value FROM deployment WHERE key = $1", &[&key]).await?.try_get(0)
            })
        })
    }

    /// Forgets what is too old, on a connection of its own. A bounded amount.
    fn forget(&self, what: Prune) -> Found<'_, Pruned> {
        let connector = self.connector.clone();
        let (reply, answer) = oneshot::channel();
        if let Some(io) = &self.io {
            io.spawn(async move {
                let prune = async {
                    let client = connector.connect().await?;
                    client.batch_execute(retention::SET_UP).await?;
                    retention::prune(&client, &what).await
                };
                // Whoever asked may have gone away.
                let _ = reply.send(prune.await.map_err(|error| Error::from(failure(&error).fault())));
            });
        }
        Box::pin(async move { answer.await.unwrap_or(Err(StorageFault::Stopped.into())) })
    }

    /// Something that is done on a connection of its own, awaited by blocking.
    fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        act: impl FnOnce(Client) -> BoxFuture<'static, Result<T, tokio_postgres::Error>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connector = self.connector.clone();
        let place = self.connector.options().place();
        let unreachable = |problem: &str| StoreError::Unreachable { place, problem: problem.to_owned() };
        let (tell, told) = std::sync::mpsc::channel();
        if let Some(io) = &self.io {
            io.spawn(async move {
                let done = timeout(CALL_TIMEOUT, async { act(connector.connect().await?).await }).await;
                let _ = tell.send(done);
            });
        }
        match told.recv() {
            Ok(Ok(done)) => done.map_err(|error| asked(what, &error)),
            Ok(Err(_)) => Err(unreachable("it does not answer")),
            Err(_) => Err(unreachable("the store was stopped")),
        }
    }
}

/// How a connection is set up, and the prepared statements by their names, for
/// the tests that look at their plans.
#[doc(hidden)]
#[must_use]
pub fn statements_of_hot_ways() -> (&'static str, Vec<(String, String)>) {
    (connection::SET_UP, statements::all())
}

/// Checks the database and brings it to the newest version, as soon as it can
/// be reached.
async fn prepare(connector: &Connector, clock: &dyn Clock) -> Result<(), StoreError> {
    let client = connector.connect_patiently().await?;
    connector.check(&client).await?;
    migrations::run(&client, &connector.options().place()).await?;
    if let Err(error) = partitions::make_ahead(&client, clock.now()).await {
        tracing::warn!(error = %said(&error), "maintenance connection lost; retrying later");
    }
    Ok(())
}

/// Refuses a database on which servers run. Blocks.
///
/// # Errors
/// [`StoreError::Served`], or a database that cannot be asked.
pub fn refuse_servers(options: &Options) -> Result<(), StoreError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|source| StoreError::Thread { source })?.block_on(async {
        let client = Connector::new(options)?.connect_patiently().await?;
        match servers::is_served(&client).await {
            Ok(false) => Ok(()),
            Ok(true) => Err(StoreError::Served { place: options.place() }),
            Err(error) => Err(asked("tell whether servers run on it", &error)),
        }
    })
}

/// A connection for [`crate::migrate`], to a database of the newest version.
pub(crate) async fn connect_for_migration(options: &Options) -> Result<Client, StoreError> {
    let connector = Connector::new(options)?;
    let client = connector.connect_patiently().await?;
    connector.check(&client).await?;
    migrations::run(&client, &options.place()).await?;
    Ok(client)
}

async fn first_session(connector: &Connector) -> Result<Session, StoreError> {
    Session::open(connector, None).await.map_err(|failure| StoreError::Unreachable {
        place: connector.options().place(),
        problem: failure.fault().to_string(),
    })
}

impl Reader for Postgres {}

impl Store for Postgres {
    fn submit(&self, job: Box<dyn Job>) -> Result<(), StorageFault> {
        self.jobs.as_ref().ok_or(StorageFault::Stopped)?.put_job(job)
    }

    fn write_fault(&self) -> Option<StorageFault> {
        self.write_state.fault()
    }

    fn room(&self) -> Room {
        // How much the database's disk has left is not ours to see; that it has none, it says.
        if self.write_state.is_full() { Room::Full } else { Room::Enough }
    }

    fn prune(&self, what: Prune) -> Found<'_, Pruned> {
        self.forget(what)
    }
}

impl Drop for Postgres {
    /// Lets the writer finish what was submitted, and waits for it.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("writer thread panicked");
        }
        if let Some(io) = self.io.take() {
            // Dropped at once it would wait, which is forbidden inside another runtime.
            io.shutdown_background();
        }
    }
}
