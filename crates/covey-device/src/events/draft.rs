//! An event in the making.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::clock::unix_now_s;
use crate::events::event::{Event, EventOutcome};
use crate::events::{EventError, Events, NewEvent};

/// Longest payload of an event, in bytes; the server takes no longer one.
pub const EVENT_BODY_BYTES_MAX: usize = 64 * 1024;
/// Highest type code of an event.
pub const EVENT_TYPE_CODE_MAX: u32 = covey_wire::uplink::EVENT_TYPE_CODE_MAX as u32;

#[derive(Serialize)]
struct Reported {
    reported: Map<String, Value>,
}

impl Events {
    /// Begins an event of a type, such as 13 for an opened cell.
    pub fn event(&self, type_code: u32) -> EventDraft {
        EventDraft::new(self.clone(), type_code)
    }

    /// Begins an event that says what a resource of the device's twin is now:
    /// `{"reported": {resource: value}}`, with type code 0 unless
    /// [`report_type_code`](crate::DeviceBuilder::report_type_code) or the draft says otherwise.
    pub fn report(&self, resource: &str, value: impl Serialize) -> EventDraft {
        let draft = self.event(self.0.settings.report_type_code);
        match serde_json::to_value(value) {
            Ok(value) => draft.payload(Reported { reported: Map::from_iter([(resource.to_owned(), value)]) }),
            Err(error) => draft.failed(EventError::Payload(error)),
        }
    }
}

/// An event that is not sent yet. Begin with [`Events::event`] or [`Events::report`].
#[derive(Debug)]
#[must_use = "an event is not sent before send()"]
pub struct EventDraft {
    events: Events,
    type_code: u32,
    body: Result<Bytes, EventError>,
    number: Option<u32>,
    time_s: Option<u64>,
    correlation: Option<Uuid>,
    is_sent_twice: bool,
}

impl EventDraft {
    fn new(events: Events, type_code: u32) -> Self {
        Self {
            events,
            type_code,
            body: Ok(Bytes::from_static(b"{}")),
            number: None,
            time_s: None,
            correlation: None,
            is_sent_twice: false,
        }
    }

    /// What the event says: anything that becomes a JSON object. Default: `{}`.
    pub fn payload(mut self, value: impl Serialize) -> Self {
        self.body = serde_json::to_vec(&value).map(Bytes::from).map_err(EventError::Payload);
        self
    }

    fn failed(mut self, error: EventError) -> Self {
        self.body = Err(error);
        self
    }

    /// Sets another type code.
    pub fn type_code(mut self, type_code: u32) -> Self {
        self.type_code = type_code;
        self
    }

    /// The event's number on the device (`dev_event_id`), instead of the SDK's own count. The
    /// server takes two events with the same number and time for one, unless the number is 0.
    pub fn number(mut self, number: u32) -> Self {
        self.number = Some(number);
        self
    }

    /// When it happened, in Unix seconds. Default: now.
    pub fn at(mut self, unix_s: u64) -> Self {
        self.time_s = Some(unix_s);
        self
    }

    /// What it belongs to, such as the [task](crate::Call::task_id) that caused it.
    pub fn correlation(mut self, id: Uuid) -> Self {
        self.correlation = Some(id);
        self
    }

    /// Sends the event twice in a row, for simulators and tests of a server, which stores it
    /// once. A queue on disk does not keep this.
    pub fn sent_twice(mut self) -> Self {
        self.is_sent_twice = true;
        self
    }

    /// Gives the event its number and puts it into the queue. Returns when it is there to stay
    /// (with [`journal_dir`](crate::DeviceBuilder::journal_dir): durably), whether the device is
    /// connected or not. It is sent as soon as it is its turn.
    ///
    /// # Errors
    /// [`EventError`]; then the event is not queued.
    pub async fn send(self) -> Result<EventTicket, EventError> {
        let body = self.body?;
        check(self.type_code, &body)?;
        let time_s = self.time_s.unwrap_or_else(unix_now_s);
        let (outcome_tx, outcome) = oneshot::channel();
        let new = NewEvent {
            // The queue counts; a number of the caller's goes before that.
            event: Event {
                number: 0,
                type_code: self.type_code,
                time_s,
                correlation: self.correlation,
                body,
            },
            number: self.number,
            is_sent_twice: self.is_sent_twice,
            outcome: outcome_tx,
        };
        let number = self.events.accept(new).await?;
        Ok(EventTicket { number, time_s, outcome })
    }
}

/// The body must begin as an object: it is JSON, for it was made from a value.
fn check(type_code: u32, body: &[u8]) -> Result<(), EventError> {
    if type_code > EVENT_TYPE_CODE_MAX {
        return Err(EventError::TypeCode { type_code });
    }
    if body.first() != Some(&b'{') {
        return Err(EventError::NotAnObject);
    }
    if body.len() > EVENT_BODY_BYTES_MAX {
        return Err(EventError::TooLarge { bytes: body.len(), bytes_max: EVENT_BODY_BYTES_MAX });
    }
    Ok(())
}

/// An event that is queued. It is sent whether this is kept or dropped.
#[derive(Debug)]
pub struct EventTicket {
    number: u32,
    time_s: u64,
    outcome: oneshot::Receiver<EventOutcome>,
}

impl EventTicket {
    /// The event's number on the device (`dev_event_id`).
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Its time (`dev_timestamp`), in Unix seconds.
    #[must_use]
    pub fn time_s(&self) -> u64 {
        self.time_s
    }

    /// Waits until the event has come to an end; as long as the device is offline, if it must.
    pub async fn outcome(self) -> EventOutcome {
        self.outcome.await.unwrap_or(EventOutcome::Unsent)
    }
}
