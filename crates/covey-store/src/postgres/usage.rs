//! What was used.

use std::collections::{BTreeMap, BTreeSet};

use covey_core::id::{DeviceKey, OrgId, UnixMs};
use covey_core::port::{Found, ReadKind, Turn, TxResult};
use covey_core::usage::{Usage, UsageDay, UsageReader, UsageSteps, day_of};

use crate::postgres::Postgres;
use crate::postgres::locks::LockClass;
use crate::postgres::pipeline::{Step, Value, column, execute, values};
use crate::postgres::prepared::prepared;
use crate::postgres::session::Session;
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows;

/// Where what was used goes.
macro_rules! usage_into {
    () => {
        "INSERT INTO usage_days AS u (org_id, tasks_created, tasks_finished, events, bytes_in, active_devices, day, slot)"
    };
}
pub(crate) use usage_into;

/// What is gathered of it.
macro_rules! usage_gathered {
    () => {
        "AS n (org_id, tasks_created, tasks_finished, events, bytes_in)"
    };
}
pub(crate) use usage_gathered;

/// Adds it to what is there.
macro_rules! usage_onto {
    () => {
        "ON CONFLICT (org_id, day, slot) DO UPDATE SET tasks_created = u.tasks_created + excluded.tasks_created, \
         tasks_finished = u.tasks_finished + excluded.tasks_finished, events = u.events + excluded.events, \
         bytes_in = u.bytes_in + excluded.bytes_in, active_devices = u.active_devices + excluded.active_devices"
    };
}
pub(crate) use usage_onto;

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// Adds to what organisations have used: day, slot, organisations, and what of each.
        usage_add: concat!(usage_into!(), " SELECT n.*, 0, $1::int8, $2::int4 FROM \
             unnest($3::int8[], $4::int8[], $5::int8[], $6::int8[], $7::int8[]) ", usage_gathered!(), " ", usage_onto!());
        /// Devices were heard: day, slot, organisations, devices.
        usage_heard: "INSERT INTO usage_devices (day, org_id, device_key, slot) \
             SELECT $1::int8, n.org_id, n.device_key, $2::int4 FROM unnest($3::int8[], $4::int8[]) \
             AS n (org_id, device_key) ON CONFLICT DO NOTHING";
        /// Counts devices of days that are over, in place of telling them apart: before which day, how many, the writer's
        /// slot, the lock. With one server at a time no device is counted by two.
        usage_settle: concat!("WITH may AS MATERIALIZED (SELECT pg_try_advisory_xact_lock($4::int4, 0) AS may), \
             gone AS (DELETE FROM usage_devices WHERE (SELECT may FROM may) AND (day, org_id, device_key) IN \
             (SELECT DISTINCT day, org_id, device_key FROM usage_devices WHERE day < $1 \
             ORDER BY day, org_id, device_key LIMIT $2) RETURNING day, org_id, device_key), \
             counted AS (SELECT org_id, day, count(DISTINCT device_key)::int8 AS devices FROM gone GROUP BY org_id, day), \
             put AS (", usage_into!(), " SELECT org_id, 0, 0, 0, 0, devices, day, $3::int4 FROM counted ", usage_onto!(), ") \
             SELECT coalesce(sum(devices), 0)::int8 FROM counted");
        /// Forgets days that are too old: before which, how many rows.
        usage_forget: "DELETE FROM usage_days WHERE ctid = ANY (ARRAY( \
             SELECT ctid FROM usage_days WHERE day < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))";
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// What an organisation has used.
        usage: rows::USAGE;
    }
}

impl UsageReader for Postgres {
    fn usage_of_every_org(&self, org: OrgId, from: i64, to: i64) -> Found<'_, Vec<UsageDay>> {
        let values = values![org.0, from, to, org.0, from, to];
        self.rows(ReadKind::Usage, Turn::Org(org), |sql| &sql.usage.usage, values, rows::usage_day)
    }
}

impl UsageSteps for PostgresTransaction<'_> {
    fn usage_add(&mut self, org: OrgId, usage: Usage) -> TxResult<()> {
        if usage != Usage::default() {
            *self.batch.usage.by_org.entry(org).or_default() += usage;
        }
        Ok(())
    }

    fn usage_heard(&mut self, org: OrgId, device: DeviceKey) -> TxResult<()> {
        self.batch.usage.heard.insert((org, device));
        Ok(())
    }

    fn usage_settle_of_every_org(&mut self, before: i64, limit: u32) -> TxResult<u64> {
        let values = values![before, i64::from(limit), self.session.slot, LockClass::Usage.number()];
        let settled: i64 = self.write_only(|sql| &sql.usage.usage_settle, values, rows::first)?;
        Ok(u64::try_from(settled).unwrap_or(0))
    }

    fn usage_forget_of_every_org(&mut self, before: i64, limit: u32) -> TxResult<u64> {
        self.write(|sql| &sql.usage.usage_forget, values![before, i64::from(limit)])
    }
}

/// What a transaction has yet to send of what was used.
#[derive(Default)]
pub(crate) struct UsageBatch {
    by_org: BTreeMap<OrgId, Usage>,
    heard: BTreeSet<(OrgId, DeviceKey)>,
}

impl UsageBatch {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_org.is_empty() && self.heard.is_empty()
    }

    /// Sends which devices were heard; and what was used where no statement goes that writes records, which takes it along.
    pub(crate) fn send<'s>(
        &mut self,
        session: &'s Session,
        now: UnixMs,
        is_told: bool,
        steps: &mut Vec<Step<'s>>,
    ) {
        let (client, sql) = (&session.client, &session.sql.usage);
        let heard = std::mem::take(&mut self.heard);
        if !heard.is_empty() {
            let mut values = values![day_of(now), session.slot];
            values.extend([column(&heard, |(org, _)| org.0), column(&heard, |(_, device)| device.0)]);
            steps.push(execute(client, &sql.usage_heard, values));
        }
        if !is_told && !self.by_org.is_empty() {
            steps.push(execute(client, &sql.usage_add, self.take_values(session, now)));
        }
    }

    /// The day, the writer's slot, and the columns of what was used, which is taken out.
    pub(crate) fn take_values<'v>(&mut self, session: &Session, now: UnixMs) -> Vec<Value<'v>> {
        let by_org = std::mem::take(&mut self.by_org);
        let used = || by_org.values();
        let mut values = values![day_of(now), session.slot];
        values.extend([
            column(by_org.keys(), |org| org.0),
            column(used(), |usage| usage.tasks_created),
            column(used(), |usage| usage.tasks_finished),
            column(used(), |usage| usage.events),
            column(used(), |usage| usage.bytes_in),
        ]);
        values
    }
}
