//! Bounds of the domain, each with a name and a unit.

/// Limits that an operator may set. The defaults are those of the contracts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a taken task stays with its device after the last sign of
    /// life, in milliseconds (device-rpc "req, poll").
    /// Limit for each task, set by `--lease-seconds`: it is given out again.
    pub lease_ms: i64,
    /// How long a task that was created with ttl 0 lives, in milliseconds
    /// (device-rpc "expiry").
    /// Limit for each task with ttl 0: it expires.
    pub push_only_ms: i64,
    /// How many announcements of a device may be unanswered at a time
    /// (device-rpc "device connects").
    /// Limit for each device, set by `--announcements-max`: further tasks are announced as earlier ones are answered.
    pub announcements_max: u32,
    /// How many results a task may have.
    /// Limit for each task: further partial results are refused with 0x97; one that ends the task is taken.
    pub results_per_task_max: u32,
    /// How many bytes the bodies of a task's results may have in all.
    /// Limit for each task: further partial results are refused with 0x97; one that ends the task is taken.
    pub result_bytes_per_task_max: u64,
    /// How many results of a task are stored that come when it is final.
    /// Limit for each task: 0x97, and a `cmt` that lets the device stop.
    pub late_results_per_task_max: u32,
    /// How much a device may keep, in bytes; 0 for as much as there is room for.
    /// Limit for each device, set by `--device-bytes-max`: 429 to its tasks, 0x97 to its events.
    pub device_bytes_max: u64,
    /// How much an organisation may keep, in bytes; 0 for as much as there is room for.
    /// Limit for each organisation, set by `--organisation-bytes-max`: 429 to what is new, 0x97 to its devices' events.
    pub org_bytes_max: u64,
    /// How many tasks that are not final a device may have.
    /// Limit for each device, set by `--open-tasks-max`: 429.
    pub live_tasks_per_device_max: u32,
    /// How long an idempotency key is remembered, in milliseconds
    /// (rest-api "Tasks").
    /// Limit for each Idempotency-Key: it is forgotten.
    pub idempotency_ms: i64,
    /// How many bytes of changes may wait for all streams together.
    /// Limit for the server, set by `--stream-bytes-max`: the stream with most is cut off; it goes on from its cursor.
    pub stream_bytes_max: usize,
    /// How long after its end a certificate is still good for its own renewal, in milliseconds.
    /// Limit for each device, set by `--renew-expired-days`: it must be registered anew.
    pub renew_expired_ms_max: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lease_ms: 60_000,
            push_only_ms: 60_000,
            announcements_max: 16,
            results_per_task_max: 10_000,
            result_bytes_per_task_max: 16 * 1024 * 1024,
            late_results_per_task_max: 16,
            device_bytes_max: 16 << 30,
            org_bytes_max: 0,
            live_tasks_per_device_max: 10_000,
            idempotency_ms: 24 * 3_600_000,
            stream_bytes_max: 64 * 1024 * 1024,
            renew_expired_ms_max: 30 * 24 * 3_600_000,
        }
    }
}
