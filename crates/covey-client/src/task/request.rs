//! What is asked for: a task, or tasks by filter and page.

use std::borrow::Cow;

use covey_api::{TaskNew, TaskStatus, Whole};
use serde_json::value::RawValue;

use crate::client::Request;
use crate::error::{Error, Result};

/// A task that is wanted. What is not given, the server chooses
/// (rest-api "Tasks").
#[derive(Clone, Debug, Default)]
pub struct TaskRequest {
    /// The task.
    pub task: TaskNew<'static>,
    /// Under which the request can be repeated without making a second task.
    pub idempotency_key: Option<String>,
}

impl TaskRequest {
    fn of(task: TaskNew<'static>) -> Self {
        Self { task, idempotency_key: None }
    }

    /// A task for the device with this serial number.
    #[must_use]
    pub fn for_sn(sn: impl Into<String>) -> Self {
        Self::of(TaskNew { device_sn: Some(sn.into()), ..TaskNew::default() })
    }

    /// A task for the device with this number.
    #[must_use]
    pub fn for_device_id(device_id: i64) -> Self {
        Self::of(TaskNew { device_id: Some(Whole(device_id)), ..TaskNew::default() })
    }

    /// Says what is to be done, by name.
    #[must_use]
    pub fn with_method(mut self, method: impl Into<String>) -> Self {
        self.task.method = Some(method.into());
        self
    }

    /// Says what is to be done, by number.
    #[must_use]
    pub fn with_method_code(mut self, method_code: u16) -> Self {
        self.task.method_code = Some(Whole(method_code.into()));
        self
    }

    /// Says how long it may take, in minutes.
    #[must_use]
    pub fn with_ttl_minutes(mut self, ttl_minutes: u32) -> Self {
        self.task.ttl = Some(Whole(ttl_minutes.into()));
        self
    }

    /// Makes the request one that can be repeated without doing anything twice.
    #[must_use]
    pub fn with_idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Gives the parameters, as JSON text.
    ///
    /// # Errors
    /// [`Error::Request`] if it is not JSON.
    pub fn with_payload(mut self, json: impl Into<String>) -> Result<Self> {
        let payload = RawValue::from_string(json.into()).map_err(|source| Error::Request { source })?;
        self.task.payload = Some(Cow::Owned(payload));
        Ok(self)
    }
}

/// Which tasks are wanted; all, if nothing is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// Those of the device with this number.
    pub device_id: Option<i64>,
    /// Those in this state.
    pub status: Option<TaskStatus>,
    /// Those with this id of the application.
    pub ext_task_id: Option<String>,
    /// Those created at or after this instant: RFC 3339 or Unix seconds.
    pub created_after: Option<String>,
    /// Those created before this instant: RFC 3339 or Unix seconds.
    pub created_before: Option<String>,
}

impl TaskFilter {
    pub(super) fn add_to<'a>(&self, request: Request<'a>) -> Request<'a> {
        request
            .query_if("device_id", self.device_id)
            .query_if("status", self.status.map(TaskStatus::number))
            .query_if("ext_task_id", self.ext_task_id.as_ref())
            .query_if("created_after", self.created_after.as_ref())
            .query_if("created_before", self.created_before.as_ref())
    }
}

/// Which page of a list is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Its number, from 1.
    pub page: u32,
    /// How many a page holds.
    pub size: u32,
}

impl Default for PageRequest {
    /// The first page, of the size that the contract has for one.
    fn default() -> Self {
        Self { page: 1, size: 50 }
    }
}

impl PageRequest {
    pub(crate) fn add_to(self, request: Request<'_>) -> Request<'_> {
        request.query("page", self.page).query("size", self.size)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_payload_passes_through_as_it_was_written() {
        let text = r#"{"z":1.10,"a":12345678901234567890,"z2":[1e2]}"#;
        let request = TaskRequest::for_sn("lamp-1").with_method_code(5).with_payload(text).unwrap();
        assert_eq!(
            serde_json::to_string(&request.task).unwrap(),
            format!(r#"{{"ext_task_id":"","device_sn":"lamp-1","method_code":5,"payload":{text}}}"#)
        );
        assert!(matches!(TaskRequest::for_sn("lamp-1").with_payload("{"), Err(Error::Request { .. })));
    }
}
