//! Tasks that the server itself hands to devices which know nothing of tasks: nodes and microcontrollers.

use std::sync::Arc;

use crate::id::{OrgId, TaskId};
use crate::limits::Limits;
use crate::operation::Abort;
use crate::port::Transaction;
use crate::task::{NewResult, ResultBody, Task, TaskDetail, Verdict, ended_with, receive, record_changes};

/// Why a device cannot do a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// On the scale of HTTP.
    pub(crate) status_code: i64,
    /// In words for whoever made the task.
    pub(crate) why: &'static str,
}

/// An open task, unless somebody else is about to change it.
pub(crate) fn held(tx: &mut dyn Transaction, org: OrgId, id: TaskId) -> Result<Option<Task>, Abort> {
    Ok(tx.tasks_hold(org, &[id])?.into_iter().next())
}

/// Gives a task that is held to its device, for the first time or again; none if its time is over.
pub(crate) fn hand_out(
    tx: &mut dyn Transaction,
    mut task: Task,
    limits: &Limits,
) -> Result<Option<Task>, Abort> {
    let (now, told) = (tx.now(), task.timeline.len());
    if task.take(limits.lease_ms, now) == Verdict::Unchanged {
        return Ok(None);
    }
    tx.task_update(&task)?;
    record_changes(tx, &task, told)?;
    Ok(Some(task))
}

/// Ends a task that is held and that its device cannot do, as if the device had said so; answers it, and how many bytes
/// the body has that says why.
pub(crate) fn refuse(
    tx: &mut dyn Transaction,
    mut task: Task,
    refused: Refused,
    limits: &Limits,
) -> Result<Option<(Arc<TaskDetail>, usize)>, Abort> {
    if !task.is_live(tx.now()) {
        return Ok(None);
    }
    let Refused { status_code, why } = refused;
    let result = NewResult { ext_id: 0, status_code, body: ResultBody::Text(Arc::from(why)) };
    let result_id = receive(tx, &mut task, &result, limits.lease_ms)?;
    let detail = ended_with(tx, task, result_id, &result)?;
    Ok(Some((detail, why.len())))
}
