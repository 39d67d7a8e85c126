//! A transaction under way: what was fetched beforehand, what jobs changed of
//! it, and what is still to be sent.
//!
//! Jobs look at what was fetched or is remembered and write into memory. What is neither is
//! asked for at once, after everything gathered so far: the database then sees
//! it in the order in which it was done.

mod device;
mod event;
mod fetch;
mod known;
mod pending;
mod presence;
mod record;
mod task;
mod told;
mod twin;
mod webhook;

use covey_core::access::{AccessSteps, ApiKey, KeyDigest, Rights};
use covey_core::device::{CertificateRecord, Device, DeviceSteps, NewDevice, Tag};
use covey_core::retention::{Kept, RetentionSteps};
use covey_core::task::{DeviceRef, Idempotency, NewResult, Target, Task, TaskResult, TaskSteps};
use std::time::Duration;

use covey_core::error::StorageFault;
use covey_core::id::{DeviceId, DeviceKey, OrgId, ResultId, Sn, TaskId, UnixMs};
use covey_core::port::{Transaction, TxResult};
use tokio::runtime::Runtime;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_postgres::Row;

use crate::postgres::fault::{Failure, failure};
use crate::postgres::memory::{Memory, WrittenBy};
use crate::postgres::pipeline::{self, Reply, Step, query};
use crate::postgres::session::Session;
use crate::rows::{self, Columns, Damaged, Read};

pub(super) use event::events_from;
use known::Known;
pub(super) use known::Name;
use pending::Pending;

/// How long one trip may take; the server's own bound on a statement is shorter.
const TRIP_TIMEOUT: Duration = Duration::from_secs(40);

/// What a group left behind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Committed {
    /// The number of the writer's last group that wrote something.
    pub(super) group_number: i64,
}

/// A transaction on the connection that writes.
pub(super) struct PostgresTransaction<'s> {
    session: &'s Session,
    runtime: &'s Runtime,
    now: UnixMs,
    known: Known,
    pending: Pending,
    /// The first thing that the database refused; nothing is worth more then.
    failure: Option<Failure>,
    has_begun: bool,
    has_written: bool,
    is_commit_sent: bool,
    /// Its number, once it has left its mark.
    number: Option<WrittenBy>,
}

impl<'s> PostgresTransaction<'s> {
    pub(super) fn new(session: &'s Session, runtime: &'s Runtime, now: UnixMs) -> Self {
        Self {
            session,
            runtime,
            now,
            known: Known::default(),
            pending: Pending::default(),
            failure: None,
            has_begun: false,
            has_written: false,
            is_commit_sent: false,
            number: None,
        }
    }

    /// Whether the database may have committed.
    pub(super) fn is_commit_sent(&self) -> bool {
        self.is_commit_sent
    }

    /// Puts what it knows into the memory for the next group, after the commit.
    pub(super) fn keep(self, memory: &mut Memory) {
        self.known.keep(memory, self.number);
    }

    /// Whether all went well so far.
    pub(super) fn checked(&self) -> Result<(), Failure> {
        self.failure.map_or(Ok(()), Err)
    }

    /// Sends what is gathered, and commits.
    pub(super) fn commit(&mut self) -> Result<Committed, Failure> {
        let mut group_number = self.session.group_number;
        if !self.has_begun && self.pending.is_empty() {
            return Ok(Committed { group_number });
        }
        let is_writing = self.has_written || !self.pending.is_empty();
        if is_writing {
            group_number += 1;
            self.pending.mark();
        }
        let steps = self.gathered();
        let mut steps = steps.map_err(|fault| self.failure.unwrap_or(Failure::OfAll(fault)))?;
        // One statement is a transaction by itself.
        if self.has_begun || steps.len() > 1 {
            if !self.has_begun {
                steps.insert(0, self.begin());
            }
            steps.push(pipeline::batch(&self.session.client, "COMMIT"));
        }
        self.is_commit_sent = true;
        let replies = self.exchange(steps);
        let replies = replies.map_err(|fault| self.failure.unwrap_or(Failure::OfAll(fault)))?;
        if is_writing {
            // Of `write`, which is the last that answers anything.
            let rows =
                replies.into_iter().rev().map(Reply::rows).find(|rows| !rows.is_empty()).unwrap_or_default();
            self.number = rows.first().and_then(|row| rows::get(row, 0).ok());
        }
        Ok(Committed { group_number })
    }

    /// Sends what is gathered and then `steps`, in one trip; answers the steps.
    fn trip(&mut self, steps: Vec<Step<'s>>) -> TxResult<Vec<Reply>> {
        let mut all = Vec::new();
        if !self.has_begun {
            all.push(self.begin());
        }
        all.extend(self.gathered()?);
        let begin_at = all.len();
        all.extend(steps);
        Ok(self.exchange(all)?.split_off(begin_at))
    }

    fn begin(&mut self) -> Step<'s> {
        self.has_begun = true;
        pipeline::batch(&self.session.client, "BEGIN")
    }

    /// What was gathered, as statements.
    fn gathered(&mut self) -> TxResult<Vec<Step<'s>>> {
        let mut steps = Vec::new();
        if !self.pending.is_empty() {
            self.has_written = true;
            self.send_presences(&mut steps);
            let (parts, values) = self.pending.send(self.session, self.now, &mut self.known, &mut steps);
            let client = &self.session.client;
            let statement = self.session.writes.of(client, parts);
            let statement = self.runtime.block_on(async { timeout(TRIP_TIMEOUT, statement).await });
            steps.push(query(client, self.answer(statement)?, values));
        }
        Ok(steps)
    }

    fn exchange(&mut self, steps: Vec<Step<'s>>) -> TxResult<Vec<Reply>> {
        if let Some(failure) = self.failure {
            return Err(failure.fault());
        }
        let outcome = self.runtime.block_on(async { timeout(TRIP_TIMEOUT, pipeline::run(steps)).await });
        self.answer(outcome)
    }

    fn answer<T>(&mut self, outcome: Result<Result<T, tokio_postgres::Error>, Elapsed>) -> TxResult<T> {
        match outcome {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.fail(failure(&error))),
            Err(_) => {
                tracing::error!("PostgreSQL did not answer in {TRIP_TIMEOUT:?}");
                Err(self.fail(Failure::Lost))
            }
        }
    }

    /// One statement that is needed now: its rows.
    fn ask(&mut self, step: Step<'s>) -> TxResult<Vec<Row>> {
        let replies = self.trip(vec![step])?;
        Ok(replies.into_iter().next().map(Reply::rows).unwrap_or_default())
    }

    /// One statement that is needed now and has nothing to do with what was
    /// gathered, which is left for later: its rows.
    fn ask_beside(&mut self, step: Step<'s>) -> TxResult<Vec<Row>> {
        let mut steps = Vec::new();
        if !self.has_begun {
            steps.push(self.begin());
        }
        steps.push(step);
        Ok(self.exchange(steps)?.pop().map(Reply::rows).unwrap_or_default())
    }

    /// One statement that writes now: how many rows it changed.
    fn write(&mut self, step: Step<'s>) -> TxResult<u64> {
        self.has_written = true;
        let replies = self.trip(vec![step])?;
        Ok(replies.first().map_or(0, Reply::changed))
    }

    /// One statement that writes now and answers rows.
    fn write_and_ask(&mut self, step: Step<'s>) -> TxResult<Vec<Row>> {
        self.has_written = true;
        self.ask(step)
    }

    /// Lets others go on for a moment.
    fn pause(&self, pause: Duration) {
        // A timer is made inside the runtime that drives it.
        self.runtime.block_on(async { tokio::time::sleep(pause).await });
    }

    fn fail(&mut self, failure: Failure) -> StorageFault {
        self.failure.get_or_insert(failure).fault()
    }

    fn read<T>(&mut self, read: Read<T>) -> TxResult<T> {
        read.map_err(|error| self.damaged(&error))
    }

    fn damaged(&mut self, error: &Damaged) -> StorageFault {
        tracing::error!(%error, "PostgreSQL");
        self.fail(Failure::OfJob(StorageFault::Io))
    }

    /// What `read` makes of the first row, if there is one.
    fn first<T>(&mut self, rows: &[Row], read: impl FnOnce(&dyn Columns) -> Read<T>) -> TxResult<Option<T>> {
        let found = rows.first().map(|row| read(row)).transpose();
        self.read(found)
    }

    /// What `read` makes of the one row that a statement always answers.
    fn only<T>(&mut self, rows: &[Row], read: impl FnOnce(&dyn Columns) -> Read<T>) -> TxResult<T> {
        match self.first(rows, read)? {
            Some(found) => Ok(found),
            None => Err(self.fail(Failure::OfJob(StorageFault::Io))),
        }
    }
}

impl Transaction for PostgresTransaction<'_> {
    fn now(&self) -> UnixMs {
        self.now
    }
}

impl TaskSteps for PostgresTransaction<'_> {
    fn task(&mut self, org: OrgId, id: TaskId) -> TxResult<Option<Task>> {
        self.read_task(org, id)
    }

    fn task_best(&mut self, org: OrgId, device: DeviceKey) -> TxResult<Option<Task>> {
        self.read_task_best(org, device)
    }

    fn tasks_overdue_of_every_org(&mut self, limit: u32) -> TxResult<Vec<Task>> {
        self.read_tasks_overdue(limit)
    }

    fn tasks_live_reach(&mut self, _org: OrgId, device: DeviceKey, count: u32) -> TxResult<bool> {
        self.has_open_tasks(device, count)
    }

    fn task_insert(&mut self, task: &mut Task) -> TxResult<()> {
        self.write_new_task(task)
    }

    fn task_update(&mut self, task: &Task) -> TxResult<()> {
        self.write_task(task)
    }

    fn result_equal(&mut self, task: &Task, result: &NewResult) -> TxResult<Option<ResultId>> {
        self.find_result(task, result)
    }

    fn result_insert(&mut self, task: &Task, result: &NewResult) -> TxResult<ResultId> {
        self.write_result(task, result)
    }

    fn results(&mut self, task: &Task) -> TxResult<Vec<TaskResult>> {
        self.read_results(task)
    }

    fn idempotency(&mut self, org: OrgId, key: &str) -> TxResult<Option<Idempotency>> {
        self.read_idempotency(org, key)
    }

    fn idempotency_put(&mut self, org: OrgId, key: &str, entry: &Idempotency) -> TxResult<()> {
        self.known.idempotency.insert((org, key.to_owned()), Some(*entry));
        self.pending.idempotency.insert((org, key.to_owned()), *entry);
        Ok(())
    }

    fn idempotency_prune(&mut self, before: UnixMs, limit: u32) -> TxResult<usize> {
        self.write_idempotency_prune(before, limit)
    }
}

impl DeviceSteps for PostgresTransaction<'_> {
    fn device_target(&mut self, org: OrgId, device: &DeviceRef) -> TxResult<Option<Target>> {
        self.read_target(org, device)
    }

    fn device(&mut self, org: OrgId, device_id: DeviceId) -> TxResult<Option<Device>> {
        self.read_device(org, device_id)
    }

    fn sn_is_taken(&mut self, sn: &Sn) -> TxResult<bool> {
        self.read_sn_is_taken(sn)
    }

    fn device_id_free(&mut self, org: OrgId) -> TxResult<DeviceId> {
        self.read_device_id_free(org)
    }

    fn device_insert(&mut self, device: &NewDevice) -> TxResult<DeviceKey> {
        self.write_new_device(device)
    }

    fn device_retire(&mut self, device: DeviceKey) -> TxResult<()> {
        self.write_retirement(device)
    }

    fn tag_put(&mut self, device: DeviceKey, tag: &Tag) -> TxResult<i64> {
        self.write_tag(device, tag)
    }

    fn tags_beside(&mut self, device: DeviceKey, tag: &str) -> TxResult<u32> {
        self.read_tags_beside(device, tag)
    }

    fn certificate_insert(&mut self, device: DeviceKey, certificate: &CertificateRecord) -> TxResult<()> {
        self.write_certificate(device, certificate)
    }
}

impl AccessSteps for PostgresTransaction<'_> {
    fn org_ensure(&mut self, name: &str) -> TxResult<OrgId> {
        self.write_org(name)
    }

    fn api_key_insert(
        &mut self,
        org: OrgId,
        name: &str,
        rights: Rights,
        digest: &KeyDigest,
    ) -> TxResult<ApiKey> {
        self.write_api_key(org, name, rights, digest)
    }

    fn api_key_exists(&mut self) -> TxResult<bool> {
        self.read_api_key_exists()
    }

    fn api_key_revoke(&mut self, id: i64) -> TxResult<bool> {
        self.write_api_key_revocation(id)
    }
}

impl RetentionSteps for PostgresTransaction<'_> {
    fn retention_put(&mut self, org: OrgId, kept: Kept, days: Option<u32>) -> TxResult<()> {
        self.write_retention(org, kept, days)
    }
}
