//! What can be wrong with a message of a device.

/// Why a message cannot be understood; nothing changes because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The correlation is in none of the known forms.
    #[error("the correlation is no UUID")]
    Correlation,
    /// The message needs a task's correlation and has none.
    #[error("the correlation is missing")]
    CorrelationMissing,
    /// The status code is missing or no integer.
    #[error("status_code is missing or no integer")]
    StatusCode,
    /// `ext_id` is no integer.
    #[error("ext_id is no integer")]
    ExtId,
    /// The body is no UTF-8 text.
    #[error("the body is no UTF-8 text")]
    NotText,
    /// The body of a 3.1.1 client is no JSON envelope.
    #[error("the body is no JSON envelope")]
    NotEnvelope,
    /// The type code of an event is out of its range.
    #[error("event_type_code is no integer from 0 to 2147483647")]
    EventTypeCode,
    /// The number of an event is out of its range.
    #[error("dev_event_id is no integer from 0 to 4294967295")]
    DevEventId,
    /// The body of an event is something else.
    #[error("the body is no JSON object")]
    NotObject,
    /// The body of an event is nested too deeply.
    #[error("the body has more than 64 levels")]
    TooDeep,
    /// The name of a reported resource is no text.
    #[error("the name of a reported resource is no text")]
    Resource,
}
