//! What a transaction knows: what was remembered or fetched, as it is after the
//! jobs so far.

use std::collections::{HashMap, HashSet, VecDeque};

use covey_core::event::EventKey;
use covey_core::id::{CallerId, DeviceKey, OrgId, RecordNumber, TaskId};
use covey_core::port::ReadSet;
use covey_core::task::{Idempotency, Target, Task, TaskResult};

use crate::postgres::presence::CachedPresence;
use crate::postgres::twin::CachedTwin;
use crate::postgres::write::cross_group_cache::{CrossGroupCache, DeviceName, WrittenBy};

/// Where the database has a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere yet.
    Nowhere,
    /// In `tasks_open`.
    Open,
    /// In `tasks_done`.
    Done,
}

/// A task that this transaction has locked or made, or remembers.
pub(crate) struct CachedTask {
    /// As it is after the jobs so far.
    pub(crate) task: Task,
    pub(crate) place: Place,
    /// What must have written it last, if it was not looked at.
    pub(crate) written_by: Option<WrittenBy>,
    /// Whether this transaction has written it.
    pub(crate) is_written: bool,
    /// Whether it had results before this transaction.
    pub(crate) has_older_results: bool,
    /// Those that this transaction stored, oldest first.
    pub(crate) new_results: Vec<TaskResult>,
}

/// The best task of a device, as it was fetched.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Best {
    Task(TaskId),
    /// There is none but those that this transaction makes.
    None,
    /// There is one that another transaction holds.
    Held,
}

/// How many open tasks a device had when that was counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenCount {
    /// No more than the bound are counted.
    pub(crate) counted: i64,
    pub(crate) bound: i64,
}

impl OpenCount {
    /// The bound of one that was not counted now.
    pub(crate) const REMEMBERED: i64 = i64::MAX;
}

#[derive(Default)]
pub(crate) struct TransactionCache {
    pub(crate) tasks: HashMap<TaskId, CachedTask>,
    /// Those that were looked for and were not open.
    pub(crate) not_open: HashSet<TaskId>,
    pub(crate) best: HashMap<DeviceKey, Best>,
    /// The tasks that this transaction made for a device.
    pub(crate) made: HashMap<DeviceKey, Vec<TaskId>>,
    pub(crate) targets: HashMap<(OrgId, DeviceName), Option<Target>>,
    /// Whether a device was registered or retired.
    pub(crate) has_changed_devices: bool,
    pub(crate) open_counts: HashMap<DeviceKey, OpenCount>,
    /// By how much this transaction changed them.
    pub(crate) open_changes: HashMap<DeviceKey, i64>,
    pub(crate) idempotency: HashMap<(OrgId, String), Option<Idempotency>>,
    /// Whether events are stored, counting those that this transaction stores.
    pub(crate) events: HashMap<(DeviceKey, EventKey), bool>,
    /// How far callers have read; held, so nobody else changes it.
    pub(crate) event_offsets: HashMap<(CallerId, i64), RecordNumber>,
    /// Connections of devices; held.
    pub(crate) presences: HashMap<DeviceKey, CachedPresence>,
    /// Twins; held.
    pub(crate) twins: HashMap<DeviceKey, CachedTwin>,
    /// About how many bytes their values have.
    pub(crate) twin_bytes: usize,
    /// Numbers for new tasks, ascending.
    pub(crate) task_numbers: VecDeque<i64>,
    /// Numbers for new results, ascending.
    pub(crate) result_numbers: VecDeque<i64>,
}

impl TransactionCache {
    /// Remembers a task that was read and locked; what is known of it already
    /// is newer. Answers it as it is now.
    pub(crate) fn remember(&mut self, task: Task, place: Place, written_by: Option<WrittenBy>) -> &Task {
        let cached = self.tasks.entry(task.id).or_insert_with(|| CachedTask {
            has_older_results: task.results > 0,
            task,
            place,
            written_by,
            is_written: false,
            new_results: Vec::new(),
        });
        &cached.task
    }

    /// Takes out of the cache of earlier groups what a group needs of it.
    pub(crate) fn recall(&mut self, cross_group: &mut CrossGroupCache, reads: &ReadSet) {
        for (_, id) in &reads.tasks {
            if let Some((task, written_by)) = cross_group.take_task(*id) {
                self.remember(task, Place::Open, Some(written_by));
            }
        }
        for (org, device, _) in &reads.targets {
            let name = DeviceName::from(device);
            if let Some((target, counted)) = cross_group.target(*org, &name) {
                self.open_counts.insert(target.device, OpenCount { counted, bound: OpenCount::REMEMBERED });
                self.targets.insert((*org, name), Some(target.clone()));
            }
        }
        self.task_numbers = std::mem::take(&mut cross_group.task_numbers);
        self.result_numbers = std::mem::take(&mut cross_group.result_numbers);
    }

    /// Puts what is true after the commit into a cross_group.
    pub(crate) fn keep(self, cross_group: &mut CrossGroupCache, transaction: Option<WrittenBy>) {
        for (id, cached) in self.tasks {
            let written_by = if cached.is_written { transaction } else { cached.written_by };
            match written_by {
                Some(written_by) if cached.place == Place::Open => {
                    cross_group.put_task(cached.task, written_by)
                }
                _ if cached.is_written => cross_group.forget_task(id),
                _ => {}
            }
        }
        for (device, change) in &self.open_changes {
            cross_group.change_open_count(*device, *change);
        }
        for ((org, name), target) in self.targets {
            let Some(target) = target else { continue };
            let Some(count) = self.open_counts.get(&target.device) else { continue };
            // Counted to the end, or else it is not known how many there are.
            if count.counted < count.bound {
                let change = self.open_changes.get(&target.device).copied().unwrap_or(0);
                cross_group.put_target(org, name, target, count.counted + change);
            }
        }
        if self.has_changed_devices {
            cross_group.forget_targets();
        }
        cross_group.task_numbers = self.task_numbers;
        cross_group.result_numbers = self.result_numbers;
    }
}
