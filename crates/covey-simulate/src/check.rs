//! What must hold at the end of a run, when every task has had its time.

use std::collections::{BTreeMap, BTreeSet};

use covey_core::event::DeviceEvent;
use covey_core::id::TaskId;
use covey_core::task::{Cause, Task, TaskDetail, TaskStatus};
use covey_core::twin::Twin;
use serde::Deserialize;
use tokio::time::Instant;
use uuid::Uuid;

use crate::application::Wish;
use crate::device::{Made, Report, serial_number};
use crate::server::task_number;
use crate::trace::Trace;

/// All that there is at the end.
pub struct Found {
    /// The tasks that applications were told of as accepted.
    pub accepted: Vec<TaskId>,
    /// What they were told of as wanted.
    pub wishes: Vec<Wish>,
    /// All tasks, with their devices.
    pub tasks: Vec<(u32, TaskDetail)>,
    /// All events of devices, in the order in which they were stored.
    pub events: Vec<DeviceEvent>,
    /// All twins.
    pub twins: Vec<Twin>,
    /// When servers were killed.
    pub kills: Vec<Instant>,
}

/// What was seen on the way.
#[derive(Default)]
pub struct Looked {
    /// How many wills were published.
    pub wills: u64,
}

/// Holds all that there is, by its devices, to what the devices say.
pub fn check(trace: &Trace, found: &Found, reports: &[Report]) -> Looked {
    let tasks: BTreeSet<TaskId> = found.tasks.iter().map(|(_, detail)| detail.task.id).collect();
    for task in found.accepted.iter().filter(|task| !tasks.contains(task)) {
        trace.broken(0, "an accepted task is there", task.to_string());
    }
    let mut by_device: BTreeMap<u32, Vec<&TaskDetail>> = BTreeMap::new();
    for (device, detail) in &found.tasks {
        by_device.entry(*device).or_default().push(detail);
        lawful(trace, *device, &detail.task);
        if detail.task.sn.as_str() != serial_number(*device) {
            trace.broken(*device, "a task is its device's", detail.task.id.to_string());
        }
    }
    let mut events: BTreeMap<String, Vec<&DeviceEvent>> = BTreeMap::new();
    for event in &found.events {
        events.entry(event.sn.as_str().to_owned()).or_default().push(event);
    }

    let twins: BTreeMap<&str, &Twin> =
        found.twins.iter().map(|twin| (twin.device.sn.as_str(), twin)).collect();
    let mut wishes: BTreeMap<u32, Vec<&Wish>> = BTreeMap::new();
    for wish in &found.wishes {
        wishes.entry(wish.device).or_default().push(wish);
    }
    let mut looked = Looked::default();
    for report in reports {
        let tasks = by_device.get(&report.device).map_or(&[][..], Vec::as_slice);
        results(trace, report, tasks);
        order(trace, report, tasks);
        let sn = serial_number(report.device);
        let events = events.remove(&sn).unwrap_or_default();
        self::events(trace, report, &events);
        looked.wills += wills(trace, report, &events, &found.kills);
        if let Some(twin) = twins.get(sn.as_str()) {
            let wishes = wishes.get(&report.device).map_or(&[][..], Vec::as_slice);
            self::twin(trace, report, &events, (twin, wishes), tasks);
        }
    }
    if let Some(sn) = events.keys().next() {
        trace.broken(0, "an event is that of a device", sn.clone());
    }
    looked
}

/// That every event which went out with QoS 1 or 2 is stored once, every other one at most once, in the order in which
/// they happened, and nothing that the device did not say.
fn events(trace: &Trace, report: &Report, stored: &[&DeviceEvent]) {
    let device = report.device;
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    let mut last = 0;
    for event in stored.iter().filter(|event| event.key.dev_event_id != 0) {
        let number = event.key.dev_event_id;
        *counts.entry(number).or_default() += 1;
        let told = report.events.get((number as usize).wrapping_sub(1));
        let is_his = told.is_some_and(|told| {
            let at_ms = i64::try_from(told.at_s * 1_000).unwrap_or_default();
            told.was_sent && *event.payload == *told.body && event.key.dev_timestamp.0 == at_ms
        });
        if !is_his {
            trace.broken(device, "a stored event is one that its device sent", format!("{event:?} {told:?}"));
        }
        // Those that may overtake each other by the device's own doing are left out.
        if report.are_events_sure && told.is_some_and(|told| !told.was_refused) {
            if number < last {
                let details = format!("{number} after {last}");
                trace.broken(device, "events are stored in the order in which they happened", details);
            }
            last = last.max(number);
        }
    }
    for told in &report.events {
        let count = counts.get(&told.number).copied().unwrap_or_default();
        let is_due = told.is_proved || (report.are_events_sure && told.was_sent);
        if count > 1 || (is_due && count != 1) {
            let details = format!("it is stored {count} times: {told:?}");
            trace.broken(device, "an event that was acknowledged is stored once", details);
        }
        if report.are_events_sure && !told.was_sent {
            trace.broken(device, "what was begun is sent once everything works", format!("{told:?}"));
        }
    }
}

/// That wills were published which were due, once, and no others (MQTT 5 §3.1.2.5). Answers how many were.
fn wills(trace: &Trace, report: &Report, stored: &[&DeviceEvent], kills: &[Instant]) -> u64 {
    #[derive(Deserialize)]
    struct Body {
        will: u64,
    }
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    for event in stored.iter().filter(|event| event.key.dev_event_id == 0) {
        match serde_json::from_str::<Body>(&event.payload) {
            Ok(Body { will }) => *counts.entry(will).or_default() += 1,
            Err(_) => {
                let rule = "a stored event is one that its device sent";
                trace.broken(report.device, rule, format!("{event:?}"));
            }
        }
    }
    let all = counts.values().sum();
    for will in &report.wills {
        let count = counts.remove(&will.number).unwrap_or_default();
        let is_wrong = match will.must_be_published(kills) {
            Some(true) => count != 1,
            Some(false) => count != 0,
            None => count > 1,
        };
        if is_wrong {
            let details = format!("{count} times, {will:?}");
            trace.broken(report.device, "a will is published when it is due, and once", details);
        }
    }
    if let Some((number, _)) = counts.into_iter().next() {
        trace.broken(report.device, "a will is one of the device's", number.to_string());
    }
    all
}

/// That a twin says what the device reported last, and wants what was wanted last.
fn twin(
    trace: &Trace,
    report: &Report,
    stored: &[&DeviceEvent],
    (twin, wishes): (&Twin, &[&Wish]),
    tasks: &[&TaskDetail],
) {
    let device = report.device;
    let mut reported: BTreeMap<&str, u32> = BTreeMap::new();
    for event in stored {
        let number = event.key.dev_event_id;
        let told = report.events.get((number as usize).wrapping_sub(1));
        if let Some(resource) = told.and_then(|told| told.resource) {
            reported.insert(resource, number);
        }
    }
    for known in &twin.resources {
        let value = known.reported.as_ref().and_then(|reported| reported.value.as_deref());
        let last = reported.remove(known.name.as_str()).map(|number| number.to_string());
        if value != last.as_deref() {
            let details = format!("{}: {value:?}, the last event said {last:?}", known.name);
            trace.broken(device, "a twin says what its device reported last", details);
        }
        let wanted = known.desired.as_ref();
        if let Some(wanted) = wanted
            && !tasks.iter().any(|detail| detail.task.id == wanted.task)
        {
            trace.broken(device, "what is wanted has its task", format!("{wanted:?}"));
        }
    }
    if let Some((resource, number)) = reported.into_iter().next() {
        trace.broken(device, "a twin says what its device reported last", format!("{resource}: {number}"));
    }
    for wish in wishes {
        let known = twin.resources.iter().find(|known| known.name == wish.resource);
        let wanted = known.and_then(|known| known.desired.as_ref());
        let is_there = wanted.is_some_and(|wanted| {
            wanted.version > wish.version || (wanted.version == wish.version && *wanted.value == *wish.value)
        });
        if !is_there {
            trace.broken(device, "what was wanted last is wanted", format!("{wish:?} {wanted:?}"));
        }
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
