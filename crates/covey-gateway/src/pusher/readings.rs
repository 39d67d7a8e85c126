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
use tokio::time::{Instant, sleep};

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
/// How often it is said that a dashboard takes readings too slowly.
const LEFT_OUT_TOLD_EVERY: Duration = Duration::from_secs(60);
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

/// How long is waited before a reading is told.
#[derive(Debug, Default)]
struct Pause {
    ms: u64,
}

impl Pause {
    /// The dashboard is there.
    fn answered(&mut self) {
        self.ms = 0;
    }

    /// It is not, as one that was told after so long has found. Those that were begun together say it once.
    fn failed(&mut self, after_ms: u64) {
        if after_ms == self.ms {
            self.ms = (2 * self.ms).clamp(PAUSE_MS, PAUSE_MS_MAX);
        }
    }
}

/// Tells in the log how many readings were left out, at most once a minute.
struct LeftOut<'a> {
    host: &'a str,
    told_at: Option<Instant>,
}

impl LeftOut<'_> {
    fn tell(&mut self, waiting: &mut Waiting, now: Instant) {
        if let Some(count) = self.due(waiting, now) {
            tracing::warn!(
                host = self.host,
                count,
                "readings of units were left out: a dashboard takes them too slowly"
            );
        }
    }

    fn due(&mut self, waiting: &mut Waiting, now: Instant) -> Option<u64> {
        let is_due = self.told_at.is_none_or(|at| now.duration_since(at) >= LEFT_OUT_TOLD_EVERY);
        if waiting.left_out == 0 || !is_due {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut waiting.left_out))
    }
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
    let (mut pause, mut left_out) = (Pause::default(), LeftOut { host: &host, told_at: None });
    loop {
        while pause.ms == 0 || under_way.is_empty() {
            if under_way.len() >= AT_ONCE {
                break;
            }
            let Some((unit, value)) = waiting.begin() else { break };
            under_way.push(put(&pusher, &service, unit, value, pause.ms));
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
            Some(put) = under_way.next(), if !under_way.is_empty() => {
                ended(&host, put, &mut pause, &mut waiting);
                left_out.tell(&mut waiting, Instant::now());
            },
        }
    }
}

fn ended(host: &str, Put { unit, value, after_ms, why }: Put, pause: &mut Pause, waiting: &mut Waiting) {
    match why {
        None => {
            pause.answered();
            waiting.end(unit, None);
        }
        Some(Fault::Refused(status)) => {
            tracing::warn!(%host, %unit, status, "a dashboard refuses a reading of a unit");
            pause.answered();
            waiting.end(unit, None);
        }
        Some(Fault::Away(why)) => {
            tracing::warn!(%host, "a dashboard does not take readings of units: {why}");
            pause.failed(after_ms);
            waiting.end(unit, Some(value));
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
    /// How long was waited before.
    after_ms: u64,
    why: Option<Fault>,
}

async fn put(pusher: &Pusher, service: &ServiceConfig, unit: String, value: String, after_ms: u64) -> Put {
    sleep(Duration::from_millis(after_ms)).await;
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
    Put { unit, value, after_ms, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_that_were_begun_together_and_fail_lengthen_the_pause_once() {
        let mut pause = Pause::default();
        let mut waiting = Waiting::default();
        let mut end = |pause: &mut Pause, after_ms, why| {
            let (unit, value) = ("a".to_owned(), "1".to_owned());
            ended("dash.example", Put { unit, value, after_ms, why }, pause, &mut waiting);
            pause.ms
        };
        let away = || Some(Fault::Away("it answers 503".to_owned()));
        assert_eq!([0; AT_ONCE].map(|after_ms| end(&mut pause, after_ms, away())), [PAUSE_MS; AT_ONCE]);
        assert_eq!(end(&mut pause, PAUSE_MS, away()), 2 * PAUSE_MS);
        assert_eq!(end(&mut pause, PAUSE_MS, away()), 2 * PAUSE_MS);
        for _ in 0..10 {
            let after_ms = pause.ms;
            end(&mut pause, after_ms, away());
        }
        assert_eq!(pause.ms, PAUSE_MS_MAX);
        // Who refuses is there, too.
        assert_eq!(end(&mut pause, PAUSE_MS_MAX, Some(Fault::Refused(422))), 0);
        assert_eq!(end(&mut pause, 0, away()), PAUSE_MS);
        assert_eq!(end(&mut pause, PAUSE_MS, None), 0);
    }

    #[test]
    fn what_was_left_out_is_told_at_most_once_a_minute() {
        let (began, second) = (Instant::now(), Duration::from_secs(1));
        let mut left_out = LeftOut { host: "dash.example", told_at: None };
        let mut waiting = Waiting::default();
        assert_eq!(left_out.due(&mut waiting, began), None);
        for value in 0..WAITING_PER_UNIT_MAX + 3 {
            waiting.push("a".to_owned(), value.to_string());
        }
        assert_eq!(left_out.due(&mut waiting, began), Some(3));
        waiting.push("a".to_owned(), "next".to_owned());
        assert_eq!(left_out.due(&mut waiting, began + 59 * second), None);
        assert_eq!(left_out.due(&mut waiting, began + 60 * second), Some(1));
        assert_eq!(left_out.due(&mut waiting, began + 120 * second), None);
    }

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
