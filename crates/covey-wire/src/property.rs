//! Names of the MQTT 5 user properties (device-rpc "Messages", device-events). On AMQP these are
//! headers, in the envelope of MQTT 3.1.1 they are members.

/// The task's or event's id as 36-character text, beside or instead of Correlation Data.
pub const CORRELATION_DATA: &str = "correlationData";
/// The same as some clients of the field write it; only read.
pub const CORRELATION_DATA_CAPITAL: &str = "CorrelationData";
/// What an event belongs to, a UUID.
pub const CORRELATION_ID: &str = "correlation_id";
/// The number of an event on its device, an unsigned 32-bit integer.
pub const DEV_EVENT_ID: &str = "dev_event_id";
/// When an event happened, by its device: Unix seconds, or ISO 8601.
pub const DEV_TIMESTAMP: &str = "dev_timestamp";
/// The type of an event, an integer.
pub const EVENT_TYPE_CODE: &str = "event_type_code";
/// When a task expires, in Unix seconds.
pub const EXPIRES_AT: &str = "expires_at";
/// The device's own number of a result, an integer.
pub const EXT_ID: &str = "ext_id";
/// What is to be done, as a name.
pub const METHOD: &str = "method";
/// What is to be done, as a number.
pub const METHOD_CODE: &str = "method_code";
/// The server's number of a stored result.
pub const RESULT_ID: &str = "result_id";
/// How a task went, an integer on the scale of HTTP.
pub const STATUS_CODE: &str = "status_code";
