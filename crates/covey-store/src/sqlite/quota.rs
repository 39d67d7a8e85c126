//! What is kept, in bytes.

use covey_core::id::{DeviceKey, OrgId, RecordNumber};
use covey_core::port::{Found, ReadKind, Turn, TxResult};
use covey_core::quota::{
    Counted, DayKept, FirstDays, LeftBehind, OrgDay, PARTS_ALL, QuotaReader, QuotaSteps, Uncounted,
};
use covey_core::retention::RetentionClass;

use crate::rows;
use crate::sqlite::Sqlite;
use crate::sqlite::statement::Ask;
use crate::sqlite::transaction::SqliteTransaction;

impl QuotaReader for Sqlite {
    fn kept_of_devices_of_every_org(&self, wanted: Vec<(DeviceKey, FirstDays)>) -> Found<'_, Vec<i64>> {
        self.read(ReadKind::KeptOfDevices, Turn::Server, move |connection| {
            let sum = |(device, first): (DeviceKey, FirstDays)| {
                let sql = "SELECT coalesce(sum(max(bytes, 0)), 0) FROM device_kept_bytes \
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

    /// There is one writer at a time: what those before it have stored ends where it has begun.
    fn kept_left_of_every_org(&self) -> Found<'_, Vec<LeftBehind>> {
        let until = self.began_after;
        self.read(ReadKind::KeptOfOrgs, Turn::Server, move |connection| {
            let known = connection.row(COUNTED, [WRITER], rows::counted)?;
            let is_counted = known.is_some_and(|known| known.of_all() >= until);
            Ok((!is_counted).then_some(LeftBehind { writer: WRITER, until }).into_iter().collect())
        })
    }
}

/// The number of the only writer.
const WRITER: i32 = 0;
const COUNTED: &str = "SELECT counted, marked, parts FROM kept_counted WHERE writer = ?1";

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

    fn kept_mark(&mut self) -> TxResult<()> {
        let last = self.last_number()?;
        self.change(
            "UPDATE kept_counted SET counted = CASE WHEN parts = ?2 THEN marked ELSE counted END, marked = ?3, \
             parts = 0 WHERE writer = ?1",
            (WRITER, PARTS_ALL, last.0),
        )
        .map(drop)
    }

    fn kept_advance(&mut self, from: u8, to: u8) -> TxResult<bool> {
        let sql = "UPDATE kept_counted SET parts = ?3 WHERE writer = ?1 AND parts = ?2";
        Ok(self.change(sql, (WRITER, from, to))? > 0)
    }

    fn kept_counted(&mut self, left: LeftBehind) -> TxResult<Option<Counted>> {
        // Where nothing was ever counted all of it is older than the counting.
        let of_none = Counted { counted: left.until, marked: left.until, parts: PARTS_ALL };
        Ok(Some(self.row(COUNTED, [left.writer], rows::counted)?.unwrap_or(of_none)))
    }

    fn kept_uncounted(
        &mut self,
        left: LeftBehind,
        after: RecordNumber,
        limit: u32,
    ) -> TxResult<Vec<Uncounted>> {
        let sql = concat!(
            "SELECT ",
            rows::uncounted_columns!(),
            " FROM records r LEFT JOIN tasks t ON t.id = r.task_id AND r.kind = 1 AND r.name = 'created' \
             LEFT JOIN results x ON x.id = r.result_id AND r.kind = 2 \
             LEFT JOIN events e ON e.id = r.number AND r.kind = 3 \
             WHERE r.number > ?1 AND r.number <= ?2 ORDER BY r.number LIMIT ?3"
        );
        self.rows(sql, (after.0, left.until.0, limit), rows::uncounted)
    }

    fn kept_counted_put(&mut self, left: LeftBehind, counted: Option<Counted>) -> TxResult<()> {
        let all = Counted { counted: left.until, marked: left.until, parts: PARTS_ALL };
        let Counted { counted, marked, parts } = counted.unwrap_or(all);
        self.change(
            "INSERT INTO kept_counted (writer, counted, marked, parts) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT DO UPDATE SET counted = excluded.counted, marked = excluded.marked, parts = excluded.parts",
            (left.writer, counted.0, marked.0, parts),
        )
        .map(drop)
    }

    fn kept_leave(&mut self) -> TxResult<()> {
        // The place stays where it is: the next server goes on from there.
        Ok(())
    }

    fn kept_forget_of_every_org(
        &mut self,
        class: RetentionClass,
        day: i64,
        orgs: &[OrgId],
        limit: u32,
    ) -> TxResult<u64> {
        let number = class.number();
        let orgs: Vec<_> = orgs.iter().map(|org| org.0.to_string()).collect();
        let orgs = format!("[{}]", orgs.join(","));
        // The rows of the day first, by their index: an organisation may have more devices than have stored something.
        let gone = self.change(
            "DELETE FROM device_kept_bytes WHERE (device_key, kept, day) IN \
             (SELECT k.device_key, k.kept, k.day FROM device_kept_bytes k CROSS JOIN devices d ON d.id = k.device_key \
             WHERE k.kept = ?1 AND k.day = ?2 AND d.org_id IN (SELECT value FROM json_each(?3)) LIMIT ?4)",
            (number, day, &orgs, limit),
        )?;
        if gone < limit as usize {
            self.change(
                "DELETE FROM org_kept_bytes WHERE kept = ?1 AND day = ?2 \
                 AND org_id IN (SELECT value FROM json_each(?3))",
                (number, day, &orgs),
            )?;
        }
        Ok(gone as u64)
    }
}
