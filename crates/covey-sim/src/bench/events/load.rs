//! All devices at work, in one thread of their own: what is measured shares
//! the processor with them, and one thread needs no locks.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, LocalSet};
use tokio_util::sync::CancellationToken;

use crate::bench::events::connection::{Address, Connection};
use crate::bench::events::sender::{Course, Sender, Sent};
use crate::error::{Error, Result};
use crate::quantity::Rate;
use crate::seed::SplitMix64;

/// Devices that connect at a time.
const CONNECTING: usize = 32;
/// Time between the last connection and the first event.
const SETTLE: Duration = Duration::from_millis(200);

/// A device that is to send.
#[derive(Clone)]
pub(super) struct Identified {
    pub(super) sn: Arc<str>,
    pub(super) tls: Arc<ClientConfig>,
}

/// What all devices do.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) address: Address,
    pub(super) with_eva: bool,
    pub(super) window: u16,
    pub(super) duplicates: Rate,
    /// Events of all devices a second; `None`: as many as the server takes.
    pub(super) rate_per_s: Option<f64>,
    pub(super) warmup: Duration,
    pub(super) duration: Duration,
}

/// The load, running in its thread.
pub(super) struct Running {
    /// Told when all are connected, with the instant from which is recorded.
    pub(super) began: oneshot::Receiver<Instant>,
    pub(super) ended: oneshot::Receiver<Result<Vec<Sent>>>,
}

/// Starts the load.
pub(super) fn start(plan: Plan, devices: Vec<Identified>, stop: CancellationToken) -> Result<Running> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::LoadThread { source })?;
    let (began_tx, began) = oneshot::channel();
    let (ended_tx, ended) = oneshot::channel();
    let work = move || {
        let outcome = runtime.block_on(LocalSet::new().run_until(async move {
            tokio::select! {
                outcome = run(plan, devices, began_tx) => outcome,
                () = stop.cancelled() => Err(Error::Stopped),
            }
        }));
        // Whoever does not wait any more has been stopped.
        let _ = ended_tx.send(outcome);
    };
    std::thread::Builder::new()
        .name("events".to_owned())
        .spawn(work)
        .map_err(|source| Error::LoadThread { source })?;
    Ok(Running { began, ended })
}

async fn run(plan: Plan, devices: Vec<Identified>, began: oneshot::Sender<Instant>) -> Result<Vec<Sent>> {
    let connections = connect_all(&plan, devices).await?;
    let start = Instant::now() + SETTLE;
    let record_from = start + plan.warmup;
    let _ = began.send(record_from);
    #[allow(clippy::cast_precision_loss)] // far fewer than 2^53 devices
    let interval = plan.rate_per_s.map(|rate| Duration::from_secs_f64(connections.len() as f64 / rate));
    let mut senders = JoinSet::new();
    let count = u32::try_from(connections.len()).unwrap_or(u32::MAX).max(1);
    for (place, mut connection) in (0_u32..).zip(connections) {
        let course = Course {
            record_from,
            end: record_from + plan.duration,
            // Evenly spread, so that the devices do not send in step.
            due: interval.map(|interval| (start + interval * place / count, interval)),
            window: plan.window,
            duplicates: plan.duplicates,
        };
        let random = SplitMix64::new(place.into());
        senders.spawn_local(async move {
            tokio::time::sleep_until(start.into()).await;
            let sent = Sender::new(&mut connection, course, random).run().await;
            connection.close().await;
            (place, sent)
        });
    }
    let mut all = Vec::with_capacity(senders.len());
    while let Some(ended) = senders.join_next().await {
        // A sender is not cancelled, and does not panic.
        all.extend(ended);
    }
    all.sort_by_key(|(place, _)| *place);
    Ok(all.into_iter().map(|(_, sent)| sent).collect())
}

/// Connects all devices, a few at a time, in their order.
async fn connect_all(plan: &Plan, devices: Vec<Identified>) -> Result<Vec<Connection>> {
    let count = devices.len();
    let mut connected = Vec::with_capacity(count);
    let mut connecting = JoinSet::new();
    let mut waiting = devices.into_iter().enumerate();
    let began = Instant::now();
    loop {
        while connecting.len() < CONNECTING
            && let Some((place, device)) = waiting.next()
        {
            let (address, with_eva) = (plan.address.clone(), plan.with_eva);
            connecting.spawn_local(async move {
                let opened = Connection::open(&address, device.tls, &device.sn, with_eva).await;
                (place, device.sn, opened)
            });
        }
        let Some(outcome) = connecting.join_next().await else { break };
        // A connecting device is not cancelled, and does not panic.
        let Ok((place, sn, opened)) = outcome else { continue };
        match opened {
            Ok(connection) => connected.push((place, connection)),
            Err(error) => return Err(not_connected(count, count - connected.len(), &sn, &error, began)),
        }
    }
    connected.sort_by_key(|(place, _)| *place);
    Ok(connected.into_iter().map(|(_, connection)| connection).collect())
}

fn not_connected(count: usize, missing: usize, sn: &str, error: &io::Error, began: Instant) -> Error {
    Error::NotConnected { missing, count, sn: sn.to_owned(), why: error.to_string(), waited: began.elapsed() }
}
