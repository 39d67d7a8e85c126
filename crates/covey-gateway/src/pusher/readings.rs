//! Readings of units, as a dashboard expects them of a base unit: `PUT {api}/webhook/update-unit/{unit}/{value}`, those of one
//! unit one after another in their order, those of different units side by side. They come out of the outbox, so what is told
//! was committed. A dashboard that is away misses the oldest ones: those are not told later, as a base unit would not.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use covey_core::feed::{FollowError, Follower};
use covey_core::id::RecordNumber;
use covey_core::record::{Change, Record, RecordFilter, RecordKind, TwinSide};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::sleep;

use super::Pusher;
use super::config::ServiceConfig;
use super::outgoing::{Method, ToSend};
use crate::value::text_of;

/// How many readings wait of a unit.
/// Limit for each unit and dashboard: the oldest is left out.
const WAITING_PER_UNIT_MAX: usize = 16;
/// How many readings are told to a dashboard at the same time.
const AT_ONCE: usize = 8;
/// How long it is waited after a dashboard has not taken a reading, in milliseconds; twice as long each time.
const PAUSE_MS: u64 = 1_000;
/// Longest pause before a dashboard is told readings again, in milliseconds.
/// Limit for each dashboard: it is tried again after so long.
const PAUSE_MS_MAX: u64 = 60_000;
/// What a segment of a path may have (RFC 3986 §3.3); all else is encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What waits for a dashboard.
#[derive(Debug, Default)]
struct Waiting {
    by_unit: HashMap<String, VecDeque<String>>,
    /// Units of which something waits and nothing is under way, in their turn.
    turn: VecDeque<String>,
    /// Units of which something is under way.
    busy: HashSet<String>,
    left_out: u64,
}

impl Waiting {
    fn push(&mut self, unit: String, value: String) {
        let readings = self.by_unit.entry(unit.clone()).or_default();
        let is_first = readings.is_empty();
        if readings.len() >= WAITING_PER_UNIT_MAX {
            readings.pop_front();
            self.left_out += 1;
        }
        readings.push_back(value);
        if is_first && !self.busy.contains(&unit) {
            self.turn.push_back(unit);
        }
    }

    /// The next reading of a unit of which none is under way.
    fn begin(&mut self) -> Option<(String, String)> {
        let unit = self.turn.pop_front()?;
        let value = self.by_unit.get_mut(&unit)?.pop_front()?;
        self.busy.insert(unit.clone());
        Some((unit, value))
    }

    /// A reading was taken; one that was not stands before those that came after it, if they have left room.
    fn end(&mut self, unit: String, not_taken: Option<String>) {
        self.busy.remove(&unit);
        let readings = self.by_unit.entry(unit.clone()).or_default();
        if let Some(value) = not_taken {
            if readings.len() < WAITING_PER_UNIT_MAX {
                readings.push_front(value);
            } else {
                self.left_out += 1;
            }
        }
        if readings.is_empty() {
            self.by_unit.remove(&unit);
        } else {
            self.turn.push_back(unit);
        }
    }
}

/// Tells a dashboard what units read since the server's start, for ever.
pub async fn tell(pusher: Arc<Pusher>, service: Arc<ServiceConfig>) {
    let host = service.api.host_str().unwrap_or_default().to_owned();
    let mut follower = of_org(&pusher, pusher.parts.since);
    let (mut waiting, mut under_way) = (Waiting::default(), FuturesUnordered::new());
    let mut pause_ms = 0;
    loop {
        while pause_ms == 0 || under_way.is_empty() {
            if under_way.len() >= AT_ONCE {
                break;
            }
            let Some((unit, value)) = waiting.begin() else { break };
            under_way.push(put(&pusher, &service, unit, value, pause_ms));
        }
        tokio::select! {
            batch = follower.next() => match batch {
                Ok(batch) => {
                    for (unit, value) in batch.records.iter().filter_map(|record| reading(&pusher, record)) {
                        waiting.push(unit, value);
                    }
                }
                Err(error) => {
                    if let FollowError::Store(error) = error {
                        tracing::warn!(%host, %error, "readings of units cannot be read; trying again");
                        sleep(Duration::from_millis(PAUSE_MS)).await;
                    }
                    follower = of_org(&pusher, follower.cursor());
                }
            },
            Some(Put { unit, value, why }) = under_way.next(), if !under_way.is_empty() => match why {
                None => {
                    pause_ms = 0;
                    waiting.end(unit, None);
                }
                Some(Fault::Refused(status)) => {
                    tracing::warn!(%host, %unit, status, "a dashboard refuses a reading of a unit");
                    waiting.end(unit, None);
                }
                Some(Fault::Away(why)) => {
                    let left_out = std::mem::take(&mut waiting.left_out);
                    tracing::warn!(%host, left_out, "a dashboard does not take readings of units: {why}");
                    pause_ms = (2 * pause_ms).clamp(PAUSE_MS, PAUSE_MS_MAX);
                    waiting.end(unit, Some(value));
                }
            },
        }
    }
}

fn of_org(pusher: &Pusher, cursor: RecordNumber) -> Follower {
    let filter = RecordFilter { kinds: vec![RecordKind::Twin], ..RecordFilter::default() };
    pusher.parts.engine.server().follow_of_org(pusher.parts.org, filter, cursor)
}

/// The unit and the value, if a record is a reading of one of this server's units.
fn reading(pusher: &Pusher, record: &Record) -> Option<(String, String)> {
    let Change::Twin(told) = &record.change else { return None };
    let value = told.value.as_ref().filter(|_| told.side == TwinSide::Reported)?;
    let unit = pusher.parts.units.of_sn(&record.device.identity.sn)?;
    (unit.is_read && told.resource == unit.resource).then(|| (unit.shown, text_of(value).into_owned()))
}

enum Fault {
    /// The dashboard says that it will never take this.
    Refused(u16),
    /// It may take it later.
    Away(String),
}

struct Put {
    unit: String,
    value: String,
    why: Option<Fault>,
}

async fn put(pusher: &Pusher, service: &ServiceConfig, unit: String, value: String, pause_ms: u64) -> Put {
    sleep(Duration::from_millis(pause_ms)).await;
    let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
    let mut url = service.api.clone();
    url.set_path(&format!("{}webhook/update-unit/{}/{}", url.path(), encoded(&unit), encoded(&value)));
    let headers = vec![("authorization", service.token.bearer())];
    let request = ToSend { method: Method::Put, url, headers, body: Bytes::new() };
    let why = match pusher.parts.outgoing.send(request).await {
        Ok(answer) if answer.is_success() => None,
        Ok(answer) if matches!(answer.status, 400 | 404 | 405 | 409 | 410 | 413 | 414 | 422) => {
            Some(Fault::Refused(answer.status))
        }
        Ok(answer) => Some(Fault::Away(format!("it answers {}", answer.status))),
        Err(why) => Some(Fault::Away(why)),
    };
    Put { unit, value, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_of_a_unit_keep_their_order_and_units_take_turns() {
        let mut waiting = Waiting::default();
        for value in ["1", "2", "3"] {
            waiting.push("a".to_owned(), value.to_owned());
        }
        waiting.push("b".to_owned(), "9".to_owned());
        let begun = |waiting: &mut Waiting| waiting.begin().map(|(unit, value)| format!("{unit}{value}"));
        assert_eq!(begun(&mut waiting).as_deref(), Some("a1"));
        assert_eq!(begun(&mut waiting).as_deref(), Some("b9"));
        assert_eq!(begun(&mut waiting), None, "one of each unit at a time");
        waiting.end("a".to_owned(), Some("1".to_owned()));
        waiting.end("b".to_owned(), None);
        assert_eq!(begun(&mut waiting).as_deref(), Some("a1"), "what was not taken is told before the next");
        waiting.end("a".to_owned(), None);
        assert_eq!(begun(&mut waiting).as_deref(), Some("a2"));
        waiting.end("a".to_owned(), None);
        for value in 10..10 + 2 * WAITING_PER_UNIT_MAX {
            waiting.push("a".to_owned(), value.to_string());
        }
        assert_eq!(waiting.left_out, WAITING_PER_UNIT_MAX as u64 + 1);
        assert_eq!(begun(&mut waiting), Some(format!("a{}", 10 + WAITING_PER_UNIT_MAX)));
        waiting.end("a".to_owned(), None);
        assert!(waiting.by_unit.len() == 1 && waiting.turn.len() == 1);
    }
}
