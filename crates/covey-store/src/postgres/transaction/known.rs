//! What a transaction knows: what was remembered or fetched, as it is after the
//! jobs so far.

use std::collections::{HashMap, HashSet, VecDeque};

use covey_core::event::EventKey;
use covey_core::id::{CallerId, DeviceKey, OrgId, RecordNumber, TaskId};
use covey_core::port::Needs;
use covey_core::task::{DeviceRef, Idempotency, Target, Task, TaskResult};

use crate::postgres::memory::{Memory, WrittenBy};
use crate::postgres::transaction::presence::KnownPresence;
use crate::postgres::transaction::twin::KnownTwin;

/// Where the database has a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere yet.
    Nowhere,
    /// In `tasks_open`.
    Open,
    /// In `tasks_done`.
    Done,
}

/// A task that this transaction has locked or made, or remembers.
pub(super) struct KnownTask {
    /// As it is after the jobs so far.
    pub(super) task: Task,
    pub(super) place: Place,
    /// What must have written it last, if it was not looked at.
    pub(super) written_by: Option<WrittenBy>,
    /// Whether this transaction has written it.
    pub(super) is_written: bool,
    /// Whether it had results before this transaction.
    pub(super) has_older_results: bool,
    /// Those that this transaction stored, oldest first.
    pub(super) new_results: Vec<TaskResult>,
}

/// The best task of a device, as it was fetched.
#[derive(Clone, Copy, Debug)]
pub(super) enum Best {
    Task(TaskId),
    /// There is none but those that this transaction makes.
    None,
    /// There is one that another transaction holds.
    Held,
}

/// A device as a caller names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::postgres) enum Name {
    Id(i64),
    Sn(String),
}

impl From<&DeviceRef> for Name {
    fn from(device: &DeviceRef) -> Self {
        match device {
            DeviceRef::Id(id) => Self::Id(id.0),
            DeviceRef::Sn(sn) => Self::Sn(sn.as_str().to_owned()),
        }
    }
}

/// How many open tasks a device had when that was counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenCount {
    /// No more than the bound are counted.
    pub(super) counted: i64,
    pub(super) bound: i64,
}

impl OpenCount {
    /// The bound of one that was not counted now.
    pub(super) const REMEMBERED: i64 = i64::MAX;
}

#[derive(Default)]
pub(super) struct Known {
    pub(super) tasks: HashMap<TaskId, KnownTask>,
    /// Those that were looked for and were not open.
    pub(super) not_open: HashSet<TaskId>,
    pub(super) best: HashMap<DeviceKey, Best>,
    /// The tasks that this transaction made for a device.
    pub(super) made: HashMap<DeviceKey, Vec<TaskId>>,
    pub(super) targets: HashMap<(OrgId, Name), Option<Target>>,
    /// Whether a device was registered or retired.
    pub(super) has_changed_devices: bool,
    pub(super) open_counts: HashMap<DeviceKey, OpenCount>,
    /// By how much this transaction changed them.
    pub(super) open_changes: HashMap<DeviceKey, i64>,
    pub(super) idempotency: HashMap<(OrgId, String), Option<Idempotency>>,
    /// Whether events are stored, counting those that this transaction stores.
    pub(super) events: HashMap<(DeviceKey, EventKey), bool>,
    /// How far callers have read; held, so nobody else changes it.
    pub(super) event_offsets: HashMap<(CallerId, i64), RecordNumber>,
    /// Connections of devices; held.
    pub(super) presences: HashMap<DeviceKey, KnownPresence>,
    /// Twins; held.
    pub(super) twins: HashMap<DeviceKey, KnownTwin>,
    /// About how many bytes their values have.
    pub(super) twin_bytes: usize,
    /// Numbers for new tasks, ascending.
    pub(super) task_numbers: VecDeque<i64>,
    /// Numbers for new results, ascending.
    pub(super) result_numbers: VecDeque<i64>,
}

impl Known {
    /// Remembers a task that was read and locked; what is known of it already
    /// is newer. Answers it as it is now.
    pub(super) fn remember(&mut self, task: Task, place: Place, written_by: Option<WrittenBy>) -> &Task {
        let known = self.tasks.entry(task.id).or_insert_with(|| KnownTask {
            has_older_results: task.results > 0,
            task,
            place,
            written_by,
            is_written: false,
            new_results: Vec::new(),
        });
        &known.task
    }

    /// Takes out of a memory what a group needs of it.
    pub(super) fn recall(&mut self, memory: &mut Memory, needs: &Needs) {
        for (_, id) in &needs.tasks {
            if let Some((task, written_by)) = memory.take_task(*id) {
                self.remember(task, Place::Open, Some(written_by));
            }
        }
        for (org, device, _) in &needs.targets {
            let name = Name::from(device);
            if let Some((target, counted)) = memory.target(*org, &name) {
                self.open_counts.insert(target.device, OpenCount { counted, bound: OpenCount::REMEMBERED });
                self.targets.insert((*org, name), Some(target.clone()));
            }
        }
        self.task_numbers = std::mem::take(&mut memory.task_numbers);
        self.result_numbers = std::mem::take(&mut memory.result_numbers);
    }

    /// Puts what is true after the commit into a memory.
    pub(super) fn keep(self, memory: &mut Memory, transaction: Option<WrittenBy>) {
        for (id, known) in self.tasks {
            let written_by = if known.is_written { transaction } else { known.written_by };
            match written_by {
                Some(written_by) if known.place == Place::Open => memory.put_task(known.task, written_by),
                _ if known.is_written => memory.forget_task(id),
                _ => {}
            }
        }
        for (device, change) in &self.open_changes {
            memory.change_open_count(*device, *change);
        }
        for ((org, name), target) in self.targets {
            let Some(target) = target else { continue };
            let Some(count) = self.open_counts.get(&target.device) else { continue };
            // Counted to the end, or else it is not known how many there are.
            if count.counted < count.bound {
                let change = self.open_changes.get(&target.device).copied().unwrap_or(0);
                memory.put_target(org, name, target, count.counted + change);
            }
        }
        if self.has_changed_devices {
            memory.forget_targets();
        }
        memory.task_numbers = self.task_numbers;
        memory.result_numbers = self.result_numbers;
    }
}
