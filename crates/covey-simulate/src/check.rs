//! What must hold at the end of a run, when every task has had its time.

use std::collections::{BTreeMap, BTreeSet};

use covey_core::id::TaskId;
use covey_core::task::{Cause, Task, TaskDetail, TaskStatus};
use uuid::Uuid;

use crate::device::{Made, Report, serial_number};
use crate::server::task_number;
use crate::trace::Trace;

/// Holds all tasks, by their devices, to what the devices say.
pub fn check(trace: &Trace, accepted: &[TaskId], tasks: &[(u32, TaskDetail)], reports: &[Report]) {
    let mut found: BTreeSet<TaskId> = tasks.iter().map(|(_, detail)| detail.task.id).collect();
    for task in accepted {
        if !found.remove(task) {
            trace.broken(0, "an accepted task is there", task.to_string());
        }
    }
    let mut by_device: BTreeMap<u32, Vec<&TaskDetail>> = BTreeMap::new();
    for (device, detail) in tasks {
        by_device.entry(*device).or_default().push(detail);
        lawful(trace, *device, &detail.task);
        if detail.task.sn.as_str() != serial_number(*device) {
            trace.broken(*device, "a task is its device's", detail.task.id.to_string());
        }
    }
    for report in reports {
        let tasks = by_device.get(&report.device).map_or(&[][..], Vec::as_slice);
        results(trace, report, tasks);
        order(trace, report, tasks);
    }
}

/// That a task went from state to state as the contract says, and has come to its end (docs/device-rpc.md
/// "States", docs/tasks.md).
fn lawful(trace: &Trace, device: u32, task: &Task) {
    let broken = |what: &str| {
        trace.broken(device, "a task goes from state to state lawfully", format!("{what}: {task:?}"));
    };
    let Some(first) = task.timeline.first() else { return broken("no timeline") };
    if (first.to, first.cause, first.at) != (TaskStatus::Ready, Cause::Created, task.created_at) {
        broken("it does not begin as READY");
    }
    for step in task.timeline.windows(2) {
        let [from, to] = step else { continue };
        let is_lawful = match to.to {
            TaskStatus::Pending => from.to == TaskStatus::Ready,
            TaskStatus::Lock => matches!(from.to, TaskStatus::Ready | TaskStatus::Pending),
            TaskStatus::Done | TaskStatus::Failed | TaskStatus::Expired => !from.to.is_final(),
            TaskStatus::Deleted => from.to != TaskStatus::Deleted,
            TaskStatus::Ready | TaskStatus::Undefined => false,
        };
        if !is_lawful || to.at < from.at {
            broken("a step that may not be");
        }
        if to.to == TaskStatus::Expired && to.at != task.expires_at {
            broken("it expired at another instant than its own");
        }
        if matches!(to.to, TaskStatus::Done | TaskStatus::Lock) && to.at >= task.expires_at {
            broken("it went on after its time");
        }
    }
    if task.timeline.last().map(|last| last.to) != Some(task.status) {
        broken("its state is not the last of its timeline");
    }
    if !task.status.is_final() {
        broken("it has not come to its end");
    }
}

/// That every result of which its device has a proof is stored once, in the order in which it was made,
/// and nothing else is.
fn results(trace: &Trace, report: &Report, tasks: &[&TaskDetail]) {
    let device = report.device;
    let mut stored: BTreeMap<(Uuid, i64), usize> = BTreeMap::new();
    let mut made: BTreeMap<(Uuid, i64), &Made> = BTreeMap::new();
    for result in &report.results {
        made.insert((result.task, result.ext_id), result);
    }
    for TaskDetail { task, results, .. } in tasks {
        for stored_result in results {
            let result = &stored_result.result;
            let key = (task.id.0, result.ext_id);
            *stored.entry(key).or_default() += 1;
            let known = made.get(&key).filter(|made| made.was_sent);
            let is_known = known.is_some_and(|made| {
                (made.status_code, made.body.as_str()) == (result.status_code, result.body.text())
            });
            if !is_known {
                trace.broken(
                    device,
                    "a stored result is one that its device sent",
                    format!("{stored_result:?}"),
                );
            }
        }
        if results.len() != task.results as usize {
            trace.broken(device, "a task knows how many results it has", format!("{task:?}"));
        }
        if task.status == TaskStatus::Done && !results.iter().any(|result| result.result.status_code < 400) {
            trace.broken(device, "a task is done by a result", format!("{task:?}"));
        }
    }
    for ((task, ext_id), result) in &made {
        let count = stored.get(&(*task, *ext_id)).copied().unwrap_or_default();
        if count > 1 || (result.is_proved && count != 1) {
            let details = format!("task {} is stored {count} times: {result:?}", task_number(*task));
            trace.broken(device, "a result with a proof is stored once", details);
        }
    }
}

/// That no task was taken by a poll while a better one could be taken (docs/device-rpc.md "req, poll": highest
/// priority, then soonest expiry, then oldest).
fn order(trace: &Trace, report: &Report, tasks: &[&TaskDetail]) {
    let named: BTreeSet<Uuid> = report.named.iter().copied().collect();
    let taken_at = |task: &Task| {
        let mut taken = task.timeline.iter().filter(|change| change.cause == Cause::Taken);
        taken.next().map(|change| change.at)
    };
    for TaskDetail { task, .. } in tasks {
        let Some(at) = taken_at(task).filter(|_| !named.contains(&task.id.0)) else { continue };
        for TaskDetail { task: other, .. } in tasks {
            // When it was no longer free: taken, or final.
            let left_at = other
                .timeline
                .iter()
                .find(|change| !matches!(change.to, TaskStatus::Ready | TaskStatus::Pending))
                .map(|change| change.at);
            let was_free = other.created_at < at && left_at.is_none_or(|left_at| left_at > at);
            if was_free && !other.push_only && other.expires_at > at && other.rank() < task.rank() {
                let details =
                    format!("{} was taken before {}", task_number(task.id.0), task_number(other.id.0));
                trace.broken(
                    report.device,
                    "a poll gets the best task",
                    format!("{details}: {task:?} {other:?}"),
                );
            }
        }
    }
}
