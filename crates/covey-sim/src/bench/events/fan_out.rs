//! `bench streams`: what an open stream costs the server, and how long an event
//! takes to reach all of them.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use covey_client::Stream;
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::connection::{Address, Connection, Numbered};
use super::load::Identified;
use super::stream::{PACKET_ID, WAIT, events_of_sensors, told_of};
use super::{identified, prepare};
use crate::bench::bed::Bed;
use crate::bench::calls::as_seconds;
use crate::bench::connect::growth;
use crate::bench::latency::{Latencies, LatencySummary};
use crate::bench::server_work::ServerCounters;
use crate::error::{Error, Result};
use crate::open_files::allow_open_files;

/// Streams that are opened at a time.
const OPENING: usize = 64;
/// Time between two events.
const PAUSE: Duration = Duration::from_millis(50);

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StreamsOptions {
    /// Streams that are open.
    pub streams: NonZeroU32,
    /// Events, one after the other, each of which goes to all streams.
    pub events: NonZeroU32,
    /// Time between the last stream's opening and the measurement of memory.
    #[serde(rename = "settle_s", serialize_with = "as_seconds")]
    pub settle: Duration,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StreamsResult {
    /// How it was measured.
    pub options: StreamsOptions,
    /// Until all were open, in seconds.
    pub opened_s: f64,
    /// The server's resident memory without the streams, in bytes.
    pub server_before_bytes: u64,
    /// With them, after the time to settle, in bytes.
    pub server_after_bytes: u64,
    /// After the events, in bytes.
    pub server_end_bytes: u64,
    /// What each stream costs, open and silent, in bytes.
    pub server_bytes_per_stream: f64,
    /// The same after the events.
    pub server_end_bytes_per_stream: f64,
    /// From sending an event to hearing of it on the first stream.
    pub first: LatencySummary,
    /// The same for each of the streams.
    pub each: LatencySummary,
    /// The same for the last: when all have heard of it.
    pub last: LatencySummary,
    /// The server's processor time for each event on each stream, in microseconds.
    pub server_cpu_us_per_message: f64,
}

/// Measures open streams.
///
/// # Errors
/// Those of the fleet and of the server, [`Error::Streams`] and [`Error::Stopped`].
pub async fn streams(bed: &Bed, options: StreamsOptions) -> Result<StreamsResult> {
    tokio::select! {
        result = measure(bed, options) => result,
        () = bed.stop.cancelled() => Err(Error::Stopped),
    }
}

async fn measure(bed: &Bed, options: StreamsOptions) -> Result<StreamsResult> {
    allow_open_files(options.streams.get().into())?;
    let address = Address::parse(&bed.mqtts).ok_or_else(|| Error::Broker { url: bed.mqtts.clone() })?;
    let fleet = prepare(bed, NonZeroU32::MIN).await?;
    let device = identified(&fleet.members)?.pop().ok_or(Error::Stopped)?;
    let connection = Connection::open(&address, Arc::clone(&device.tls), &device.sn, false).await;
    let connection = connection.map_err(|error| broken(&error))?;

    let before = ServerCounters::read(&bed.client).await?;
    let began = Instant::now();
    let open = open_all(bed, options.streams.get()).await?;
    let opened_s = began.elapsed().as_secs_f64();
    tokio::time::sleep(options.settle).await;
    let after = ServerCounters::read(&bed.client).await?;
    let heard = tell(connection, &device, open, options.events.get()).await?;
    let end = ServerCounters::read(&bed.client).await?;

    let streams = f64::from(options.streams.get());
    let none = || Error::Streams { why: "no event was told of".to_owned() };
    Ok(StreamsResult {
        opened_s,
        server_before_bytes: before.resident_bytes(),
        server_after_bytes: after.resident_bytes(),
        server_end_bytes: end.resident_bytes(),
        server_bytes_per_stream: growth(before.resident_bytes(), after.resident_bytes()) / streams,
        server_end_bytes_per_stream: growth(before.resident_bytes(), end.resident_bytes()) / streams,
        first: heard.first.summary().ok_or_else(none)?,
        each: heard.each.summary().ok_or_else(none)?,
        last: heard.last.summary().ok_or_else(none)?,
        server_cpu_us_per_message: end.work_since(&after).cpu_s * 1e6
            / streams
            / f64::from(options.events.get()),
        options,
    })
}

/// Opens so many streams, a few at a time; each has an answer when this ends.
async fn open_all(bed: &Bed, count: u32) -> Result<Vec<Stream>> {
    let places = Arc::new(Semaphore::new(OPENING));
    let mut opening = JoinSet::new();
    for _ in 0..count {
        let (client, places) = (bed.client.clone(), Arc::clone(&places));
        opening.spawn(async move {
            // The semaphore is not closed: there is a permit, sooner or later.
            let _permit = places.acquire().await;
            client.stream(&events_of_sensors(), None).await
        });
    }
    let mut open = Vec::with_capacity(count as usize);
    while let Some(opened) = opening.join_next().await {
        // A stream's opening is not cancelled, and does not panic.
        if let Ok(opened) = opened {
            open.push(opened?);
        }
    }
    Ok(open)
}

struct Heard {
    first: Latencies,
    each: Latencies,
    last: Latencies,
}

/// Sends events one after the other, each when all streams have told of the one before.
async fn tell(
    mut connection: Connection,
    device: &Identified,
    open: Vec<Stream>,
    events: u32,
) -> Result<Heard> {
    let since_epoch_s = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // Not the numbers of an earlier run, as long as one event a second is not too few.
    let first_number = u32::try_from(since_epoch_s()).unwrap_or(0);
    let numbers = first_number..first_number.saturating_add(events);
    let count = open.len();
    let (told, mut telling) = mpsc::unbounded_channel();
    let mut listening = JoinSet::new();
    for mut stream in open {
        let (told, sn, numbers) = (told.clone(), Arc::clone(&device.sn), numbers.clone());
        listening.spawn(async move {
            for number in numbers {
                let outcome = told_of(&mut stream, &sn, number).await.map(|()| Instant::now());
                // Whoever does not listen any more has given up.
                if told.send(outcome).is_err() {
                    break;
                }
            }
        });
    }
    let mut heard = Heard { first: Latencies::new(), each: Latencies::new(), last: Latencies::new() };
    for number in numbers {
        let began = Instant::now();
        connection
            .push_event(PACKET_ID, Numbered { number, time_s: since_epoch_s() })
            .map_err(|error| broken(&error))?;
        connection.flush().await.map_err(|error| broken(&error))?;
        let mut instants = Vec::with_capacity(count);
        let all = async {
            while instants.len() < count {
                // It ends only with its senders, and one is kept here.
                let Some(outcome) = telling.recv().await else { break };
                instants.push(outcome?);
            }
            Ok::<_, Error>(())
        };
        let in_time = tokio::time::timeout(WAIT, all).await;
        in_time.map_err(|_| {
            let why =
                format!("{} of {count} streams told of an event within {} s", instants.len(), WAIT.as_secs());
            Error::Streams { why }
        })??;
        let latencies = instants.iter().map(|instant| instant.saturating_duration_since(began));
        latencies.clone().for_each(|latency| heard.each.record(latency));
        latencies.clone().min().into_iter().for_each(|latency| heard.first.record(latency));
        latencies.max().into_iter().for_each(|latency| heard.last.record(latency));
        connection.answer().await.map_err(|error| broken(&error))?;
        tokio::time::sleep(PAUSE).await;
    }
    drop(told);
    connection.close().await;
    Ok(heard)
}

fn broken(error: &std::io::Error) -> Error {
    Error::Streams { why: format!("the device's connection: {error}") }
}
