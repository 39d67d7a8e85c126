//! What a transaction knows: what was fetched, as it is after the jobs so far.

use std::collections::{HashMap, HashSet, VecDeque};

use covey_core::id::{DeviceKey, OrgId, TaskId};
use covey_core::port::Idempotency;
use covey_core::task::{DeviceRef, Target, Task, TaskResult};

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

/// A task that this transaction has locked or made.
pub(super) struct KnownTask {
    /// As it is after the jobs so far.
    pub(super) task: Task,
    pub(super) place: Place,
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
pub(super) enum Name {
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

#[derive(Default)]
pub(super) struct Known {
    pub(super) tasks: HashMap<TaskId, KnownTask>,
    /// Those that were looked for and were not open.
    pub(super) not_open: HashSet<TaskId>,
    pub(super) best: HashMap<DeviceKey, Best>,
    /// The tasks that this transaction made for a device.
    pub(super) made: HashMap<DeviceKey, Vec<TaskId>>,
    pub(super) targets: HashMap<(OrgId, Name), Option<Target>>,
    pub(super) open_counts: HashMap<DeviceKey, OpenCount>,
    /// By how much this transaction changed them.
    pub(super) open_changes: HashMap<DeviceKey, i64>,
    pub(super) idempotency: HashMap<(OrgId, String), Option<Idempotency>>,
    /// Numbers for new tasks, ascending.
    pub(super) task_numbers: VecDeque<i64>,
    /// Numbers for new results, ascending.
    pub(super) result_numbers: VecDeque<i64>,
}

impl Known {
    /// Remembers a task that was read and locked; what is known of it already
    /// is newer. Answers it as it is now.
    pub(super) fn remember(&mut self, task: Task, place: Place) -> &Task {
        let known = self.tasks.entry(task.id).or_insert_with(|| KnownTask {
            has_older_results: task.results > 0,
            task,
            place,
            new_results: Vec::new(),
        });
        &known.task
    }
}
