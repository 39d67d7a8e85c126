//! How long an event takes from the device to an application that follows the
//! stream, on a server that has nothing else to do.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use covey_client::{Client, Stream, StreamFilter};
use serde::Deserialize;

use crate::behaviour::events::SENSOR;
use crate::bench::events::connection::{Address, Connection, Numbered};
use crate::bench::events::load::Identified;
use crate::bench::latency::{Latencies, LatencySummary};
use crate::error::{Error, Result};

/// How long an event may take.
pub(super) const WAIT: Duration = Duration::from_secs(10);
/// Packet identifier of every message: each is acknowledged before the next.
pub(super) const PACKET_ID: u16 = 2;

#[derive(Deserialize)]
struct Change {
    sn: String,
    event: ChangedEvent,
}

#[derive(Deserialize)]
struct ChangedEvent {
    dev_event_id: u32,
}

/// Sends so many events of one device, one after the other, numbered after
/// `last_number`. `None` for no events.
pub(super) async fn measure(
    client: &Client,
    address: &Address,
    device: &Identified,
    last_number: u32,
    events: u32,
) -> Result<Option<LatencySummary>> {
    if events == 0 {
        return Ok(None);
    }
    let mut stream = client.stream(&events_of_sensors(), None).await?;
    let broken = |error: std::io::Error| Error::Stream { why: error.to_string() };
    let mut connection =
        Connection::open(address, device.tls.clone(), &device.sn, false).await.map_err(broken)?;
    let mut latencies = Latencies::new();
    for number in (last_number + 1..).take(events as usize) {
        let time_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let began = Instant::now();
        connection.push_event(PACKET_ID, Numbered { number, time_s }).map_err(broken)?;
        connection.flush().await.map_err(broken)?;
        let told = tokio::time::timeout(WAIT, told_of(&mut stream, &device.sn, number)).await;
        told.map_err(|_| Error::Stream {
            why: format!("an event was not told of in {} s", WAIT.as_secs()),
        })??;
        latencies.record(began.elapsed());
        connection.answer().await.map_err(broken)?;
    }
    connection.close().await;
    Ok(latencies.summary())
}

/// The changes that are followed: those which the measured devices send.
pub(super) fn events_of_sensors() -> StreamFilter {
    StreamFilter {
        kinds: vec!["event".to_owned()],
        event_types: vec![SENSOR.into()],
        ..StreamFilter::default()
    }
}

/// Waits until the stream has told of an event.
pub(super) async fn told_of(stream: &mut Stream, sn: &str, number: u32) -> Result<()> {
    loop {
        let Some(told) = stream.next().await? else {
            return Err(Error::Stream { why: "the server ended it".to_owned() });
        };
        if told.kind != "event" {
            continue;
        }
        let change: Change = serde_json::from_str(told.data.get())
            .map_err(|error| Error::Stream { why: error.to_string() })?;
        if change.sn == sn && change.event.dev_event_id == number {
            return Ok(());
        }
    }
}
