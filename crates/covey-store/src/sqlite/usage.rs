//! What was used.

use std::collections::BTreeMap;

use covey_core::id::{DeviceKey, OrgId};
use covey_core::port::{Found, ReadKind, Turn, TxResult};
use covey_core::usage::{Usage, UsageDay, UsageReader, UsageSteps, day_of};

use crate::rows;
use crate::sqlite::Sqlite;
use crate::sqlite::statement::Ask;
use crate::sqlite::transaction::SqliteTransaction;

impl UsageReader for Sqlite {
    fn usage_of_every_org(&self, org: OrgId, from: i64, to: i64) -> Found<'_, Vec<UsageDay>> {
        let values = (org.0, from, to, org.0, from, to);
        self.rows(ReadKind::Usage, Turn::Org(org), rows::USAGE, values, rows::usage_day)
    }
}

impl UsageSteps for SqliteTransaction<'_> {
    fn usage_add(&mut self, org: OrgId, usage: Usage) -> TxResult<()> {
        if usage != Usage::default() {
            *self.usage.entry(org).or_default() += usage;
        }
        Ok(())
    }

    fn usage_heard(&mut self, org: OrgId, device: DeviceKey) -> TxResult<()> {
        let sql =
            "INSERT INTO usage_devices (day, org_id, device_key) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        self.change(sql, (day_of(self.now), org.0, device.0)).map(drop)
    }

    fn usage_settle_of_every_org(&mut self, before: i64, limit: u32) -> TxResult<u64> {
        let sql = "DELETE FROM usage_devices WHERE (day, org_id, device_key) IN (SELECT day, org_id, device_key \
             FROM usage_devices WHERE day < ?1 ORDER BY day, org_id, device_key LIMIT ?2) RETURNING org_id, day";
        let gone = self.try_sql(|connection| connection.rows(sql, (before, limit), rows::org_and_day))?;
        let mut counts: BTreeMap<(i64, i64), i64> = BTreeMap::new();
        gone.iter().for_each(|of| *counts.entry(*of).or_default() += 1);
        for ((org, day), active_devices) in counts {
            self.add(org, day, Usage { active_devices, ..Usage::default() })?;
        }
        Ok(gone.len() as u64)
    }

    fn usage_forget_of_every_org(&mut self, before: i64, limit: u32) -> TxResult<u64> {
        let sql = "DELETE FROM usage_days WHERE (org_id, day) IN (SELECT org_id, day FROM usage_days \
             WHERE day < ?1 LIMIT ?2)";
        Ok(self.change(sql, (before, limit))? as u64)
    }
}

impl SqliteTransaction<'_> {
    /// Writes what all operations have added.
    pub(super) fn flush_usage(&mut self) -> TxResult<()> {
        let day = day_of(self.now);
        let mut used = std::mem::take(&mut self.usage).into_iter();
        used.try_for_each(|(org, usage)| self.add(org.0, day, usage))
    }

    fn add(&mut self, org: i64, day: i64, usage: Usage) -> TxResult<()> {
        let Usage { tasks_created, tasks_finished, events, bytes_in, active_devices } = usage;
        self.change(
            "INSERT INTO usage_days (org_id, day, tasks_created, tasks_finished, events, bytes_in, active_devices) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO UPDATE SET \
             tasks_created = tasks_created + excluded.tasks_created, \
             tasks_finished = tasks_finished + excluded.tasks_finished, events = events + excluded.events, \
             bytes_in = bytes_in + excluded.bytes_in, active_devices = active_devices + excluded.active_devices",
            (org, day, tasks_created, tasks_finished, events, bytes_in, active_devices),
        )
        .map(drop)
    }
}
