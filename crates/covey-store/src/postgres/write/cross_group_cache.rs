//! What a writer remembers from one group to the next, so that most groups
//! need not look before they write: their only trip is the one that commits.
//!
//! Only while this server is alone on its database: others change rows too. What
//! is remembered of a task is still a guess. It goes with the number of the
//! transaction that wrote it (`xmin`), and a write of a guess that turns out
//! wrong undoes the transaction; the group is then run again without this cache.

use std::collections::{HashMap, VecDeque};

use covey_core::id::{DeviceKey, OrgId, TaskId};
use covey_core::task::{DeviceRef, Target, Task};

/// How many open tasks are remembered, at most. Those that wait for a device
/// that is away fill the cache; then it is emptied, and costs a look each.
const TASKS_MAX: usize = 20_000;
/// How much their payloads may take.
const PAYLOAD_BYTES_MAX: usize = 32 * 1_048_576;
/// How many devices are remembered, at most.
const TARGETS_MAX: usize = 50_000;

/// The number of the transaction that wrote a row, as its `xmin` has it.
pub(crate) type WrittenBy = i64;

/// A device as a caller names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum DeviceName {
    Id(i64),
    Sn(String),
}

impl From<&DeviceRef> for DeviceName {
    fn from(device: &DeviceRef) -> Self {
        match device {
            DeviceRef::Id(id) => Self::Id(id.0),
            DeviceRef::Sn(sn) => Self::Sn(sn.as_str().to_owned()),
        }
    }
}

#[derive(Default)]
pub(crate) struct CrossGroupCache {
    tasks: HashMap<TaskId, (Task, WrittenBy)>,
    payload_bytes: usize,
    targets: HashMap<(OrgId, DeviceName), Target>,
    /// How many open tasks a device has.
    open_counts: HashMap<DeviceKey, i64>,
    /// Numbers for new tasks, ascending.
    pub(crate) task_numbers: VecDeque<i64>,
    /// Numbers for new results, ascending.
    pub(crate) result_numbers: VecDeque<i64>,
}

impl CrossGroupCache {
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A task that is open and that nobody else has changed, it seems. It is
    /// forgotten until it is put back.
    pub(crate) fn take_task(&mut self, id: TaskId) -> Option<(Task, WrittenBy)> {
        let found = self.tasks.remove(&id)?;
        self.payload_bytes -= payload_bytes(&found.0);
        Some(found)
    }

    pub(crate) fn put_task(&mut self, task: Task, written_by: WrittenBy) {
        self.forget_task(task.id);
        let more_bytes = payload_bytes(&task);
        if self.tasks.len() >= TASKS_MAX || self.payload_bytes + more_bytes > PAYLOAD_BYTES_MAX {
            self.tasks.clear();
            self.payload_bytes = 0;
        }
        self.payload_bytes += more_bytes;
        self.tasks.insert(task.id, (task, written_by));
    }

    pub(crate) fn forget_task(&mut self, id: TaskId) {
        self.take_task(id);
    }

    /// A device, and how many open tasks it has.
    pub(crate) fn target(&self, org: OrgId, name: &DeviceName) -> Option<(&Target, i64)> {
        let target = self.targets.get(&(org, name.clone()))?;
        Some((target, *self.open_counts.get(&target.device)?))
    }

    pub(crate) fn put_target(&mut self, org: OrgId, name: DeviceName, target: Target, open_count: i64) {
        if self.targets.len() >= TARGETS_MAX {
            self.forget_targets();
        }
        self.open_counts.insert(target.device, open_count);
        self.targets.insert((org, name), target);
    }

    pub(crate) fn change_open_count(&mut self, device: DeviceKey, change: i64) {
        if let Some(count) = self.open_counts.get_mut(&device) {
            *count += change;
        }
    }

    /// A device was registered or retired.
    pub(crate) fn forget_targets(&mut self) {
        self.targets.clear();
        self.open_counts.clear();
    }
}

fn payload_bytes(task: &Task) -> usize {
    task.payload.as_ref().map_or(0, |payload| payload.len())
}
