//! What is kept of deliveries: those that wait or were given up, attempts,
//! and how far an endpoint has come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::id::{DeviceId, DeviceKey, RecordNumber, UnixMs};
use crate::named::named;
use crate::record::Record;
use crate::webhook::circuit::CircuitState;
use crate::webhook::{Endpoint, EndpointId};

/// A message for one endpoint: a record that is to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The number of the record.
    pub number: RecordNumber,
    /// The device that it is about; deliveries of one device keep their order.
    pub device: DeviceKey,
    /// The device's number for applications.
    pub device_id: DeviceId,
    /// Until when it is tried.
    pub deadline: UnixMs,
    /// How often it was tried.
    pub attempts: u32,
    /// Before which instant it is not tried.
    pub next_at: UnixMs,
}

named! {
    /// What became of an attempt.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Outcome {
        /// The receiver answered 2xx.
        Delivered => "delivered",
        /// It will be tried again.
        Retry => "retry",
        /// It was given up.
        Dead => "dead",
        /// It was a test, and the receiver answered 2xx.
        TestPassed => "test_passed",
        /// It was a test, and failed.
        TestFailed => "test_failed",
    }
}

/// What a receiver answered, or did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When it began.
    pub at: UnixMs,
    /// How long it took.
    pub duration_ms: i64,
    /// The status, if there was an answer.
    pub status: Option<u16>,
    /// What went wrong; nothing if it was delivered.
    pub error: Option<Arc<str>>,
    /// How long the receiver wants to be left alone.
    pub asked_ms: Option<i64>,
    /// Whether another try makes sense.
    pub is_hopeless: bool,
}

impl Attempt {
    /// Whether the message was delivered.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        self.error.is_none()
    }
}

/// A row of the log of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptLog {
    /// The record; none of a test.
    pub number: Option<RecordNumber>,
    /// The device.
    pub device_id: Option<DeviceId>,
    /// Which try it was, from 1.
    pub attempt: u32,
    /// When it began.
    pub at: UnixMs,
    /// How long it took.
    pub duration_ms: i64,
    /// The status, if there was an answer.
    pub status: Option<u16>,
    /// What went wrong.
    pub error: Option<Arc<str>>,
    /// What became of it.
    pub outcome: Outcome,
}

/// A row of the log as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedAttempt {
    /// Its number in the log of its endpoint; later ones are larger.
    pub seq: i64,
    /// What it tells.
    pub attempt: AttemptLog,
}

/// Which rows of a log, or which dead letters, are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttemptsFrom {
    /// Those before this number, newest first.
    pub before: Option<i64>,
    /// Those after this number, oldest first.
    pub after: Option<i64>,
    /// Of a log, those with this outcome.
    pub outcome: Option<Outcome>,
    /// How many at most.
    pub limit: u32,
}

impl AttemptsFrom {
    /// The number that the wanted ones are after, or else before.
    #[must_use]
    pub fn bound(&self) -> i64 {
        self.after.or(self.before).unwrap_or(i64::MAX)
    }
}

/// What is stored of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// It waits for another try.
    Deferred,
    /// It was given up.
    Dead,
}

/// A delivery that is to be stored, or its new state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDelivery {
    /// The delivery.
    pub delivery: Delivery,
    /// Its state.
    pub state: DeliveryState,
    /// The status of the last attempt.
    pub status: Option<u16>,
    /// What went wrong last.
    pub error: Option<Arc<str>>,
}

/// A delivery that was given up, with what it told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The delivery.
    pub delivery: StoredDelivery,
    /// When it was given up.
    pub died_at: UnixMs,
    /// The record; none if what it tells has been forgotten.
    pub record: Option<Record>,
}

/// What a server is to write for an endpoint that it holds, all at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Everything up to this record is settled.
    pub position: RecordNumber,
    /// Deliveries with their new state; none: it was delivered and goes.
    pub deliveries: BTreeMap<RecordNumber, Option<StoredDelivery>>,
    /// What was tried.
    pub attempts: Vec<AttemptLog>,
    /// The circuit breaker.
    pub circuit: CircuitState,
    /// What the last failure was.
    pub last_error: Option<Arc<str>>,
    /// When a message was last delivered.
    pub last_delivered_at: Option<UnixMs>,
}

/// By what a server holds endpoints: its name, and a number that it drew when
/// it started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The name of the server.
    pub server: String,
    /// What tells this run of it from others.
    pub nonce: i64,
}

/// What became of progress that was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressSaved {
    /// It was written; also how often deliveries were put back for another try.
    Saved {
        /// How often.
        resends: i64,
    },
    /// Another server holds the endpoint, or it is gone: nothing was written.
    Lost,
}

/// An endpoint that this server holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldEndpoint {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Everything up to this record is settled.
    pub position: RecordNumber,
    /// The numbers of deliveries after the position that are stored already.
    pub stored_before: BTreeSet<RecordNumber>,
    /// The circuit breaker, as it was left.
    pub circuit: CircuitState,
    /// How often deliveries were put back for another try.
    pub resends: i64,
}

impl HeldEndpoint {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> EndpointId {
        self.endpoint.id
    }
}

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestReport {
    /// The attempt.
    pub attempt: Attempt,
    /// Under which id it was sent.
    pub message_id: String,
}
