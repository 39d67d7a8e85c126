//! The contract with devices as a plain list of tasks, written from the text of
//! device-rpc "What each step does" and "States", and slow on purpose.

use covey_core::id::{ResultId, TaskId};

pub const READY: u8 = 0;
pub const PENDING: u8 = 1;
pub const LOCK: u8 = 2;
pub const DONE: u8 = 3;
pub const EXPIRED: u8 = 4;
pub const DELETED: u8 = 5;
pub const FAILED: u8 = 6;

/// "default 60 s since the last sign of life of this task"
const LEASE_MS: i64 = 60_000;

/// A result: number, status code, body.
pub type Sent = (i64, i64, u8);

#[derive(Clone, Debug)]
pub struct ModelTask {
    pub id: TaskId,
    pub device: usize,
    pub priority: i64,
    pub push_only: bool,
    pub expires_at: i64,
    pub status: u8,
    pub last_sign_of_life: i64,
    /// Oldest first, each with the number it was given.
    pub results: Vec<(ResultId, Sent)>,
    pub late_results: u32,
    /// States with their instants.
    pub timeline: Vec<(i64, u8)>,
}

impl ModelTask {
    fn go(&mut self, status: u8, at: i64) {
        self.status = status;
        self.timeline.push((at, status));
    }

    pub fn is_final(&self) -> bool {
        self.status >= DONE
    }

    pub fn is_lapsed(&self, now: i64) -> bool {
        self.status == LOCK && now - self.last_sign_of_life >= LEASE_MS
    }

    /// "its READY and PENDING tasks", "such a task is also announced again"
    pub fn is_announceable(&self, now: i64) -> bool {
        self.status == READY || self.status == PENDING || self.is_lapsed(now)
    }

    fn give(&mut self, now: i64) {
        if self.status != LOCK {
            self.go(LOCK, now);
        }
        self.last_sign_of_life = now;
    }
}

/// What a result led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Finished {
    /// It is not this device's task.
    Unknown,
    /// An equal one was stored before, under this number.
    Repeated(ResultId),
    /// It is to be stored.
    New,
    /// The task is final and has its late results.
    Late,
}

/// How many results of a task are stored that come when it is final.
pub const LATE_RESULTS_MAX: u32 = 3;

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub now: i64,
    /// In the order of their creation.
    pub tasks: Vec<ModelTask>,
}

impl Model {
    pub fn create(&mut self, id: TaskId, device: usize, priority: i64, ttl_minutes: i64) {
        // "A task created with ttl 0 is push-only: never polled, expires 60 s after creation."
        let push_only = ttl_minutes == 0;
        let life_ms = if push_only { 60_000 } else { ttl_minutes * 60_000 };
        self.tasks.push(ModelTask {
            id,
            device,
            priority,
            push_only,
            expires_at: self.now + life_ms,
            status: READY,
            last_sign_of_life: self.now,
            results: Vec::new(),
            late_results: 0,
            timeline: vec![(self.now, READY)],
        });
    }

    fn own(&mut self, device: usize, id: TaskId) -> Option<&mut ModelTask> {
        // "Every step checks that the task belongs to the SN in the topic."
        self.tasks.iter_mut().find(|task| task.id == id && task.device == device)
    }

    /// "READY → PENDING. Anything else: no change." Answers whether it is known.
    pub fn ack(&mut self, device: usize, id: TaskId) -> bool {
        let now = self.now;
        let Some(task) = self.own(device, id) else { return false };
        if task.status == READY {
            task.go(PENDING, now);
        }
        true
    }

    /// "READY, PENDING or LOCK → LOCK"
    pub fn request(&mut self, device: usize, id: TaskId) -> Option<TaskId> {
        let now = self.now;
        let task = self.own(device, id).filter(|task| !task.is_final())?;
        task.give(now);
        Some(id)
    }

    /// "priority descending, then soonest expiry, then oldest"
    pub fn order<'m>(tasks: impl Iterator<Item = &'m ModelTask>) -> Vec<&'m ModelTask> {
        let mut tasks: Vec<_> = tasks.collect();
        // Stable, and the list is in the order of creation.
        tasks.sort_by(|a, b| b.priority.cmp(&a.priority).then(a.expires_at.cmp(&b.expires_at)));
        tasks
    }

    pub fn poll(&mut self, device: usize) -> Option<TaskId> {
        let now = self.now;
        let mine = self.tasks.iter().filter(|task| task.device == device);
        let eligible = mine.filter(|task| task.is_announceable(now) && !task.push_only);
        let best = Self::order(eligible).first()?.id;
        self.request(device, best)
    }

    /// What a result leads to, before anything is stored.
    pub fn finish(&mut self, device: usize, id: TaskId, sent: Sent) -> Finished {
        let now = self.now;
        let Some(task) = self.own(device, id) else { return Finished::Unknown };
        let (_, status_code, _) = sent;
        let equal = task.results.iter().find(|(_, known)| *known == sent).map(|(number, _)| *number);
        if !task.is_final() {
            // "206 = a partial result: the task stays in LOCK and its lease starts anew."
            if status_code == 206 {
                task.give(now);
            } else if equal.is_none() {
                task.go(if status_code < 400 { DONE } else { FAILED }, now);
            }
        } else if equal.is_none() {
            // "the seventeenth late res of a task and those after it are not stored"; here it is an earlier one.
            if task.late_results == LATE_RESULTS_MAX {
                return Finished::Late;
            }
            task.late_results += 1;
        }
        equal.map_or(Finished::New, Finished::Repeated)
    }

    pub fn stored(&mut self, id: TaskId, number: ResultId, sent: Sent) {
        let task = self.tasks.iter_mut().find(|task| task.id == id).unwrap();
        task.results.push((number, sent));
    }

    /// "an `rsp` that cannot fit ends the task as FAILED". Answers whether it is known.
    pub fn too_large(&mut self, device: usize, id: TaskId) -> bool {
        let now = self.now;
        let Some(task) = self.own(device, id) else { return false };
        if !task.is_final() {
            task.go(FAILED, now);
        }
        true
    }

    /// "any state → DELETED"
    pub fn delete(&mut self, id: TaskId) {
        let now = self.now;
        let task = self.tasks.iter_mut().find(|task| task.id == id).unwrap();
        if task.status != DELETED {
            task.go(DELETED, now);
        }
    }

    /// "READY, PENDING, LOCK → EXPIRED at the instant."
    pub fn pass_ms(&mut self, ms: i64) {
        self.now += ms;
        for task in &mut self.tasks {
            if !task.is_final() && task.expires_at <= self.now {
                task.go(EXPIRED, task.expires_at);
            }
        }
    }
}
