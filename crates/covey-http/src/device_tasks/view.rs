//! How a task and its results look to an application.

use std::borrow::Cow;

use covey_core::id::UnixMs;
use covey_core::task::{Cause, Change, ResultBody, Task, TaskDetail, TaskResult, TaskStatus};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{KnownFormat, RefOr, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use crate::wire::Time;

/// A task with its results.
#[derive(Serialize, ToSchema)]
#[schema(as = Task)]
pub(crate) struct TaskView<'a> {
    /// The task's id.
    id: Uuid,
    /// When it was made, in Unix seconds.
    #[schema(example = 1_770_091_506)]
    created_at: i64,
    header: HeaderView<'a>,
    /// Its state, as a number.
    status: StatusNumber,
    /// Its state, as a name.
    status_name: StatusName,
    /// When the device acknowledged it, in Unix seconds.
    #[schema(required = true)]
    pending_at: Option<i64>,
    /// When the device first took it, in Unix seconds.
    #[schema(required = true)]
    locked_at: Option<i64>,
    /// When it expires, in Unix seconds.
    expires_at: i64,
    /// What the device is to do, as a name.
    #[schema(required = true)]
    method: Option<&'a str>,
    /// The device's serial number.
    device_sn: &'a str,
    /// How often it was given to the device.
    deliveries: u32,
    /// Its results, newest first.
    results: Vec<ResultView<'a>>,
    /// Its states, oldest first.
    timeline: Vec<ChangeView>,
}

/// What was asked for.
#[derive(Serialize, ToSchema)]
#[schema(as = TaskHeader)]
struct HeaderView<'a> {
    /// The application's own id for the task.
    ext_task_id: &'a str,
    /// The device's number.
    #[schema(minimum = 1)]
    device_id: i64,
    /// What the device is to do, as a number.
    #[schema(minimum = 0, maximum = 65_534)]
    method_code: u16,
    /// A task of higher priority is taken first.
    #[schema(minimum = 0, maximum = 9)]
    priority: u8,
    /// What is left of its life in minutes, rounded up.
    #[schema(minimum = 0)]
    ttl: i64,
}

/// A result of a task.
#[derive(Serialize, ToSchema)]
#[schema(as = TaskResult)]
struct ResultView<'a> {
    /// Its number.
    id: i64,
    /// The device's own number of it; 0 if it gave none.
    ext_id: i64,
    /// How it went, on the scale of HTTP: 206 more to come, below 400 done, 400 and up failed.
    status_code: i64,
    /// What the device sent. What is no JSON object comes as `{"value": …}`.
    #[schema(value_type = Option<Object>, required = true)]
    result: BodyView<'a>,
}

/// A state that a task came to.
#[derive(Serialize, ToSchema)]
#[schema(as = TaskChange)]
struct ChangeView {
    /// When.
    at: Time,
    /// The state, as a number.
    status: StatusNumber,
    /// The state, as a name.
    status_name: StatusName,
    /// Why.
    cause: CauseName,
}

impl<'a> TaskView<'a> {
    /// How a task looks at `now`.
    pub(crate) fn of(detail: &'a TaskDetail, now: UnixMs) -> Self {
        let task = &detail.task;
        let status = task.status_at(now);
        Self {
            id: task.id.0,
            created_at: task.created_at.seconds(),
            header: HeaderView {
                ext_task_id: &task.ext_task_id,
                device_id: task.device_id.0,
                method_code: task.method_code,
                priority: task.priority,
                ttl: task.ttl_minutes_left(now),
            },
            status: StatusNumber(status),
            status_name: StatusName(status),
            pending_at: task.pending_at.map(UnixMs::seconds),
            locked_at: task.locked_at.map(UnixMs::seconds),
            expires_at: task.expires_at.seconds(),
            method: task.method.as_deref(),
            device_sn: task.sn.as_str(),
            deliveries: task.deliveries,
            results: detail.results.iter().map(ResultView::of).collect(),
            timeline: timeline(task, now).iter().map(ChangeView::of).collect(),
        }
    }
}

/// A task whose time ran out has expired, whether or not that is stored yet.
fn timeline(task: &Task, now: UnixMs) -> Cow<'_, [Change]> {
    if task.is_overdue(now) {
        let mut expired = task.clone();
        expired.expire(now);
        Cow::Owned(expired.timeline)
    } else {
        Cow::Borrowed(&task.timeline)
    }
}

impl<'a> ResultView<'a> {
    fn of(stored: &'a TaskResult) -> Self {
        let result = &stored.result;
        Self {
            id: stored.id.0,
            ext_id: result.ext_id,
            status_code: result.status_code,
            result: BodyView(&result.body),
        }
    }
}

impl ChangeView {
    fn of(change: &Change) -> Self {
        Self {
            at: Time(change.at),
            status: StatusNumber(change.to),
            status_name: StatusName(change.to),
            cause: CauseName(change.cause),
        }
    }
}

/// The body of a result: a JSON object as it was sent, anything else in one.
pub(crate) struct BodyView<'a>(pub(crate) &'a ResultBody);

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

/// A state as its number.
#[derive(Clone, Copy)]
pub(crate) struct StatusNumber(pub(crate) TaskStatus);

impl Serialize for StatusNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.0.number())
    }
}

impl PartialSchema for StatusNumber {
    fn schema() -> RefOr<Schema> {
        let numbers = TaskStatus::ALL.map(|status| format!("{} {}", status.number(), status.name()));
        let schema = ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::Integer))
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int32)))
            .minimum(Some(0))
            .maximum(Some(7))
            .description(Some(format!("{}.", numbers.join(", "))))
            .build();
        RefOr::T(Schema::Object(schema))
    }
}

impl ToSchema for StatusNumber {
    fn name() -> Cow<'static, str> {
        "TaskStatus".into()
    }
}

/// A state as its name.
#[derive(Clone, Copy)]
pub(crate) struct StatusName(pub(crate) TaskStatus);

impl Serialize for StatusName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

impl PartialSchema for StatusName {
    fn schema() -> RefOr<Schema> {
        names(TaskStatus::ALL.map(TaskStatus::name).to_vec(), "A state of a task.")
    }
}

impl ToSchema for StatusName {
    fn name() -> Cow<'static, str> {
        "TaskStatusName".into()
    }
}

/// Why a state changed.
pub(crate) struct CauseName(pub(crate) Cause);

impl Serialize for CauseName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

impl PartialSchema for CauseName {
    fn schema() -> RefOr<Schema> {
        names(Cause::NAMES.map(|(_, name)| name).to_vec(), "Why the state of a task changed.")
    }
}

impl ToSchema for CauseName {
    fn name() -> Cow<'static, str> {
        "TaskCause".into()
    }
}

fn names(names: Vec<&'static str>, description: &str) -> RefOr<Schema> {
    let schema = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .enum_values(Some(names))
        .description(Some(description))
        .build();
    RefOr::T(Schema::Object(schema))
}
