//! Tasks and their results.

use std::borrow::Cow;

use covey_core::id::{ResultId, UnixMs};
use covey_core::port::PageRequest;
use covey_core::task::{self as core, ResultBody, TaskDetail, TaskPage as FoundTasks};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::verbatim;
use crate::{ResultMessage, Task, TaskChange, TaskHeader, TaskItem, TaskPage, TaskResult, TaskStatus};

impl From<core::TaskStatus> for TaskStatus {
    fn from(status: core::TaskStatus) -> Self {
        Self::from(status.number())
    }
}

impl<'a> Task<'a> {
    /// How a task looks at `now`.
    #[must_use]
    pub fn of(detail: &'a TaskDetail, now: UnixMs) -> Self {
        let task = &detail.task;
        let status = task.status_at(now);
        Self {
            id: task.id.0,
            created_at: task.created_at.seconds(),
            header: TaskHeader {
                ext_task_id: Cow::Borrowed(&task.ext_task_id),
                device_id: task.device_id.0,
                method_code: task.method_code,
                priority: task.priority,
                ttl: task.ttl_minutes_left(now),
            },
            status: status.into(),
            status_name: Cow::Borrowed(status.name()),
            pending_at: task.pending_at.map(UnixMs::seconds),
            locked_at: task.locked_at.map(UnixMs::seconds),
            expires_at: task.expires_at.seconds(),
            method: task.method.as_deref().map(Cow::Borrowed),
            device_sn: Cow::Borrowed(task.sn.as_str()),
            created_by: task.created_by.as_deref().map(Cow::Borrowed),
            deliveries: task.deliveries,
            results: detail.results.iter().map(TaskResult::of).collect(),
            results_next: detail.results_next.map(|ResultId(next)| Cow::Owned(format!("before-{next}"))),
            timeline: timeline(task, now).iter().map(TaskChange::of).collect(),
        }
    }
}

/// A task whose time ran out has expired, whether or not that is stored yet.
fn timeline(task: &core::Task, now: UnixMs) -> Cow<'_, [core::Change]> {
    if task.is_overdue(now) {
        let mut expired = task.clone();
        expired.expire(now);
        Cow::Owned(expired.timeline)
    } else {
        Cow::Borrowed(&task.timeline)
    }
}

impl TaskChange {
    fn of(change: &core::Change) -> Self {
        Self {
            at: change.at.into(),
            status: change.to.into(),
            status_name: Cow::Borrowed(change.to.name()),
            cause: Cow::Borrowed(change.cause.name()),
        }
    }
}

impl<'a> TaskResult<'a> {
    /// How a result looks.
    #[must_use]
    pub fn of(stored: &'a core::TaskResult) -> Self {
        let result = &stored.result;
        Self {
            id: stored.id.0,
            ext_id: result.ext_id,
            status_code: result.status_code,
            result: result_body(&result.body),
        }
    }
}

impl<'a> ResultMessage<'a> {
    /// How a webhook tells a result.
    #[must_use]
    pub fn of(body: &'a ResultBody) -> Self {
        let result = match body {
            ResultBody::Empty => Cow::Borrowed(RawValue::NULL),
            ResultBody::Json(text) => verbatim(text),
            ResultBody::Text(text) => to_raw_value(&**text).map_or(Cow::Borrowed(RawValue::NULL), Cow::Owned),
        };
        Self { result }
    }
}

/// The body of a result: a JSON object as it was sent, anything else in one.
pub(super) fn result_body(body: &ResultBody) -> Option<Cow<'_, RawValue>> {
    let json = match body {
        ResultBody::Empty => return None,
        ResultBody::Json(text) => serde_json::from_str::<&RawValue>(text).ok(),
        ResultBody::Text(_) => None,
    };
    Some(match json {
        Some(object) if object.get().starts_with('{') => Cow::Borrowed(object),
        Some(other) => in_object(other),
        None => in_object(body.text()),
    })
}

fn in_object<T: Serialize + ?Sized>(value: &T) -> Cow<'static, RawValue> {
    #[derive(Serialize)]
    struct Object<'a, T: ?Sized> {
        value: &'a T,
    }
    to_raw_value(&Object { value }).map_or(Cow::Borrowed(RawValue::NULL), Cow::Owned)
}

impl<'a> TaskItem<'a> {
    fn of(task: &'a core::Task, now: UnixMs) -> Self {
        let status = task.status_at(now);
        Self {
            id: task.id.0,
            ext_task_id: Cow::Borrowed(&task.ext_task_id),
            device_id: task.device_id.0,
            device_sn: Cow::Borrowed(task.sn.as_str()),
            method_code: task.method_code,
            method: task.method.as_deref().map(Cow::Borrowed),
            priority: task.priority,
            ttl: task.ttl_minutes_left(now),
            status: status.into(),
            status_name: Cow::Borrowed(status.name()),
            created_at: task.created_at.into(),
            pending_at: task.pending_at.map(Into::into),
            locked_at: task.locked_at.map(Into::into),
            expires_at: task.expires_at.into(),
            org_id: task.org.0,
            created_by: task.created_by.as_deref().map(Cow::Borrowed),
        }
    }
}

impl<'a> TaskPage<'a> {
    /// How a page of tasks looks at `now`.
    #[must_use]
    pub fn of(found: &'a FoundTasks, asked: PageRequest, now: UnixMs) -> Self {
        Self {
            items: found.items.iter().map(|task| TaskItem::of(task, now)).collect(),
            total: found.total,
            page: asked.page,
            size: asked.size,
            pages: found.total.div_ceil(u64::from(asked.size.max(1))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;

    #[test]
    fn states_have_the_names_and_numbers_of_the_domain() {
        for (status, known) in TaskStatus::ALL.into_iter().zip(core::TaskStatus::ALL) {
            assert_eq!(TaskStatus::from(known), status);
            assert_eq!((status.name(), status.is_final()), (known.name(), known.is_final()));
        }
    }

    #[test]
    fn a_result_that_is_an_object_is_shown_as_it_came_and_any_other_in_one() {
        let json = |text: &str| ResultBody::Json(Arc::from(text));
        for (body, shown) in [
            (ResultBody::Empty, "null"),
            (json("{ \"b\":1.50,\"a\":\"\\u00fc\" }"), "{ \"b\":1.50,\"a\":\"\\u00fc\" }"),
            (json("[1e2]"), "{\"value\":[1e2]}"),
            (ResultBody::Text(Arc::from("a\"b")), "{\"value\":\"a\\\"b\"}"),
        ] {
            assert_eq!(serde_json::to_string(&result_body(&body)).unwrap(), shown);
        }
    }
}
