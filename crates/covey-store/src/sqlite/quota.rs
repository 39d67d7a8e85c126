//! What is kept, in bytes.

use covey_core::id::{DeviceKey, OrgId};
use covey_core::port::{Found, ReadKind, Turn, TxResult};
use covey_core::quota::{DayKept, FirstDays, OrgDay, QuotaReader, QuotaSteps};
use covey_core::retention::RetentionClass;

use crate::rows;
use crate::sqlite::Sqlite;
use crate::sqlite::statement::Ask;
use crate::sqlite::transaction::SqliteTransaction;

impl QuotaReader for Sqlite {
    fn kept_of_devices_of_every_org(&self, wanted: Vec<(DeviceKey, FirstDays)>) -> Found<'_, Vec<i64>> {
        self.read(ReadKind::KeptOfDevices, Turn::Server, move |connection| {
            let sum = |(device, first): (DeviceKey, FirstDays)| {
                let sql = "SELECT coalesce(sum(bytes), 0) FROM device_kept_bytes \
                     WHERE device_key = ?1 AND day >= CASE kept WHEN 0 THEN ?2 WHEN 1 THEN ?3 ELSE ?4 END";
                let [tasks, events, twins] = first.of_devices();
                connection.only(sql, (device.0, tasks, events, twins), rows::first)
            };
            wanted.into_iter().map(sum).collect()
        })
    }

    fn kept_of_orgs_of_every_org(&self) -> Found<'_, Vec<OrgDay>> {
        self.rows(ReadKind::KeptOfOrgs, Turn::Server, rows::KEPT_OF_ORGS, [], rows::org_day)
    }
}

impl QuotaSteps for SqliteTransaction<'_> {
    fn kept_add(
        &mut self,
        of_devices: &[(DeviceKey, DayKept)],
        of_orgs: &[(OrgId, DayKept)],
    ) -> TxResult<()> {
        for (device, DayKept { class, day, bytes }) in of_devices {
            self.change(
                "INSERT INTO device_kept_bytes (device_key, kept, day, bytes) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes",
                (device.0, class.number(), day, bytes),
            )?;
        }
        for (org, DayKept { class, day, bytes }) in of_orgs {
            self.change(
                "INSERT INTO org_kept_bytes (org_id, kept, day, bytes) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes",
                (org.0, class.number(), day, bytes),
            )?;
        }
        Ok(())
    }

    fn kept_forget_of_every_org(
        &mut self,
        class: RetentionClass,
        before_day: i64,
        limit: u32,
    ) -> TxResult<u64> {
        let number = class.number();
        self.change("DELETE FROM org_kept_bytes WHERE kept = ?1 AND day < ?2", (number, before_day))?;
        let gone = self.change(
            "DELETE FROM device_kept_bytes WHERE (device_key, kept, day) IN \
             (SELECT device_key, kept, day FROM device_kept_bytes WHERE kept = ?1 AND day < ?2 LIMIT ?3)",
            (number, before_day, limit),
        )?;
        Ok(gone as u64)
    }
}
