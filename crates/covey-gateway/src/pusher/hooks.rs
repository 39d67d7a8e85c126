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
use super::outgoing::{Method, Outgoing, ToSend};

/// How many events wait for a webhook of channels.
/// Limit for each webhook of channels: the oldest are left out, and counted in the log.
const WAITING_MAX: usize = 10_000;
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
    left_out: u64,
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
        let mut waiting = self.waiting();
        if waiting.events.len() >= WAITING_MAX {
            waiting.events.pop_front();
            waiting.left_out += 1;
        }
        waiting.events.push_back(event);
        self.news.notify_one();
    }

    async fn next(&self) -> (Vec<HookEvent>, u64) {
        loop {
            {
                let mut waiting = self.waiting();
                if !waiting.events.is_empty() {
                    let count = waiting.events.len().min(TOLD_AT_ONCE);
                    let left_out = std::mem::take(&mut waiting.left_out);
                    return (waiting.events.drain(..count).collect(), left_out);
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
            tracing::warn!(app = %app.id, %url, "a webhook of channels was given up: {why}");
            return;
        }
        tracing::debug!(app = %app.id, %url, "a webhook of channels is tried again: {why}");
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        pause_ms = (2 * pause_ms).min(PAUSE_MS_MAX);
    }
}
