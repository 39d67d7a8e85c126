//! What is asked for: a task, or tasks by filter and page.

use covey_api::TaskStatus;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::client::Request;
use crate::error::{Error, Result};

/// A task that is wanted. What is not given, the server chooses
/// (rest-api "Tasks").
#[derive(Clone, Debug, Default, Serialize)]
pub struct TaskRequest {
    /// For the device with this number; this or `device_sn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<i64>,
    /// For the device with this serial number; this or `device_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_sn: Option<String>,
    /// The application's own id for the task.
    pub ext_task_id: String,
    /// What is to be done, as a number: 0 to 65534.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method_code: Option<u16>,
    /// What is to be done, as a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// 0 to 9, higher first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Its life in whole minutes, 0 to 44639; 0 makes a task that is only pushed.
    #[serde(rename = "ttl", skip_serializing_if = "Option::is_none")]
    pub ttl_minutes: Option<u32>,
    /// The parameters: the JSON text of an object, passed on as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
    /// Makes the request one that can be repeated within 24 hours without
    /// doing anything twice.
    #[serde(skip)]
    pub idempotency_key: Option<String>,
}

impl TaskRequest {
    /// A task for the device with this serial number.
    #[must_use]
    pub fn for_sn(sn: impl Into<String>) -> Self {
        Self { device_sn: Some(sn.into()), ..Self::default() }
    }

    /// A task for the device with this number.
    #[must_use]
    pub fn for_device_id(device_id: i64) -> Self {
        Self { device_id: Some(device_id), ..Self::default() }
    }

    /// Says what is to be done, by name.
    #[must_use]
    pub fn with_method(mut self, method: impl Into<String>) -> Self {
        self.method = Some(method.into());
        self
    }

    /// Says what is to be done, by number.
    #[must_use]
    pub fn with_method_code(mut self, method_code: u16) -> Self {
        self.method_code = Some(method_code);
        self
    }

    /// Says how long it may take, in minutes.
    #[must_use]
    pub fn with_ttl_minutes(mut self, ttl_minutes: u32) -> Self {
        self.ttl_minutes = Some(ttl_minutes);
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
        self.payload = Some(RawValue::from_string(json.into()).map_err(|source| Error::Request { source })?);
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
            serde_json::to_string(&request).unwrap(),
            format!(r#"{{"device_sn":"lamp-1","ext_task_id":"","method_code":5,"payload":{text}}}"#)
        );
        assert!(matches!(TaskRequest::for_sn("lamp-1").with_payload("{"), Err(Error::Request { .. })));
    }
}
