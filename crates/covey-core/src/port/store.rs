//! The port to the store: jobs that write, and reads.

use crate::access::{ApiKey, Caller, KeyDigest};
use crate::device::{Device, DeviceFilter, DeviceIdentity};
use crate::error::{Result, StorageFault};
use crate::id::{DeviceKey, Sn, TaskId, UnixMs};
use crate::port::{
    BoxFuture, EventReader, Needs, PresenceReader, RecordReader, Transaction, TwinReader, WebhookReader,
};
use crate::retention::{OrgRetention, Prune, Pruned};
use crate::task::{Task, TaskDetail, TaskFilter, TaskStatus};

/// A unit of work that the store runs inside a transaction of its choosing.
///
/// A store runs many jobs in one transaction and commits once; then it settles
/// each. When a transaction fails as a whole, its jobs may be run again.
pub trait Job: Send {
    /// Adds what [`run`](Self::run) will ask for.
    fn needs(&self, _needs: &mut Needs) {}

    /// Does the work and keeps the answer.
    ///
    /// # Errors
    /// Only a fault of the storage; a refusal is an answer like any other. A job
    /// that refuses must not have written.
    fn run(&mut self, tx: &mut dyn Transaction) -> Result<(), StorageFault>;

    /// Hands out the answer: after the commit, or with the fault that
    /// prevented it. Jobs are settled in the order in which they were run.
    fn settle(self: Box<Self>, committed: Result<(), StorageFault>);
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries of this page.
    pub items: Vec<T>,
    /// How many entries there are on all pages.
    pub total: u64,
}

/// Which page is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Its number, from 1.
    pub page: u32,
    /// How many entries it has at most.
    pub size: u32,
}

/// A page of tasks.
pub type TaskPage = Page<Task>;
/// A page of devices.
pub type DevicePage = Page<Device>;

/// How many tasks are in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskCount {
    /// The state.
    pub status: TaskStatus,
    /// How many tasks are in it.
    pub count: u64,
}

/// The reads. They see what was committed before they began, and do not wait
/// for writers.
pub trait Reader:
    RecordReader + EventReader + PresenceReader + TwinReader + WebhookReader + Send + Sync + 'static
{
    /// A task of the caller's organisation with its results.
    fn task_get(&self, caller: &Caller, id: TaskId) -> BoxFuture<'_, Result<Option<TaskDetail>>>;

    /// Tasks of the caller's organisation, newest first.
    fn task_list(
        &self,
        caller: &Caller,
        filter: TaskFilter,
        page: PageRequest,
    ) -> BoxFuture<'_, Result<TaskPage>>;

    /// Devices of the caller's organisation, in the order of their numbers.
    fn device_list(
        &self,
        caller: &Caller,
        filter: DeviceFilter,
        page: PageRequest,
    ) -> BoxFuture<'_, Result<DevicePage>>;

    /// The tasks of a device that may be announced at `now`, in selection order.
    fn task_announceable(
        &self,
        device: DeviceKey,
        now: UnixMs,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Task>>>;

    /// The tasks whose lease ran out not after `now`, oldest lapse first, then
    /// by `seq`; those that come after the lapse and the `seq` of `after`.
    fn task_lapsed_of_every_org(
        &self,
        after: (UnixMs, i64),
        now: UnixMs,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Task>>>;

    /// Whether any task's time has run out without that being stored.
    fn task_overdue_of_every_org(&self, now: UnixMs) -> BoxFuture<'_, Result<bool>>;

    /// Which of these devices have tasks that may be announced at `now`.
    fn task_waiting_of_every_org(
        &self,
        devices: Vec<DeviceKey>,
        now: UnixMs,
    ) -> BoxFuture<'_, Result<Vec<DeviceKey>>>;

    /// Those of these tasks that are final, with their results.
    fn task_final_of_every_org(&self, ids: Vec<TaskId>) -> BoxFuture<'_, Result<Vec<TaskDetail>>>;

    /// The device that is registered under a serial number and has a
    /// certificate. Only for a link whose broker has checked the certificate.
    fn device_of_sn_of_every_org(&self, sn: Sn) -> BoxFuture<'_, Result<Option<DeviceIdentity>>>;

    /// The serial numbers of registered devices that have a certificate, in
    /// their order, those after `after`.
    fn device_sns_of_every_org(&self, after: Option<Sn>, limit: u32) -> BoxFuture<'_, Result<Vec<Sn>>>;

    /// The devices that were last seen connected, with their sessions, in the
    /// order of their keys, those after `after`.
    fn presence_online_of_every_org(
        &self,
        after: DeviceKey,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<(DeviceIdentity, String)>>>;

    /// Who a certificate belongs to, if it is one of ours that was not revoked.
    fn device_of_certificate_of_every_org(
        &self,
        sn: Sn,
        serial_hex: String,
    ) -> BoxFuture<'_, Result<Option<DeviceIdentity>>>;

    /// The API key with this digest, unless it was revoked.
    fn api_key_of_every_org(&self, digest: KeyDigest) -> BoxFuture<'_, Result<Option<ApiKey>>>;

    /// All API keys that were not revoked.
    fn api_key_list_of_every_org(&self) -> BoxFuture<'_, Result<Vec<ApiKey>>>;

    /// What organisations keep for a time of their own.
    fn retention_of_every_org(&self) -> BoxFuture<'_, Result<Vec<OrgRetention>>>;

    /// How many tasks are in each state.
    fn task_counts_of_every_org(&self) -> BoxFuture<'_, Result<Vec<TaskCount>>>;
}

/// The store.
pub trait Store: Reader {
    /// Takes a job, to be run and settled soon.
    ///
    /// # Errors
    /// [`StorageFault::Overloaded`] when too many jobs wait, or
    /// [`StorageFault::Stopped`]; the job is then dropped unsettled.
    fn submit(&self, job: Box<dyn Job>) -> Result<(), StorageFault>;

    /// Why nothing can be stored now; none while writes succeed. `GET /readyz` tells it.
    ///
    /// It is what the last commit met, so asking costs nothing. While there is
    /// nothing to commit the store looks by itself: PostgreSQL each second; SQLite
    /// each second after a failure, until a write succeeds again.
    fn write_fault(&self) -> Option<StorageFault>;

    /// Forgets what is too old: a bounded amount, beside the jobs.
    fn prune(&self, what: Prune) -> BoxFuture<'_, Result<Pruned>>;
}
