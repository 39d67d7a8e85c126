//! One device at work: connect, be called, answer, connect again. Everything of a device runs
//! on one task: the connection, the handlers and the timers.

mod backoff;
mod calls;
mod connection;
mod outbox;
mod parts;
mod requests;
mod worker;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{AsyncClient, ConnectionError, EventLoop};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::error::Error;
use crate::refusal::{self, Refusal};
use crate::status::Status;
use worker::Worker;

pub(crate) use backoff::{Backoff, Delays};
pub(crate) use connection::Address;
pub(crate) use parts::{Parts, Settings};

/// A connection that lived this long was a good one: the next failure waits from the start.
const GOOD_CONNECTION: Duration = Duration::from_secs(10);
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// Why a connection is over.
enum End {
    /// The device was told to stop, and has finished.
    Stopped,
    Lost(ConnectionError),
    Refused(Refusal),
}

pub(crate) async fn run(parts: Parts, stop: CancellationToken) -> Result<(), Error> {
    // A child has a waiting list of its own: thousands of devices may hang on one token.
    let stop = stop.child_token();
    let status = Arc::clone(&parts.status);
    let outcome = Box::pin(live(parts, &stop)).await;
    status.set(Status::Stopped);
    outcome
}

async fn live(parts: Parts, stop: &CancellationToken) -> Result<(), Error> {
    let settings = parts.settings.clone();
    let status = Arc::clone(&parts.status);
    let journal = Arc::clone(&parts.journal);
    let (client, mut event_loop) = connection::open(
        &settings.sn,
        &settings.address,
        parts.tls.clone(),
        settings.keep_alive_s,
        settings.packet_bytes_max,
        settings.events_in_flight_max,
    );
    let mut worker = Worker::new(parts, client.clone());
    let mut backoff = Backoff::new(settings.delays);
    let mut stop = std::pin::pin!(stop.cancelled());
    let outcome = loop {
        let started = Instant::now();
        let end = drive(&mut worker, &mut event_loop, stop.as_mut()).await;
        let refused = match end {
            End::Stopped => break Ok(()),
            End::Refused(refusal) => Some(refusal),
            End::Lost(error) => {
                tracing::info!(sn = %settings.sn, %error, "not connected");
                refusal::from_connection_error(&error)
            }
        };
        event_loop.clean();
        if worker.disconnected() && started.elapsed() >= GOOD_CONNECTION {
            backoff.reset();
        }
        let wait = match refused {
            None => {
                status.set(Status::Connecting);
                backoff.after_failure()
            }
            Some(refusal) => {
                tracing::warn!(sn = %settings.sn, %refusal, "refused by the server");
                status.set(Status::Refused(refusal.clone()));
                if settings.stop_when_refused {
                    break Err(Error::Refused(refusal));
                }
                backoff.after_refusal()
            }
        };
        tracing::debug!(sn = %settings.sn, wait_ms = wait.as_millis(), "reconnecting later");
        if wait_and_work(&mut worker, wait, stop.as_mut()).await {
            break Ok(());
        }
    };
    if worker.is_connected() {
        say_goodbye(&client, &mut event_loop).await;
    }
    if let Err(error) = journal.flush().await {
        tracing::warn!(sn = %settings.sn, %error, "journal not written; the last results will be sent again");
    }
    outcome
}

/// Runs one connection to its end. The poll of the client is never dropped half way while the
/// connection lives: what it has taken to write would be lost.
async fn drive(
    worker: &mut Worker,
    event_loop: &mut EventLoop,
    mut stop: Pin<&mut WaitForCancellationFuture<'_>>,
) -> End {
    loop {
        let polled = {
            let mut poll = std::pin::pin!(event_loop.poll());
            loop {
                worker.pump(Instant::now());
                if worker.has_stopped(Instant::now()) {
                    return End::Stopped;
                }
                tokio::select! {
                    biased;
                    () = worker.work() => {}
                    () = stop.as_mut(), if !worker.is_stopping() => worker.stop(Instant::now()),
                    polled = &mut poll => break polled,
                }
            }
        };
        let refused = match polled {
            Ok(event) => worker.event(event, Instant::now()),
            Err(error) => return End::Lost(error),
        };
        if let Some(refusal) = refused {
            return End::Refused(refusal);
        }
    }
}

/// Waits before the next attempt; calls that run go on. True if the device has stopped.
async fn wait_and_work(
    worker: &mut Worker,
    wait: Duration,
    mut stop: Pin<&mut WaitForCancellationFuture<'_>>,
) -> bool {
    let mut wait = std::pin::pin!(tokio::time::sleep(wait));
    loop {
        worker.pump(Instant::now());
        if worker.has_stopped(Instant::now()) {
            return true;
        }
        tokio::select! {
            biased;
            () = worker.work() => {}
            () = stop.as_mut(), if !worker.is_stopping() => worker.stop(Instant::now()),
            () = &mut wait => return false,
        }
    }
}

/// Sends DISCONNECT, so that the server knows at once.
async fn say_goodbye(client: &AsyncClient, event_loop: &mut EventLoop) {
    if client.try_disconnect_now().is_err() {
        return;
    }
    let last_words = async { while event_loop.poll().await.is_ok() {} };
    let _ = tokio::time::timeout(GOODBYE, last_words).await;
}
