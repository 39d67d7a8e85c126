//! An event, and how it can end.

use bytes::Bytes;
use uuid::Uuid;

/// An event as it is queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) number: u32,
    pub(crate) type_code: u32,
    /// Unix seconds.
    pub(crate) time_s: u64,
    pub(crate) correlation: Option<Uuid>,
    pub(crate) body: Bytes,
}

/// Names a queued event; ascends along the queue.
pub(crate) type EventOrder = u64;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventOutcome {
    /// The server has it.
    Stored,
    /// The server has acknowledged it each time it was sent and never sent an `eva`, for which
    /// [`await_eva`](crate::DeviceBuilder::await_eva) waits.
    Unconfirmed,
    /// The server will not take it; it is given up.
    Refused {
        /// MQTT 5 reason code: 0x99 if the server cannot read it, 0x95 if it is larger than
        /// the server's largest packet, 0x83 if it said "error" in its `eva`.
        reason: u8,
    },
    /// It had to make room ([`EventOverflow::DropOldest`](crate::EventOverflow::DropOldest)).
    Dropped,
    /// A newer gauge of its type took its place before it was sent.
    Superseded,
    /// The device stopped first. With a folder it is sent by the device's next run.
    Unsent,
}
