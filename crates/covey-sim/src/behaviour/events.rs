//! What a simulated device tells unasked: its health, the doors of its cells, a
//! sensor whose value goes up and down, and as many events at once as are asked
//! for.
//!
//! | type | when | object in `300` |
//! | --- | --- | --- |
//! | 13 | a cell was opened by method 51, a moment ago | `{"301": cell}` |
//! | 14 | the cell was closed | `{"301": cell}` |
//! | 44 | health check, a gauge | `{"320": uptime in seconds}` |
//! | 46 | the sensor, and the events of a burst | `{"310": value}` |
//!
//! Each body has the event's number in `101`, its time in `102` and its type in
//! `200`, as field devices have it.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::quantity::Rate;

/// Type code of an opened cell.
pub(crate) const CELL_OPENED: u32 = 13;
/// Type code of a closed cell.
pub(crate) const CELL_CLOSED: u32 = 14;
/// Type code of what a sensor says.
pub(crate) const SENSOR: u32 = 46;
/// Tags of the object in `300`.
pub(crate) const CELL_TAG: &str = "301";
pub(crate) const SENSOR_TAG: &str = "310";
pub(crate) const UPTIME_TAG: &str = "320";
/// Doors of a device that are about to open or close.
const DOOR_EVENTS_MAX: usize = 1_024;

/// Which events the devices of a simulation send. The default is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventBehaviour {
    /// Time between two health checks, each a tenth shorter or longer at random.
    pub health_check: Option<Duration>,
    /// When a cell that is opened by method 51 says so.
    pub cell_opened_after: Option<Duration>,
    /// When it says that it was closed, counted from the call as well.
    pub cell_closed_after: Option<Duration>,
    /// A sensor.
    pub sensor: Option<Sensor>,
    /// How often an event is sent twice.
    pub duplicates: Rate,
    /// Many events at once.
    pub burst: Option<Burst>,
}

/// A sensor whose value follows a sine wave; devices begin at different places of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sensor {
    /// Time between two values.
    pub interval: Duration,
    /// Time in which the value goes up and down once.
    pub period: Duration,
    /// How far it goes from the mean.
    pub amplitude: f64,
    /// Where it is on average.
    pub mean: f64,
}

/// Many events at once, again and again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    /// How many.
    pub events: NonZeroU32,
    /// Time between two bursts.
    pub every: Duration,
}

impl Sensor {
    /// The value after a time, for a device at this share of the wave (0 to 1), in hundredths.
    pub(crate) fn value(&self, elapsed: Duration, phase: f64) -> f64 {
        let turns = elapsed.as_secs_f64() / self.period.as_secs_f64().max(f64::EPSILON) + phase;
        let value = self.mean + self.amplitude * (turns * TAU).sin();
        (value * 100.0).round() / 100.0
    }
}

/// The body of an event.
#[derive(Serialize)]
pub(crate) struct Body<'a, V> {
    #[serde(rename = "101")]
    number: u32,
    #[serde(rename = "102")]
    time: String,
    #[serde(rename = "200")]
    type_code: u32,
    #[serde(rename = "300")]
    values: [BTreeMap<&'a str, V>; 1],
}

impl<'a, V> Body<'a, V> {
    pub(crate) fn new(number: u32, unix_s: u64, type_code: u32, tag: &'a str, value: V) -> Self {
        let time = i64::try_from(unix_s).ok().and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
        Self {
            number,
            time: time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default(),
            type_code,
            values: [BTreeMap::from([(tag, value)])],
        }
    }
}

/// A door that says something at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DoorEvent {
    pub(crate) at: Instant,
    pub(crate) type_code: u32,
    pub(crate) cell: u32,
}

/// The doors of a device. They open and close also while it is offline or
/// reboots, and it tells of that when it is back.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    due: Mutex<Vec<DoorEvent>>,
    changed: Notify,
}

impl Doors {
    /// A cell was opened by a call now. False if too many doors are about to move.
    pub(crate) fn opened(&self, cell: u32, behaviour: &EventBehaviour, now: Instant) -> bool {
        let moves = [(behaviour.cell_opened_after, CELL_OPENED), (behaviour.cell_closed_after, CELL_CLOSED)];
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        for (after, type_code) in moves {
            let Some(after) = after else { continue };
            if due.len() == DOOR_EVENTS_MAX {
                return false;
            }
            let event = DoorEvent { at: now + after, type_code, cell };
            let place = due.partition_point(|other| *other <= event);
            due.insert(place, event);
            self.changed.notify_one();
        }
        true
    }

    /// Waits for the next door that says something.
    pub(crate) async fn next(&self) -> DoorEvent {
        loop {
            let next = self.due.lock().unwrap_or_else(PoisonError::into_inner).first().copied();
            let moved = async {
                match next {
                    Some(event) => tokio::time::sleep_until(event.at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = moved => {}
                () = self.changed.notified() => continue,
            }
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(first) = due.first().copied().filter(|first| first.at <= Instant::now()) {
                due.remove(0);
                return first;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_body_has_numeric_tags() {
        let body = Body::new(7, 1_769_860_801, CELL_OPENED, CELL_TAG, 5);
        assert_eq!(
            serde_json::to_string(&body).unwrap(),
            r#"{"101":7,"102":"2026-01-31T12:00:01Z","200":13,"300":[{"301":5}]}"#
        );
    }

    #[test]
    fn a_sensor_goes_up_and_down_around_its_mean() {
        let sensor = Sensor {
            interval: Duration::from_secs(1),
            period: Duration::from_secs(40),
            amplitude: 10.0,
            mean: 20.0,
        };
        let at = |seconds, phase| sensor.value(Duration::from_secs(seconds), phase);
        assert_eq!([at(0, 0.0), at(10, 0.0), at(20, 0.0), at(30, 0.0)], [20.0, 30.0, 20.0, 10.0]);
        assert_eq!(at(0, 0.25), 30.0);
        assert_eq!(at(5, 0.0), 27.07);
    }

    #[tokio::test(start_paused = true)]
    async fn doors_open_and_close_in_the_order_of_time() {
        let doors = Doors::default();
        let behaviour = EventBehaviour {
            cell_opened_after: Some(Duration::from_secs(1)),
            cell_closed_after: Some(Duration::from_secs(30)),
            ..EventBehaviour::default()
        };
        let start = Instant::now();
        assert!(doors.opened(5, &behaviour, start));
        assert!(doors.opened(6, &behaviour, start + Duration::from_secs(2)));
        let mut seen = Vec::new();
        for _ in 0..4 {
            let event = doors.next().await;
            let late = Instant::now().duration_since(event.at);
            assert!(late < Duration::from_millis(10), "{late:?}");
            seen.push((event.type_code, event.cell, event.at.duration_since(start).as_secs()));
        }
        assert_eq!(
            seen,
            [(CELL_OPENED, 5, 1), (CELL_OPENED, 6, 3), (CELL_CLOSED, 5, 30), (CELL_CLOSED, 6, 32)]
        );
        let full = (0..u32::MAX).find(|cell| !doors.opened(*cell, &behaviour, start)).unwrap();
        assert_eq!(full as usize, DOOR_EVENTS_MAX / 2);
    }
}
