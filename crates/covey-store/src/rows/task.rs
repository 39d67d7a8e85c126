//! Tasks, results and idempotency keys.

use covey_core::id::UnixMs;
use covey_core::node::WaitingTask;
use covey_core::task::{
    Cause, Change, Idempotency, Lapse, NewResult, ResultBody, Task, TaskCount, TaskResult, TaskStatus,
};

use crate::rows::{Columns, Damaged, Read, get, number};

/// The columns of a task, in the order that [`task`] reads them.
macro_rules! task_columns {
    () => {
        "t.seq, t.id, t.org_id, t.device_key, t.device_id, t.sn, t.ext_task_id, t.method_code, t.method, \
         t.priority, t.push_only, t.created_at, t.expires_at, t.status, t.pending_at, t.locked_at, \
         t.lease_until, t.deliveries, t.results, t.timeline, t.payload, t.created_by, \
         t.late_results, t.result_bytes"
    };
}
pub(crate) use task_columns;

/// How many columns that are.
pub(crate) const TASK_COLUMNS: usize = 24;

/// A task, from `task_columns!`.
pub(crate) fn task(row: &dyn Columns) -> Read<Task> {
    Ok(Task {
        seq: get(row, 0)?,
        id: get(row, 1)?,
        org: get(row, 2)?,
        device: get(row, 3)?,
        device_id: get(row, 4)?,
        sn: get(row, 5)?,
        ext_task_id: get(row, 6)?,
        method_code: number(row, 7)?,
        method: get(row, 8)?,
        priority: number(row, 9)?,
        push_only: get(row, 10)?,
        created_at: get(row, 11)?,
        expires_at: get(row, 12)?,
        status: TaskStatus::from_number(get(row, 13)?).ok_or(Damaged::Value(13, "task status"))?,
        pending_at: get(row, 14)?,
        locked_at: get(row, 15)?,
        lease_until: get(row, 16)?,
        deliveries: number(row, 17)?,
        results: number(row, 18)?,
        late_results: number(row, 22)?,
        result_bytes: number(row, 23)?,
        timeline: timeline_from(get(row, 19)?).ok_or(Damaged::Value(19, "timeline"))?,
        payload: get(row, 20)?,
        created_by: get(row, 21)?,
    })
}

/// The columns of a result, in the order that [`result`] reads them.
macro_rules! result_columns {
    () => {
        "r.id, r.ext_id, r.status_code, r.received_at, r.body_kind, r.body"
    };
}
pub(crate) use result_columns;

/// A result, from `result_columns!`.
pub(crate) fn result(row: &dyn Columns) -> Read<TaskResult> {
    result_at(row, 0)
}

/// The same from a later column on.
pub(crate) fn result_at(row: &dyn Columns, at: usize) -> Read<TaskResult> {
    let text = get(row, at + 5)?;
    let body = match get(row, at + 4)? {
        0_i64 => ResultBody::Empty,
        1 => ResultBody::Json(text),
        2 => ResultBody::Text(text),
        _ => return Err(Damaged::Value(at + 4, "kind of body")),
    };
    let result = NewResult { ext_id: get(row, at + 1)?, status_code: get(row, at + 2)?, body };
    Ok(TaskResult { id: get(row, at)?, result, received_at: get(row, at + 3)? })
}

/// A task that waits, from `id, seq, method, payload`.
pub(crate) fn waiting_task(row: &dyn Columns) -> Read<WaitingTask> {
    Ok(WaitingTask { id: get(row, 0)?, seq: get(row, 1)?, method: get(row, 2)?, payload: get(row, 3)? })
}

/// A lease that ran out, from `lease_until, seq, device_key`.
pub(crate) fn lapse(row: &dyn Columns) -> Read<Lapse> {
    Ok(Lapse { lease_until: get(row, 0)?, seq: get(row, 1)?, device: get(row, 2)? })
}

/// The number under which the kind of a body is stored.
pub(crate) fn body_kind(body: &ResultBody) -> i16 {
    match body {
        ResultBody::Empty => 0,
        ResultBody::Json(_) => 1,
        ResultBody::Text(_) => 2,
    }
}

/// A number of bytes as it is stored.
pub(crate) fn byte_count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A timeline as JSON: `[[at, status, "cause"], …]`.
pub(crate) fn timeline_text(timeline: &[Change]) -> String {
    let entries: Vec<_> =
        timeline.iter().map(|change| (change.at.0, change.to.number(), change.cause.name())).collect();
    serde_json::to_string(&entries).unwrap_or_default()
}

/// The timeline that [`timeline_text`] wrote.
fn timeline_from(text: &str) -> Option<Vec<Change>> {
    let entries: Vec<(i64, i64, &str)> = serde_json::from_str(text).ok()?;
    let change = |(at, to, cause): (i64, i64, &str)| {
        Some(Change { at: UnixMs(at), to: TaskStatus::from_number(to)?, cause: Cause::from_name(cause)? })
    };
    entries.into_iter().map(change).collect()
}

/// What an idempotency key was used for, from `request_digest, task_id, created_at`
/// from a column on.
pub(crate) fn idempotency_at(row: &dyn Columns, at: usize) -> Read<Idempotency> {
    let digest: &[u8] = get(row, at)?;
    let request_digest = digest.try_into().map_err(|_| Damaged::Value(at, "digest"))?;
    Ok(Idempotency { request_digest, task: get(row, at + 1)?, created_at: get(row, at + 2)? })
}

/// How many tasks are in a state, from `status, count`.
pub(crate) fn task_count(row: &dyn Columns) -> Read<TaskCount> {
    let status = TaskStatus::from_number(get(row, 0)?).unwrap_or(TaskStatus::Undefined);
    Ok(TaskCount { status, count: u64::try_from(get::<i64>(row, 1)?).unwrap_or(0) })
}
