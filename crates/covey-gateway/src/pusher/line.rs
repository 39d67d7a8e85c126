//! What waits for a connection: messages, up to a bound, and at last why it is closed.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::error::Refusal;

/// How many bytes may wait for a Pusher client.
/// Limit for each connection: it is closed (4100).
pub const WAITING_BYTES_MAX: usize = 1024 * 1024;

/// The line of a connection.
#[derive(Default)]
pub struct Line {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    texts: VecDeque<Utf8Bytes>,
    bytes: usize,
    closed: Option<Refusal>,
}

impl Line {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // What it guards is whole at every moment.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message waits from now on.
    pub fn push(&self, text: Utf8Bytes) {
        let mut waiting = self.waiting();
        if waiting.closed.is_some() {
            return;
        }
        waiting.bytes += text.len();
        waiting.texts.push_back(text);
        // One that is larger for itself is sent where nothing else waits.
        if waiting.bytes > WAITING_BYTES_MAX && waiting.texts.len() > 1 {
            *waiting = Waiting { closed: Some(Refusal::TOO_SLOW), ..Waiting::default() };
        }
        self.news.notify_one();
    }

    /// Nothing more is sent but this. The first reason counts.
    pub fn close(&self, refusal: Refusal) {
        self.waiting().closed.get_or_insert(refusal);
        self.news.notify_one();
    }

    /// Waits until there is something to take.
    pub async fn news(&self) {
        loop {
            {
                let waiting = self.waiting();
                if !waiting.texts.is_empty() || waiting.closed.is_some() {
                    return;
                }
            }
            self.news.notified().await;
        }
    }

    /// Waits until the connection is to be closed.
    pub async fn until_closed(&self) {
        while self.waiting().closed.is_none() {
            self.news.notified().await;
        }
    }

    /// Takes all messages, and why the connection is closed if it is.
    pub fn take(&self) -> (VecDeque<Utf8Bytes>, Option<Refusal>) {
        let mut waiting = self.waiting();
        waiting.bytes = 0;
        (std::mem::take(&mut waiting.texts), waiting.closed.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_larger_for_itself_is_sent_where_nothing_else_waits() {
        let (line, large) = (Line::default(), "x".repeat(2 * WAITING_BYTES_MAX));
        line.push(large.as_str().into());
        assert_eq!(line.take(), (VecDeque::from([large.into()]), None));
    }

    #[test]
    fn who_takes_too_little_is_told_that_and_nothing_else() {
        let line = Line::default();
        line.push("a".into());
        assert_eq!(line.take(), (VecDeque::from(["a".into()]), None));
        for _ in 0..=WAITING_BYTES_MAX / 1024 {
            line.push("x".repeat(1024).into());
        }
        line.push("b".into());
        line.close(Refusal::RESTART);
        assert_eq!(line.take(), (VecDeque::new(), Some(Refusal::TOO_SLOW)));
    }
}
