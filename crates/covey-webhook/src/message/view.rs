//! How a record looks on the wire: as the streams of the REST API tell it.

use covey_core::id::UnixMs;
use covey_core::record::{Change, Record};
use covey_core::task::{ResultBody, TaskResult};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

/// The last second of the year 9999, the last that RFC 3339 can write.
const SECONDS_MAX: i64 = 253_402_300_799;

/// JSON that is handed on exactly as it came. It was checked when it came.
fn verbatim(text: &str) -> &RawValue {
    serde_json::from_str(text).unwrap_or(RawValue::NULL)
}

/// An instant as RFC 3339 text in UTC with milliseconds.
#[derive(Clone, Copy)]
struct Time(UnixMs);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ms = self.0.0.clamp(0, SECONDS_MAX * 1_000);
        let instant = OffsetDateTime::from_unix_timestamp(ms / 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (year, month, day) = instant.to_calendar_date();
        let (hour, minute, second) = instant.to_hms();
        let (month, ms) = (u8::from(month), ms % 1_000);
        let text = format_args!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z");
        serializer.collect_str(&text)
    }
}

/// A CloudEvent 1.0 in JSON.
#[derive(Serialize)]
pub(super) struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: String,
    #[serde(rename = "type")]
    event_type: String,
    subject: &'a str,
    time: Time,
    datacontenttype: &'static str,
    data: RecordView<'a>,
}

impl<'a> CloudEvent<'a> {
    pub(super) fn of(record: &'a Record, id: &'a str) -> Self {
        Self {
            specversion: "1.0",
            id,
            source: format!("/api/v1/devices/{}", record.device.identity.device_id.0),
            event_type: format!("covey.{}", record.change.kind().name()),
            subject: record.device.identity.sn.as_str(),
            time: Time(record.at),
            datacontenttype: "application/json",
            data: RecordView::of(record),
        }
    }
}

/// A change.
#[derive(Serialize)]
pub(super) struct RecordView<'a> {
    id: i64,
    kind: &'static str,
    at: Time,
    device_id: i64,
    sn: &'a str,
    #[serde(flatten)]
    change: ChangeView<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum ChangeView<'a> {
    Task(TaskView<'a>),
    Result(FullResultView<'a>),
    Event(EventView<'a>),
    Presence(PresenceView),
    Twin(TwinView<'a>),
}

#[derive(Serialize)]
struct TaskView<'a> {
    id: Uuid,
    ext_task_id: &'a str,
    method_code: u16,
    method: Option<&'a str>,
    status: u8,
    status_name: &'static str,
    cause: &'static str,
}

/// A result as `GET /device-tasks` shows it.
#[derive(Serialize)]
pub(super) struct ResultView<'a> {
    id: i64,
    ext_id: i64,
    status_code: i64,
    result: BodyView<'a>,
}

#[derive(Serialize)]
struct FullResultView<'a> {
    task_id: Uuid,
    ext_task_id: &'a str,
    method_code: u16,
    #[serde(flatten)]
    result: ResultView<'a>,
    received_at: Time,
}

#[derive(Serialize)]
struct EventView<'a> {
    id: i64,
    device_id: i64,
    sn: &'a str,
    event_type_code: i64,
    timestamp: Time,
    received_at: Time,
    dev_event_id: u32,
    correlation_id: Option<Uuid>,
    payload: &'a RawValue,
}

#[derive(Serialize)]
struct PresenceView {
    online: bool,
    reason: &'static str,
}

#[derive(Serialize)]
struct TwinView<'a> {
    side: &'static str,
    resource: &'a str,
    value: Option<&'a RawValue>,
    version: i64,
}

impl<'a> ResultView<'a> {
    pub(super) fn of(stored: &'a TaskResult) -> Self {
        let result = &stored.result;
        let (id, ext_id, status_code) = (stored.id.0, result.ext_id, result.status_code);
        Self { id, ext_id, status_code, result: BodyView(&result.body) }
    }
}

impl<'a> RecordView<'a> {
    pub(super) fn of(record: &'a Record) -> Self {
        let identity = &record.device.identity;
        let change = match &record.change {
            Change::Task { task, status, cause } => ChangeView::Task(TaskView {
                id: task.id.0,
                ext_task_id: &task.ext_task_id,
                method_code: task.method_code,
                method: task.method.as_deref(),
                status: status.number(),
                status_name: status.name(),
                cause: cause.name(),
            }),
            Change::Result { task, result } => ChangeView::Result(FullResultView {
                task_id: task.id.0,
                ext_task_id: &task.ext_task_id,
                method_code: task.method_code,
                result: ResultView::of(result),
                received_at: Time(result.received_at),
            }),
            Change::Event(event) => ChangeView::Event(EventView {
                id: event.id.0,
                device_id: event.device_id.0,
                sn: event.sn.as_str(),
                event_type_code: event.type_code,
                timestamp: Time(event.key.dev_timestamp),
                received_at: Time(event.received_at),
                dev_event_id: event.key.dev_event_id,
                correlation_id: event.correlation,
                payload: verbatim(&event.payload),
            }),
            Change::Presence { online, reason } => {
                ChangeView::Presence(PresenceView { online: *online, reason: reason.name() })
            }
            Change::Twin(change) => ChangeView::Twin(TwinView {
                side: change.side.name(),
                resource: &change.resource,
                value: change.value.as_deref().map(verbatim),
                version: change.version,
            }),
        };
        Self {
            id: record.number.0,
            kind: record.change.kind().name(),
            at: Time(record.at),
            device_id: identity.device_id.0,
            sn: identity.sn.as_str(),
            change,
        }
    }
}

/// The body of a result: a JSON object as it was sent, anything else in one.
struct BodyView<'a>(&'a ResultBody);

impl Serialize for BodyView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let json = match self.0 {
            ResultBody::Empty => return serializer.serialize_none(),
            ResultBody::Json(text) => serde_json::from_str::<&RawValue>(text).ok(),
            ResultBody::Text(_) => None,
        };
        match json {
            Some(object) if object.get().starts_with('{') => object.serialize(serializer),
            Some(other) => value(serializer, other),
            None => value(serializer, self.0.text()),
        }
    }
}

fn value<S: Serializer, T: Serialize + ?Sized>(serializer: S, value: &T) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry("value", value)?;
    map.end()
}
