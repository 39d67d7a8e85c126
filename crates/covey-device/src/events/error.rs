//! What can keep an event from being accepted. Each variant says what to do next.

use std::io;

/// Why an event was not accepted. It is not queued, and will not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// The payload cannot be written as JSON.
    #[error("the event's payload cannot be written as JSON: {0}")]
    Payload(#[source] serde_json::Error),
    /// The payload is JSON, and no object.
    #[error("the event's payload is no JSON object: put it into one, such as {{\"value\": …}}")]
    NotAnObject,
    /// The payload is larger than a server takes.
    #[error("the event's payload has {bytes} bytes, at most {bytes_max} are allowed: send less, or in parts")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The most that is allowed.
        bytes_max: usize,
    },
    /// The type code is out of range.
    #[error("the event's type code {type_code} is out of range: 0 to {}", crate::EVENT_TYPE_CODE_MAX)]
    TypeCode {
        /// As it was given.
        type_code: u32,
    },
    /// The queue is full of events that the server does not have yet.
    #[error(
        "the event queue is full ({entries_max} events or {bytes_max} bytes): wait until the server has taken some, raise event_queue_entries_max or event_queue_bytes_max, or choose EventOverflow::DropOldest"
    )]
    QueueFull {
        /// The most events it holds.
        entries_max: usize,
        /// The most bytes it holds.
        bytes_max: usize,
    },
    /// The event could not be written to the queue's file.
    #[error("the event cannot be written to its file: {0}; check the folder's rights and free space")]
    NotWritten(#[source] io::Error),
    /// The device has stopped.
    #[error("the device has stopped; build it again")]
    Stopped,
}
