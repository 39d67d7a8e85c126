//! The time of the database, which all servers on it share.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use covey_core::id::UnixMs;
use covey_core::port::Clock;
use tokio::runtime::Builder;
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::error::StoreError;
use crate::postgres::connection::{Connector, asked};
use crate::postgres::options::Options;

/// How often the offset is measured.
const MEASURE_PAUSE: Duration = Duration::from_secs(1);
/// How many round trips one measurement makes; the shortest counts.
const SAMPLES: usize = 5;
/// How long one measurement may take.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(5);
/// A deviation beyond this is a clock that was set, and is followed at once.
const JUMP_US: i64 = 250_000;
/// Which part of a smaller deviation is followed at a time.
const SMOOTHING: i64 = 4;
/// A round trip longer than this says too little about a small deviation.
const ROUND_TRIP_US_MAX: i64 = 100_000;

/// A clock that shows the database's time: the process's own monotonic clock
/// with an offset that is measured every second. While the database cannot be
/// reached the offset stays as it was.
///
/// It runs backwards by no more than a correction: a quarter of the deviation,
/// or all of it where that is more than 250 ms.
pub struct DatabaseClock {
    begun: Instant,
    offset_us: AtomicI64,
}

impl DatabaseClock {
    /// Measures for the first time, and goes on in a thread of its own until
    /// the clock is dropped.
    ///
    /// # Errors
    /// As [`super::Postgres::open`].
    pub fn start(options: &Options) -> Result<Arc<Self>, StoreError> {
        let connector = Connector::new(options)?;
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::Builder::new()
            .name("store-clock".to_owned())
            .spawn(move || {
                let runtime = match Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime,
                    Err(source) => return drop(tell.send(Err(StoreError::Thread { source }))),
                };
                runtime.block_on(async {
                    let clock = match begin(&connector).await {
                        Ok((clock, client)) => {
                            let clock = Arc::new(clock);
                            let weak = Arc::downgrade(&clock);
                            let _ = tell.send(Ok(clock));
                            Some((weak, client))
                        }
                        Err(error) => {
                            let _ = tell.send(Err(error));
                            None
                        }
                    };
                    if let Some((clock, client)) = clock {
                        follow(&connector, client, &clock).await;
                    }
                });
            })
            .map_err(|source| StoreError::Thread { source })?;
        told.recv().unwrap_or_else(|_| {
            Err(StoreError::Unreachable { place: options.place(), problem: "no time was told".to_owned() })
        })
    }

    fn elapsed_us(&self) -> i64 {
        i64::try_from(self.begun.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    /// Follows a measurement.
    fn correct(&self, measured: &Measured) {
        let deviation_us = measured.offset_us - self.offset_us.load(Ordering::Relaxed);
        let change_us = if deviation_us.abs() > JUMP_US {
            tracing::warn!(deviation_ms = deviation_us / 1_000, "database clock changed; following it");
            deviation_us
        } else if measured.round_trip_us > ROUND_TRIP_US_MAX {
            0
        } else {
            deviation_us / SMOOTHING
        };
        self.offset_us.fetch_add(change_us, Ordering::Relaxed);
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> UnixMs {
        UnixMs(self.elapsed_us().saturating_add(self.offset_us.load(Ordering::Relaxed)).div_euclid(1_000))
    }

    fn monotonic_us(&self) -> u64 {
        u64::try_from(self.elapsed_us()).unwrap_or(0)
    }
}

/// What one measurement found.
struct Measured {
    /// From our monotonic clock to the database's Unix time.
    offset_us: i64,
    round_trip_us: i64,
}

async fn begin(connector: &Connector) -> Result<(DatabaseClock, Client), StoreError> {
    let client = connector.connect_patiently().await?;
    let clock = DatabaseClock { begun: Instant::now(), offset_us: AtomicI64::new(0) };
    let measured = measure(&client, &clock).await.map_err(|error| asked("tell the time", &error))?;
    clock.offset_us.store(measured.offset_us, Ordering::Relaxed);
    Ok((clock, client))
}

/// The best of several round trips: the database read its clock somewhere
/// within one, so half of the shortest is the bound of the error.
async fn measure(client: &Client, clock: &DatabaseClock) -> Result<Measured, tokio_postgres::Error> {
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8";
    let statement = client.prepare(sql).await?;
    let mut best: Option<Measured> = None;
    for _ in 0..SAMPLES {
        let before_us = clock.elapsed_us();
        let row = client.query_one(&statement, &[]).await?;
        let after_us = clock.elapsed_us();
        let told_us: i64 = row.try_get(0)?;
        let measured = Measured {
            offset_us: told_us - before_us.midpoint(after_us),
            round_trip_us: after_us - before_us,
        };
        if best.as_ref().is_none_or(|best| measured.round_trip_us < best.round_trip_us) {
            best = Some(measured);
        }
    }
    Ok(best.unwrap_or(Measured { offset_us: 0, round_trip_us: i64::MAX }))
}

/// Measures until nobody has the clock any more.
async fn follow(connector: &Connector, first: Client, clock: &Weak<DatabaseClock>) {
    let mut client = Some(first);
    loop {
        tokio::time::sleep(MEASURE_PAUSE).await;
        let Some(clock) = clock.upgrade() else { return };
        let connected = match client.take() {
            Some(client) => Some(client),
            None => timeout(MEASURE_TIMEOUT, connector.connect()).await.ok().and_then(Result::ok),
        };
        let Some(connected) = connected else { continue };
        if let Ok(Ok(measured)) = timeout(MEASURE_TIMEOUT, measure(&connected, &clock)).await {
            clock.correct(&measured);
            client = Some(connected);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_deviations_are_followed_softly_and_great_ones_at_once() {
        let clock = DatabaseClock { begun: Instant::now(), offset_us: AtomicI64::new(0) };
        let offset = || clock.offset_us.load(Ordering::Relaxed);
        let near = |offset_us| Measured { offset_us, round_trip_us: 100 };
        clock.correct(&near(8_000));
        assert_eq!(offset(), 2_000);
        clock.correct(&Measured { offset_us: 8_000, round_trip_us: 150_000 });
        assert_eq!(offset(), 2_000, "a slow round trip says nothing of six milliseconds");
        clock.correct(&near(5_002_000));
        assert_eq!(offset(), 5_002_000);
        for _ in 0..40 {
            clock.correct(&near(4_990_000));
        }
        assert!((offset() - 4_990_000).abs() < 8, "{}", offset());
    }
}
