//! What an application may ask for, with the ranges of rest-api "Tasks".

use std::sync::Arc;

use crate::access::Caller;
use crate::error::{Error, Result};
use crate::id::{DeviceId, DeviceKey, OrgId, Sn, TaskId, UnixMs};
use crate::limits::Limits;
use crate::task::{Cause, Change, Task, TaskStatus};

/// Highest method code (rest-api "Tasks").
/// Limit for each task: 422.
pub const METHOD_CODE_MAX: i64 = 65_534;
/// Highest priority (rest-api "Tasks").
/// Limit for each task: 422.
pub const PRIORITY_MAX: i64 = 9;
/// Longest life that an application may ask for, in minutes (rest-api "Tasks").
/// Limit for each task: 422.
pub const TTL_MINUTES_MAX: i64 = 44_639;
/// Longest id of the application's own, in characters.
/// Limit for each task: 422.
pub const EXT_TASK_ID_CHARS_MAX: usize = 256;
/// Longest method name, in characters.
/// Limit for each task: 422.
pub const METHOD_CHARS_MAX: usize = 128;
/// Longest parameters, in bytes of JSON text.
/// Limit for each task: 422, or 413 where the whole body is too large.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;

/// The device that a task is for, as an application names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceRef {
    /// By its number.
    Id(DeviceId),
    /// By its serial number.
    Sn(Sn),
}

/// What an application asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSpec {
    /// For which device.
    pub device: DeviceRef,
    /// The application's own id for the task.
    pub ext_task_id: String,
    /// What is to be done, as a number.
    pub method_code: i64,
    /// What is to be done, as a name.
    pub method: Option<String>,
    /// 0 to 9, higher first.
    pub priority: i64,
    /// Life in whole minutes; 0 makes a task that is only pushed.
    pub ttl_minutes: i64,
    /// The parameters as JSON text.
    pub payload: Option<Arc<str>>,
}

impl TaskSpec {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        let within = |value: i64, max: i64| (0..=max).contains(&value);
        if !within(self.method_code, METHOD_CODE_MAX) {
            return Err(Error::invalid("method_code", "must be 0 to 65534"));
        }
        if !within(self.priority, PRIORITY_MAX) {
            return Err(Error::invalid("priority", "must be 0 to 9"));
        }
        if !within(self.ttl_minutes, TTL_MINUTES_MAX) {
            return Err(Error::invalid("ttl", "must be 0 to 44639 minutes"));
        }
        if self.ext_task_id.chars().count() > EXT_TASK_ID_CHARS_MAX || self.ext_task_id.contains('\0') {
            return Err(Error::invalid("ext_task_id", "must be at most 256 characters without NUL"));
        }
        if let Some(method) = &self.method
            && (method.is_empty()
                || method.chars().count() > METHOD_CHARS_MAX
                || method.chars().any(char::is_control))
        {
            return Err(Error::invalid("method", "must be 1 to 128 characters without control characters"));
        }
        if self.payload.as_ref().is_some_and(|payload| payload.len() > PAYLOAD_BYTES_MAX) {
            return Err(Error::invalid("payload", "must be at most 262144 bytes of JSON"));
        }
        Ok(())
    }

    /// The task that `caller` asks for with this, READY from `now` on.
    ///
    /// The fields must have been [validated](Self::validate); a value out of
    /// range is brought to the nearest bound here.
    #[must_use]
    pub fn into_task(
        self,
        id: TaskId,
        target: Target,
        caller: &Caller,
        limits: &Limits,
        now: UnixMs,
    ) -> Task {
        let push_only = self.ttl_minutes == 0;
        let life_ms = if push_only { limits.push_only_ms } else { self.ttl_minutes.saturating_mul(60_000) };
        Task {
            id,
            seq: 0,
            org: target.org,
            device: target.device,
            device_id: target.device_id,
            sn: target.sn,
            ext_task_id: self.ext_task_id,
            method_code: u16::try_from(self.method_code.clamp(0, METHOD_CODE_MAX)).unwrap_or(u16::MAX),
            method: self.method,
            priority: u8::try_from(self.priority.clamp(0, PRIORITY_MAX)).unwrap_or(u8::MAX),
            payload: self.payload,
            push_only,
            created_at: now,
            expires_at: now.plus_ms(life_ms),
            status: TaskStatus::Ready,
            pending_at: None,
            locked_at: None,
            lease_until: None,
            deliveries: 0,
            results: 0,
            late_results: 0,
            result_bytes: 0,
            timeline: vec![Change { at: now, to: TaskStatus::Ready, cause: Cause::Created }],
            created_by: Some(Arc::clone(&caller.name)),
        }
    }
}

/// The device that a task goes to, as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its organisation.
    pub org: OrgId,
    /// Its registration.
    pub device: DeviceKey,
    /// Its number for applications.
    pub device_id: DeviceId,
    /// Its serial number.
    pub sn: Sn,
}
