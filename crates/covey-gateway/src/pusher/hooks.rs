//! Webhooks of channels (Pusher, "Webhooks"): what happens in an app's channels, told to each of its URLs in its order, some
//! events at a time, signed with the app's secret. One that does not take them is tried again for five minutes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;
use url::Url;

use super::channels::HookEvent;
use super::config::AppConfig;
use super::outgoing::{Method, Outgoing, ToSend, shown};

/// How many events wait for a webhook of channels.
/// Limit for each webhook of channels: the oldest are left out, and counted in the log.
const WAITING_MAX: usize = 10_000;
/// How many bytes the events may have that wait for a webhook of channels.
/// Limit for each webhook of channels: the oldest are left out, and counted in the log.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How many events are told at once.
const TOLD_AT_ONCE: usize = 50;
/// How long a webhook of channels is tried, in milliseconds.
/// Limit for each delivery: it is given up, and logged.
const TRIED_MS_MAX: u64 = 300_000;
/// The first pause before it is tried again, in milliseconds; each is twice as long as the one before.
const PAUSE_MS: u64 = 1_000;
/// Longest pause before a webhook of channels is tried again, in milliseconds.
/// Limit for each webhook of channels: it is tried again after so long.
const PAUSE_MS_MAX: u64 = 60_000;

/// What waits for a webhook of an app.
pub struct Hooks {
    url: Url,
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<HookEvent>,
    bytes: usize,
    left_out: u64,
}

impl Waiting {
    fn push(&mut self, event: HookEvent) {
        self.bytes += event.bytes();
        self.events.push_back(event);
        while self.events.len() > WAITING_MAX || self.bytes > WAITING_BYTES_MAX {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.bytes();
            self.left_out += 1;
        }
    }

    /// The oldest ones, and how many were left out before.
    fn take(&mut self) -> (Vec<HookEvent>, u64) {
        let count = self.events.len().min(TOLD_AT_ONCE);
        let taken: Vec<_> = self.events.drain(..count).collect();
        self.bytes -= taken.iter().map(HookEvent::bytes).sum::<usize>();
        (taken, std::mem::take(&mut self.left_out))
    }
}

#[derive(Serialize)]
struct Body<'a> {
    time_ms: u128,
    events: &'a [HookEvent],
}

impl Hooks {
    /// One for this URL.
    pub fn new(url: &Url) -> Arc<Self> {
        Arc::new(Self { url: url.clone(), waiting: Mutex::default(), news: Notify::new() })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // What it guards is whole at every moment.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event waits from now on.
    pub fn push(&self, event: HookEvent) {
        self.waiting().push(event);
        self.news.notify_one();
    }

    async fn next(&self) -> (Vec<HookEvent>, u64) {
        loop {
            {
                let mut waiting = self.waiting();
                if !waiting.events.is_empty() {
                    return waiting.take();
                }
            }
            self.news.notified().await;
        }
    }

    /// Tells what waits, for ever.
    pub async fn send(self: Arc<Self>, app: AppConfig, outgoing: Arc<dyn Outgoing>) {
        loop {
            let (events, left_out) = self.next().await;
            if left_out > 0 {
                tracing::warn!(app = %app.id, count = left_out, "events were left out that a webhook of channels did not take");
            }
            let time_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            // Texts always become JSON.
            let body =
                Bytes::from(serde_json::to_vec(&Body { time_ms, events: &events }).unwrap_or_default());
            deliver(&app, &self.url, &body, &*outgoing).await;
        }
    }
}

async fn deliver(app: &AppConfig, url: &Url, body: &Bytes, outgoing: &dyn Outgoing) {
    let (began, mut pause_ms) = (Instant::now(), PAUSE_MS);
    loop {
        let request = ToSend {
            method: Method::Post,
            url: url.clone(),
            headers: vec![
                ("content-type", "application/json".to_owned()),
                ("x-pusher-key", app.key.clone()),
                ("x-pusher-signature", app.secret.sign(body)),
            ],
            body: body.clone(),
        };
        let why = match outgoing.send(request).await {
            Ok(answer) if answer.is_success() => return,
            Ok(answer) => format!("it answers {}", answer.status),
            Err(why) => why,
        };
        if began.elapsed() + Duration::from_millis(pause_ms) > Duration::from_millis(TRIED_MS_MAX) {
            tracing::warn!(app = %app.id, url = shown(url), "a webhook of channels was given up: {why}");
            return;
        }
        tracing::debug!(app = %app.id, url = shown(url), "a webhook of channels is tried again: {why}");
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        pause_ms = (2 * pause_ms).min(PAUSE_MS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: usize, bytes: usize) -> HookEvent {
        HookEvent::ClientEvent {
            channel: "private-a".into(),
            event: number.to_string().into(),
            data: "x".repeat(bytes).into(),
            socket_id: "1.2".into(),
            user_id: None,
        }
    }

    /// What waits after so many of so many bytes.
    fn after(count: usize, bytes: usize) -> Waiting {
        let mut waiting = Waiting::default();
        (0..count).for_each(|number| waiting.push(event(number, bytes)));
        waiting
    }

    #[test]
    fn the_oldest_events_are_left_out_when_too_many_or_too_large_ones_wait() {
        assert_eq!(after(WAITING_MAX + 3, 1).left_out, 3);
        let waiting = after(1_000, 10 * 1024);
        assert!(waiting.bytes <= WAITING_BYTES_MAX && waiting.bytes > WAITING_BYTES_MAX - 11 * 1024);
        assert_eq!(waiting.bytes, waiting.events.iter().map(HookEvent::bytes).sum::<usize>());
        assert_eq!(waiting.left_out as usize + waiting.events.len(), 1_000);
        assert_eq!(waiting.events.back(), Some(&event(999, 10 * 1024)));
    }

    #[test]
    fn what_is_taken_makes_room() {
        let mut waiting = after(TOLD_AT_ONCE + 1, 1);
        assert_eq!(waiting.take().0, (0..TOLD_AT_ONCE).map(|number| event(number, 1)).collect::<Vec<_>>());
        assert_eq!(waiting.bytes, event(TOLD_AT_ONCE, 1).bytes());
        waiting.take();
        assert_eq!(waiting.bytes, 0);
    }
}
