//! The link at work: two connections that are made again whenever they are
//! lost, and what goes on over them.

use std::sync::Arc;
use std::time::Duration;

use covey_core::Engine;
use lapin::Connection;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::amqp::management::Management;
use crate::amqp::presence::{Ear, Presence};
use crate::amqp::state::Way;
use crate::amqp::{AmqpError, AmqpLink, accounts, connection, intake, topology};
use crate::conversion;

/// How long the link waits before it connects again.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// The longest such wait, up to a fifth more.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How long all of it may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The link at work.
pub struct Running {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Running {
    /// Connects, declares what the deployment needs, and begins to work. A
    /// broker that is out of reach is waited for while the server runs.
    ///
    /// # Errors
    /// Settings that trying again will not mend: credentials, TLS files, rights,
    /// a queue that is there with other settings. Also a link that was started
    /// before.
    pub async fn start(link: Arc<AmqpLink>, engine: Arc<Engine>) -> Result<Self, AmqpError> {
        let already = || AmqpError::Setting { field: "link", problem: "it was started before".to_owned() };
        let waiting = link.take_waiting().ok_or_else(already)?;
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        // Both are tried once before anything runs, so that wrong settings fail the start.
        let inward = connect_inward(&link).await.or_else(|error| pass_over(&link, error))?;
        let outward = connection::open(&link.options, "publish").await.map(Some);
        let outward = outward.or_else(|error| pass_over(&link, error))?;
        let presence = Presence::start(&link, &engine, &stop, &mut tasks);
        tasks.spawn(announce(Arc::clone(&link), waiting.announcements, stop.clone()));
        tasks.spawn(outward_always(Arc::clone(&link), outward, stop.clone()));
        match Management::new(&link.options) {
            Some(management) => {
                let looking = Arc::clone(&presence).keep_looking(
                    Arc::clone(&link),
                    Arc::clone(&engine),
                    management,
                    stop.clone(),
                );
                tasks.spawn(looking);
            }
            None => tracing::warn!(
                "management API not configured: Covey keeps no accounts of devices in RabbitMQ, and sees devices \
                 that are already connected when they connect again"
            ),
        }
        tasks.spawn(accounts::keep(Arc::clone(&link), Arc::clone(&engine), waiting.accounts, stop.clone()));
        tasks.spawn(inward_always(Arc::clone(&link), Arc::clone(&engine), presence, inward, stop.clone()));
        Ok(Self { stop, tasks })
    }

    /// Stops taking messages, finishes those under way, and closes.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let ending = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, ending).await.is_err() {
            tracing::warn!("link to RabbitMQ not stopped in time");
        }
    }
}

/// Logs what may pass; returns what is permanent.
fn pass_over<T>(link: &AmqpLink, error: AmqpError) -> Result<Option<T>, AmqpError> {
    if error.is_permanent() {
        return Err(error);
    }
    link.state.outage.log(&error, "this server is not connected to RabbitMQ");
    Ok(None)
}

/// The consuming connection, with everything declared.
struct Inward {
    connection: Connection,
    ear: Ear,
}

async fn connect_inward(link: &AmqpLink) -> Result<Option<Inward>, AmqpError> {
    let connection = connection::open(&link.options, "consume").await?;
    topology::declare(&connection.create_channel().await?).await?;
    let ear = Ear::open(link, &connection).await?;
    Ok(Some(Inward { connection, ear }))
}

async fn inward_always(
    link: Arc<AmqpLink>,
    engine: Arc<Engine>,
    presence: Arc<Presence>,
    first: Option<Inward>,
    stop: CancellationToken,
) {
    let mut backoff = Backoff::default();
    let mut ready = first;
    while !stop.is_cancelled() {
        let made = match ready.take() {
            Some(inward) => Ok(Some(inward)),
            None => match stop.run_until_cancelled(connect_inward(&link)).await {
                Some(made) => made,
                None => return,
            },
        };
        let ended = match made {
            Ok(Some(Inward { connection, ear })) => {
                link.state.is_up(Way::In, true);
                tracing::info!(hosts = link.options.hosts(), "connected to RabbitMQ");
                backoff = Backoff::default();
                let hearing = presence.hear(&link, ear, &stop);
                let taking = intake::run(&link, &engine, &connection, &stop);
                let ended = tokio::try_join!(hearing, taking).map(drop);
                link.state.is_up(Way::In, false);
                connection::close(&connection).await;
                ended
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        backoff.after(&link, ended, "this server receives nothing from RabbitMQ", &stop).await;
    }
}

async fn outward_always(link: Arc<AmqpLink>, first: Option<Connection>, stop: CancellationToken) {
    let mut backoff = Backoff::default();
    let mut ready = first;
    while !stop.is_cancelled() {
        let made = match ready.take() {
            Some(connection) => Ok(connection),
            None => match stop.run_until_cancelled(connection::open(&link.options, "publish")).await {
                Some(made) => made,
                None => return,
            },
        };
        let ended = match made {
            Ok(connection) => {
                let began = tokio::time::Instant::now();
                let using = link.publisher.use_connection(&connection);
                let ended = stop.run_until_cancelled(using).await.unwrap_or(Ok(()));
                if stop.is_cancelled() {
                    // Replies of messages under way still go out.
                    tokio::time::sleep(LAST_REPLIES).await;
                }
                link.publisher.lost();
                connection::close(&connection).await;
                if began.elapsed() > BACKOFF_MAX {
                    backoff = Backoff::default();
                }
                ended
            }
            Err(error) => Err(error),
        };
        backoff.after(&link, ended, "this server cannot publish to RabbitMQ", &stop).await;
    }
}

/// How long replies may still go out once the server stops.
const LAST_REPLIES: Duration = Duration::from_millis(500);

/// Publishes announcements as they come.
async fn announce(
    link: Arc<AmqpLink>,
    mut announcements: tokio::sync::mpsc::Receiver<covey_core::port::Announcement>,
    stop: CancellationToken,
) {
    while let Some(Some(task)) = stop.run_until_cancelled(announcements.recv()).await {
        let message = conversion::announcement(&task, link.clock.now());
        link.publisher.announce(&task, &message).await;
    }
}

/// How long to wait before the next attempt.
struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(BACKOFF_FIRST)
    }
}

impl Backoff {
    async fn after(
        &mut self,
        link: &AmqpLink,
        ended: Result<(), AmqpError>,
        what: &str,
        stop: &CancellationToken,
    ) {
        if stop.is_cancelled() {
            return;
        }
        if let Err(error) = ended {
            link.state.outage.log(&error, what);
        }
        // So that the servers of a deployment do not all come at once.
        let wait = self.0.mul_f64(rand::random_range(0.8..1.2));
        let _ = stop.run_until_cancelled(tokio::time::sleep(wait)).await;
        self.0 = (self.0 * 2).min(BACKOFF_MAX);
    }
}
