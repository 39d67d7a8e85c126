//! What an operation can read and write inside a transaction.

use crate::access::{ApiKey, KeyDigest, Rights};
use crate::device::{CertificateRecord, Device, Presence, Tag};
use crate::error::StorageFault;
use crate::id::{DeviceId, DeviceKey, OrgId, ResultId, Sn, TaskId, UnixMs};
use crate::port::{EventSteps, PresenceSteps, RecordSteps, TwinSteps, WebhookSteps};
use crate::retention::Kept;
use crate::task::{DeviceRef, NewResult, Target, Task, TaskResult};

/// The result of a step inside a transaction.
pub type TxResult<T> = Result<T, StorageFault>;

/// What an idempotency key was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The digest of the request that used it first.
    pub request_digest: [u8; 32],
    /// The task that this request made.
    pub task: TaskId,
    /// When that was.
    pub created_at: UnixMs,
}

/// A device that is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDevice {
    /// Its organisation.
    pub org: OrgId,
    /// Its number.
    pub device_id: DeviceId,
    /// Its serial number.
    pub sn: Sn,
    /// When it is registered.
    pub created_at: UnixMs,
    /// Its tags.
    pub tags: Vec<Tag>,
}

/// The steps. All of them see the writes made before them in the same transaction.
pub trait Transaction: RecordSteps + EventSteps + PresenceSteps + TwinSteps + WebhookSteps {
    /// The instant of this transaction.
    fn now(&self) -> UnixMs;

    /// A task of an organisation.
    fn task(&mut self, org: OrgId, id: TaskId) -> TxResult<Option<Task>>;
    /// The eligible task of a device that comes first in the selection order
    /// ([`Task::rank`], [`Task::is_eligible`]).
    fn task_best(&mut self, org: OrgId, device: DeviceKey) -> TxResult<Option<Task>>;
    /// Tasks of any organisation whose time ran out, soonest expiry first.
    fn tasks_overdue_of_every_org(&mut self, limit: u32) -> TxResult<Vec<Task>>;
    /// Whether a device has at least this many tasks that are not final.
    fn tasks_live_reach(&mut self, org: OrgId, device: DeviceKey, count: u32) -> TxResult<bool>;
    /// Stores a new task and sets its `seq`.
    fn task_insert(&mut self, task: &mut Task) -> TxResult<()>;
    /// Stores a task that was read in this transaction and has changed since.
    fn task_update(&mut self, task: &Task) -> TxResult<()>;

    /// The result of this task that equals the given one, if there is one.
    fn result_equal(&mut self, task: &Task, result: &NewResult) -> TxResult<Option<ResultId>>;
    /// Stores a result.
    fn result_insert(&mut self, task: &Task, result: &NewResult) -> TxResult<ResultId>;
    /// All results of a task, newest first.
    fn results(&mut self, task: &Task) -> TxResult<Vec<TaskResult>>;

    /// What an idempotency key of an organisation was used for.
    fn idempotency(&mut self, org: OrgId, key: &str) -> TxResult<Option<Idempotency>>;
    /// Remembers what a key is used for, in place of what it was used for before.
    fn idempotency_put(&mut self, org: OrgId, key: &str, entry: &Idempotency) -> TxResult<()>;
    /// Forgets keys of any organisation that were used before `before`; answers how many.
    fn idempotency_prune(&mut self, before: UnixMs, limit: u32) -> TxResult<usize>;

    /// The device that a caller names.
    fn device_target(&mut self, org: OrgId, device: &DeviceRef) -> TxResult<Option<Target>>;
    /// A device of an organisation.
    fn device(&mut self, org: OrgId, device_id: DeviceId) -> TxResult<Option<Device>>;
    /// Whether a serial number is taken, by whichever organisation: it is the
    /// name under which a device connects, so it is unique for all.
    fn sn_is_taken(&mut self, sn: &Sn) -> TxResult<bool>;
    /// The next number that no device of this organisation has or had.
    fn device_id_free(&mut self, org: OrgId) -> TxResult<DeviceId>;
    /// Stores a new device.
    fn device_insert(&mut self, device: &NewDevice) -> TxResult<DeviceKey>;
    /// Marks a device as retired and all of its certificates as revoked.
    fn device_retire(&mut self, device: DeviceKey) -> TxResult<()>;
    /// Sets a tag of a device; answers the tag's number.
    fn tag_put(&mut self, device: DeviceKey, tag: &Tag) -> TxResult<i64>;
    /// How many tags a device has beside the one of this name.
    fn tags_beside(&mut self, device: DeviceKey, tag: &str) -> TxResult<u32>;
    /// Remembers a certificate of a device.
    fn certificate_insert(&mut self, device: DeviceKey, certificate: &CertificateRecord) -> TxResult<()>;
    /// Sets a device's presence; answers whether it changed it. A connection
    /// that ended changes nothing once another session has taken its place.
    fn presence_put(&mut self, device: DeviceKey, presence: &Presence) -> TxResult<bool>;
    /// The organisation with this name, made if there is none.
    fn org_ensure(&mut self, name: &str) -> TxResult<OrgId>;
    /// Stores an API key's digest.
    fn api_key_insert(
        &mut self,
        org: OrgId,
        name: &str,
        rights: Rights,
        digest: &KeyDigest,
    ) -> TxResult<ApiKey>;
    /// Whether there is or was any API key. One that was revoked counts: the
    /// first key must not come to life again with the next start.
    fn api_key_exists(&mut self) -> TxResult<bool>;
    /// Revokes an API key; answers whether there was one.
    fn api_key_revoke(&mut self, id: i64) -> TxResult<bool>;

    /// Sets for how many days an organisation keeps something; none for as long as all.
    fn retention_put(&mut self, org: OrgId, kept: Kept, days: Option<u32>) -> TxResult<()>;
}
