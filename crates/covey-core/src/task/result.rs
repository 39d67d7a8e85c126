//! Results: what a device sent back.

use std::sync::Arc;

use crate::id::{ResultId, UnixMs};

/// Longest body of a result, in bytes: as long as the parameters of a task.
/// Limit for each result: 0x97, and a `cmt` that lets the device stop; the task ends as FAILED (`result_too_large`).
pub const RESULT_BYTES_MAX: usize = 256 * 1024;

/// The status code of a partial result (device-rpc "res"; RFC 9110 §15.3.7).
pub const PARTIAL_STATUS_CODE: i64 = 206;

/// The body of a result.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ResultBody {
    /// The device sent no body.
    Empty,
    /// JSON text, kept as it was sent.
    Json(Arc<str>),
    /// Text that is not JSON, kept as a string.
    Text(Arc<str>),
}

impl ResultBody {
    /// The text of the body; empty if there is none.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Empty => "",
            Self::Json(text) | Self::Text(text) => text,
        }
    }

    /// How many bytes it has.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.text().len() as u64
    }
}

/// A result as a device sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewResult {
    /// The device's own number of the result; 0 if it gives none.
    pub ext_id: i64,
    /// How it went, on the scale of HTTP.
    pub status_code: i64,
    /// The body.
    pub body: ResultBody,
}

impl NewResult {
    /// Whether more results are to follow.
    #[must_use]
    pub const fn is_partial(&self) -> bool {
        self.status_code == PARTIAL_STATUS_CODE
    }

    /// A number that equal results share (64-bit FNV-1a of the body). It
    /// narrows the search for a repeated result; the bodies are compared then.
    #[must_use]
    pub fn body_hash(&self) -> i64 {
        let kind = match self.body {
            ResultBody::Empty => 0_u8,
            ResultBody::Json(_) => 1,
            ResultBody::Text(_) => 2,
        };
        let bytes = std::iter::once(kind).chain(self.body.text().bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        i64::from_ne_bytes(hash.to_ne_bytes())
    }
}

/// A result as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskResult {
    /// Its number.
    pub id: ResultId,
    /// What the device sent.
    pub result: NewResult,
    /// When it was stored.
    pub received_at: UnixMs,
}

/// How many results of a task are given at once (rest-api "Tasks").
/// Limit for each answer: older ones by `results_next`.
pub const RESULTS_MAX: u32 = 100;
/// How many bytes the results of a task that are given at once may take. The newest one comes in any case.
/// Limit for each answer: older ones by `results_next`.
pub const RESULTS_BYTES_MAX: usize = 1024 * 1024;

/// Results of a task, as many as are given at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskResults {
    /// The results, newest first.
    pub results: Vec<TaskResult>,
    /// There are others before this one; none if these are all.
    pub next: Option<ResultId>,
    bytes: usize,
}

impl TaskResults {
    /// Adds the next older one. Answers false if there is no room for it, which is noted.
    pub fn add(&mut self, result: TaskResult) -> bool {
        let bytes = self.bytes.saturating_add(result.result.body.text().len());
        let has_room = self.results.len() < RESULTS_MAX as usize && bytes <= RESULTS_BYTES_MAX;
        if !has_room && let Some(last) = self.results.last() {
            self.next = Some(last.id);
            return false;
        }
        self.bytes = bytes;
        self.results.push(result);
        true
    }

    /// The same from a store that has minded the bounds; also whether there are more.
    #[must_use]
    pub fn of(results: Vec<TaskResult>, is_more: bool) -> Self {
        let next = results.last().filter(|_| is_more).map(|last| last.id);
        let bytes = results.iter().map(|result| result.result.body.text().len()).sum();
        Self { results, next, bytes }
    }

    /// How many bytes their bodies take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
