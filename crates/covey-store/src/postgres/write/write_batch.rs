//! What a transaction has yet to send: gathered writes, as statements over arrays.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use covey_core::id::{CallerId, DeviceKey, OrgId, RecordNumber, TaskId, UnixMs};
use covey_core::task::{Idempotency, Task, TaskResult, TaskStatus};

use crate::postgres::audit::AuditBatch;
use crate::postgres::pipeline::{Step, Value, column, execute, query, values};
use crate::postgres::session::Session;
use crate::postgres::twin::batch::TwinBatch;
use crate::postgres::usage::UsageBatch;
use crate::postgres::write::group_statement::{Outbox, Parts};
use crate::postgres::write::outbox_batch::OutboxBatch;
use crate::postgres::write::transaction_cache::{CachedTask, Place, TransactionCache};
use crate::rows;

#[derive(Default)]
pub(crate) struct WriteBatch {
    /// Tasks that are new or have changed, in the order of their ids, which is
    /// about that of their making.
    tasks: BTreeSet<TaskId>,
    results: Vec<(TaskId, OrgId, TaskResult)>,
    pub(crate) idempotency: HashMap<(OrgId, String), Idempotency>,
    counts: HashMap<(OrgId, TaskStatus), i64>,
    /// How far callers have read; all devices are device 0.
    pub(crate) event_offsets: BTreeMap<(CallerId, i64), RecordNumber>,
    pub(crate) outbox: OutboxBatch,
    /// Devices of which a presence, or what was told of one, is to be sent.
    pub(crate) presences: BTreeSet<DeviceKey>,
    pub(crate) twins: TwinBatch,
    pub(crate) audit: Option<AuditBatch>,
    pub(crate) usage: UsageBatch,
    is_marking: bool,
}

impl WriteBatch {
    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
            && self.results.is_empty()
            && self.idempotency.is_empty()
            && self.counts.is_empty()
            && self.event_offsets.is_empty()
            && self.outbox.is_empty()
            && self.presences.is_empty()
            && self.twins.is_empty()
            && self.audit.is_none()
            && self.usage.is_empty()
            && !self.is_marking
    }

    pub(crate) fn task(&mut self, id: TaskId) {
        self.tasks.insert(id);
    }

    pub(crate) fn result(&mut self, task: &Task, result: TaskResult) {
        self.results.push((task.id, task.org, result));
    }

    pub(crate) fn count(&mut self, org: OrgId, status: TaskStatus, change: i64) {
        *self.counts.entry((org, status)).or_default() += change;
    }

    /// The group leaves its number behind, even if there is nothing else to send.
    pub(crate) fn mark(&mut self) {
        self.is_marking = true;
    }

    /// Turns everything gathered into statements. Answers the parts and the values
    /// of the last one, which writes nearly everything and the group's number.
    /// What is known follows suit.
    pub(crate) fn send<'s>(
        &mut self,
        session: &'s Session,
        now: UnixMs,
        cache: &mut TransactionCache,
        steps: &mut Vec<Step<'s>>,
    ) -> (Parts, Vec<Value<'s>>) {
        let (client, sql) = (&session.client, &session.sql);
        let event_offsets = std::mem::take(&mut self.event_offsets);
        if !event_offsets.is_empty() {
            steps.push(execute(client, &sql.event.event_offset_put, offset_values(&event_offsets)));
        }
        self.twins.send(session, steps);
        let idempotency = std::mem::take(&mut self.idempotency);
        if !idempotency.is_empty() {
            steps.push(execute(client, &sql.task.idempotency_put, idempotency_values(idempotency)));
        }
        let ids = std::mem::take(&mut self.tasks);
        let (mut new_open, mut new_done) = (Vec::new(), Vec::new());
        let (mut changed, mut moved) = (Vec::new(), Vec::new());
        for cached in ids.iter().filter_map(|id| cache.tasks.get(id)) {
            let is_final = cached.task.status.is_final();
            match (cached.place, is_final) {
                (Place::Nowhere, false) => new_open.push(&cached.task),
                (Place::Nowhere, true) => new_done.push(&cached.task),
                (Place::Open, false) => changed.push(cached),
                (Place::Open, true) => moved.push(cached),
                (Place::Done, _) => {
                    steps.push(query(client, &sql.task.task_update_done, one_change(&cached.task)))
                }
            }
        }
        if !new_done.is_empty() {
            steps.push(execute(client, &session.writes.insert_done, new_tasks(&new_done)));
        }
        let results = std::mem::take(&mut self.results);
        let outbox = self.outbox.take();
        self.usage.send(session, now, outbox.outbox() != Outbox::Nothing, steps);
        let (mut parts, mut values) = (Parts::default(), Vec::new());
        let mut add = |is_there: &mut bool, is_needed: bool, more: &dyn Fn() -> Vec<Value<'s>>| {
            if is_needed {
                *is_there = true;
                values.extend(more());
            }
        };
        add(&mut parts.made, !new_open.is_empty(), &|| new_tasks(&new_open));
        add(&mut parts.changed, !changed.is_empty(), &|| changes(&changed));
        add(&mut parts.moved, !moved.is_empty(), &|| changes(&moved));
        add(&mut parts.results, !results.is_empty(), &|| result_values(&results));
        add(&mut parts.gauges, outbox.has_gauges(), &|| outbox.gauge_values(now));
        if let Some(audit) = self.audit.take() {
            parts.audit = true;
            values.extend(audit.into_values());
        }
        parts.outbox = outbox.outbox();
        if parts.outbox != Outbox::Nothing {
            values.extend(outbox.record_values(session, now));
            values.extend(self.usage.take_values(session, now));
        }
        if parts.outbox == Outbox::Events {
            values.extend(outbox.event_values(session));
        }
        values.extend(self.mark_and_counts(session));
        for id in &ids {
            if let Some(cached) = cache.tasks.get_mut(id) {
                cached.place = if cached.task.status.is_final() { Place::Done } else { Place::Open };
                // It is this transaction's own from here on.
                cached.written_by = None;
            }
        }
        (parts, values)
    }

    fn mark_and_counts<'s>(&mut self, session: &Session) -> Vec<Value<'s>> {
        self.is_marking = false;
        let counts = std::mem::take(&mut self.counts).into_iter().filter(|(_, change)| *change != 0);
        let counts = BTreeMap::from_iter(counts);
        vec![
            Box::new(session.writer.number()),
            Box::new(session.group_number + 1),
            Box::new(session.slot),
            column(counts.keys(), |(org, _)| org.0),
            column(counts.keys(), |(_, status)| i16::from(status.number())),
            column(counts.values(), |change| *change),
        ]
    }
}

fn millis(instant: Option<UnixMs>) -> Option<i64> {
    instant.map(|at| at.0)
}

/// The columns of new tasks.
fn new_tasks<'v>(tasks: &[&Task]) -> Vec<Value<'v>> {
    vec![
        column(tasks, |task| task.id.0),
        column(tasks, |task| task.seq),
        column(tasks, |task| task.org.0),
        column(tasks, |task| task.device.0),
        column(tasks, |task| task.device_id.0),
        column(tasks, |task| task.sn.as_str().to_owned()),
        column(tasks, |task| task.ext_task_id.clone()),
        column(tasks, |task| i32::from(task.method_code)),
        column(tasks, |task| task.method.clone()),
        column(tasks, |task| i16::from(task.priority)),
        column(tasks, |task| task.push_only),
        column(tasks, |task| task.created_at.0),
        column(tasks, |task| task.expires_at.0),
        column(tasks, |task| task.created_by.as_deref().map(ToOwned::to_owned)),
        column(tasks, |task| i16::from(task.status.number())),
        column(tasks, |task| millis(task.pending_at)),
        column(tasks, |task| millis(task.locked_at)),
        column(tasks, |task| millis(task.lease_until)),
        column(tasks, |task| i64::from(task.deliveries)),
        column(tasks, |task| i64::from(task.results)),
        column(tasks, |task| rows::timeline_text(&task.timeline)),
        column(tasks, |task| i64::from(task.late_results)),
        column(tasks, |task| rows::byte_count(task.result_bytes)),
        column(tasks, |task| task.payload.as_deref().map(ToOwned::to_owned)),
    ]
}

/// What changes of tasks.
fn changes<'v>(cached: &[&CachedTask]) -> Vec<Value<'v>> {
    let tasks: Vec<&Task> = cached.iter().map(|cached| &cached.task).collect();
    vec![
        column(&tasks, |task| task.id.0),
        column(&tasks, |task| i16::from(task.status.number())),
        column(&tasks, |task| millis(task.pending_at)),
        column(&tasks, |task| millis(task.locked_at)),
        column(&tasks, |task| millis(task.lease_until)),
        column(&tasks, |task| i64::from(task.deliveries)),
        column(&tasks, |task| i64::from(task.results)),
        column(&tasks, |task| rows::timeline_text(&task.timeline)),
        column(&tasks, |task| i64::from(task.late_results)),
        column(&tasks, |task| rows::byte_count(task.result_bytes)),
        column(cached, |cached| cached.written_by),
    ]
}

fn one_change<'v>(task: &Task) -> Vec<Value<'v>> {
    values![
        task.id.0,
        i16::from(task.status.number()),
        millis(task.pending_at),
        millis(task.locked_at),
        millis(task.lease_until),
        i64::from(task.deliveries),
        i64::from(task.results),
        rows::timeline_text(&task.timeline),
        i64::from(task.late_results),
        rows::byte_count(task.result_bytes)
    ]
}

fn result_values<'v>(results: &[(TaskId, OrgId, TaskResult)]) -> Vec<Value<'v>> {
    vec![
        column(results, |(task, _, _)| task.0),
        column(results, |(_, _, one)| one.id.0),
        column(results, |(_, org, _)| org.0),
        column(results, |(_, _, one)| one.result.ext_id),
        column(results, |(_, _, one)| one.result.status_code),
        column(results, |(_, _, one)| one.result.body_hash()),
        column(results, |(_, _, one)| one.received_at.0),
        column(results, |(_, _, one)| rows::body_kind(&one.result.body)),
        column(results, |(_, _, one)| one.result.body.text().as_bytes().to_vec()),
    ]
}

fn offset_values<'v>(offsets: &BTreeMap<(CallerId, i64), RecordNumber>) -> Vec<Value<'v>> {
    vec![
        column(offsets.keys(), |(caller, _)| caller.0),
        column(offsets.keys(), |(_, device)| *device),
        column(offsets.values(), |number| number.0),
    ]
}

fn idempotency_values<'v>(entries: HashMap<(OrgId, String), Idempotency>) -> Vec<Value<'v>> {
    let (keys, entries): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
    let (orgs, keys): (Vec<i64>, Vec<String>) = keys.into_iter().map(|(org, key)| (org.0, key)).unzip();
    vec![
        Box::new(orgs),
        Box::new(keys),
        column(&entries, |entry| entry.request_digest.to_vec()),
        column(&entries, |entry| entry.task.0),
        column(&entries, |entry| entry.created_at.0),
    ]
}
