//! How a change looks to those who are told of it.

use covey_core::presence::Reason;
use covey_core::record::{Change, Record, RecordKind, RecordTask};
use covey_core::task::TaskResult;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use crate::device_events::EventView;
use crate::device_tasks::{BodyView, CauseName, StatusName, StatusNumber};
use crate::wire::{Time, verbatim};

/// A change. Which of the last five is there follows from its kind.
#[derive(Serialize, ToSchema)]
#[schema(as = Record)]
pub(crate) struct RecordView<'a> {
    /// Its number, and the cursor after it.
    id: i64,
    /// Its kind.
    kind: RecordKindName,
    /// When the change was made.
    at: Time,
    /// The device's number.
    #[schema(minimum = 1)]
    device_id: i64,
    /// The device's serial number.
    sn: &'a str,
    /// The task's state after the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<TaskChangeView<'a>>,
    /// The result that came.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<ResultView<'a>>,
    /// The event that came.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<EventView<'a>>,
    /// Whether the device is connected now.
    #[serde(skip_serializing_if = "Option::is_none")]
    presence: Option<PresenceView>,
    /// The value of the twin that changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    twin: Option<TwinChangeView<'a>>,
}

/// The name of a kind of change.
#[derive(Clone, Copy)]
pub(crate) struct RecordKindName(RecordKind);

impl Serialize for RecordKindName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

impl PartialSchema for RecordKindName {
    fn schema() -> RefOr<Schema> {
        names("What changed.", RecordKind::NAMES.map(|(_, name)| name))
    }
}

impl ToSchema for RecordKindName {}

/// The name of a reason.
#[derive(Clone, Copy)]
struct ReasonName(Reason);

impl Serialize for ReasonName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

impl PartialSchema for ReasonName {
    fn schema() -> RefOr<Schema> {
        names("Why.", Reason::NAMES.map(|(_, name)| name))
    }
}

impl ToSchema for ReasonName {}

fn names<const N: usize>(meaning: &str, names: [&'static str; N]) -> RefOr<Schema> {
    let schema = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
    RefOr::T(Schema::Object(schema.description(Some(meaning)).enum_values(Some(names)).build()))
}

/// A task's state after a change.
#[derive(Serialize, ToSchema)]
#[schema(as = TaskStateChange)]
struct TaskChangeView<'a> {
    /// The task's id.
    id: Uuid,
    /// The application's own id for it.
    ext_task_id: &'a str,
    /// What the device is to do, as a number.
    method_code: u16,
    /// What the device is to do, as a name.
    #[schema(required = true)]
    method: Option<&'a str>,
    /// Its state, as a number.
    status: StatusNumber,
    /// Its state, as a name.
    status_name: StatusName,
    /// Why it changed.
    cause: CauseName,
}

/// A result.
#[derive(Serialize, ToSchema)]
#[schema(as = ResultChange)]
pub(crate) struct ResultView<'a> {
    /// The id of its task.
    task_id: Uuid,
    /// The application's own id for the task.
    ext_task_id: &'a str,
    /// What the device was to do, as a number.
    method_code: u16,
    /// Its number.
    id: i64,
    /// The device's own number for it.
    ext_id: i64,
    /// How it went, on the scale of HTTP.
    status_code: i64,
    /// What the device sent; null if nothing. What is no object comes as `{"value": …}`.
    #[schema(required = true, value_type = Option<Object>)]
    result: BodyView<'a>,
    /// When it was received.
    received_at: Time,
}

/// Whether a device is connected.
#[derive(Serialize, ToSchema)]
#[schema(as = PresenceChange)]
struct PresenceView {
    /// Whether it is.
    online: bool,
    /// Why it went, or what its coming ended.
    reason: ReasonName,
}

/// A value of a twin that changed.
#[derive(Serialize, ToSchema)]
#[schema(as = TwinChange)]
struct TwinChangeView<'a> {
    /// `reported` or `desired`.
    side: &'static str,
    /// The resource.
    resource: &'a str,
    /// Its value; null if it was removed.
    #[schema(required = true, value_type = Option<serde_json::Value>)]
    value: Option<&'a RawValue>,
    /// The version of that side.
    version: i64,
}

impl<'a> RecordView<'a> {
    /// How a change looks.
    pub(crate) fn of(record: &'a Record) -> Self {
        let mut view = Self {
            id: record.number.0,
            kind: RecordKindName(record.change.kind()),
            at: Time(record.at),
            device_id: record.device.identity.device_id.0,
            sn: record.device.identity.sn.as_str(),
            task: None,
            result: None,
            event: None,
            presence: None,
            twin: None,
        };
        match &record.change {
            Change::Task { task, status, cause } => {
                view.task = Some(TaskChangeView {
                    id: task.id.0,
                    ext_task_id: &task.ext_task_id,
                    method_code: task.method_code,
                    method: task.method.as_deref(),
                    status: StatusNumber(*status),
                    status_name: StatusName(*status),
                    cause: CauseName(*cause),
                });
            }
            Change::Result { task, result } => view.result = Some(ResultView::of(task, result)),
            Change::Event(event) => view.event = Some(EventView::of(event)),
            Change::Presence { online, reason } => {
                view.presence = Some(PresenceView { online: *online, reason: ReasonName(*reason) });
            }
            Change::Twin(change) => {
                view.twin = Some(TwinChangeView {
                    side: change.side.name(),
                    resource: &change.resource,
                    value: change.value.as_deref().map(verbatim),
                    version: change.version,
                });
            }
        }
        view
    }

    /// The change as JSON.
    pub(crate) fn json(&self) -> String {
        // Strings, numbers and JSON that was checked always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl<'a> ResultView<'a> {
    fn of(task: &'a RecordTask, result: &'a TaskResult) -> Self {
        Self {
            task_id: task.id.0,
            ext_task_id: &task.ext_task_id,
            method_code: task.method_code,
            id: result.id.0,
            ext_id: result.result.ext_id,
            status_code: result.result.status_code,
            result: BodyView(&result.result.body),
            received_at: Time(result.received_at),
        }
    }
}

/// The last message of a stream that the server ends.
#[derive(Serialize)]
pub(super) struct End<'a> {
    /// Why.
    pub(super) reason: &'static str,
    /// What to do.
    pub(super) detail: &'a str,
    /// Go on after this one.
    pub(super) cursor: i64,
}

impl End<'_> {
    /// The message as JSON.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
