//! The coming and going of devices.

use covey_core::device::{DeviceIdentity, Presence};
use covey_core::id::{DeviceKey, UnixMs};
use covey_core::port::{Found, ReadKind, Turn, TxResult};
use covey_core::presence::{OnlineDevice, PresenceReader, PresenceSteps, PresenceTold};
use rusqlite::ToSql;

use crate::rows;
use crate::sqlite::Sqlite;
use crate::sqlite::transaction::SqliteTransaction;

impl PresenceReader for Sqlite {
    fn presence_online_of_every_org(&self, after: DeviceKey, limit: u32) -> Found<'_, Vec<OnlineDevice>> {
        self.rows(
            ReadKind::PresenceOnline,
            Turn::Server,
            "SELECT d.id, d.org_id, d.device_id, d.sn, c.session, c.server, c.details FROM connections c \
             JOIN devices d ON d.id = c.device_key \
             WHERE c.online = 1 AND c.device_key > ?1 ORDER BY c.device_key LIMIT ?2",
            (after.0, limit),
            rows::online,
        )
    }

    fn presence_due_of_every_org(&self, now: UnixMs) -> Found<'_, bool> {
        self.read(ReadKind::PresenceDue, Turn::Server, move |connection| {
            let sql = "SELECT 1 FROM connections WHERE told_due <= ?1 LIMIT 1";
            connection.prepare_cached(sql)?.exists([now.0])
        })
    }
}

impl PresenceSteps for SqliteTransaction<'_> {
    /// Keeps the instant of the last connect when the device goes. Answers
    /// whether it was news.
    fn presence_put(&mut self, device: DeviceKey, presence: &Presence) -> TxResult<bool> {
        let changed = self.change(
            "INSERT INTO connections (device_key, org_id, online, connected_at, checked_at, details, session, \
             server, reason) SELECT id, org_id, ?2, ?3, ?4, ?5, ?6, ?7, ?8 FROM devices WHERE id = ?1 \
             ON CONFLICT DO UPDATE SET online = excluded.online, checked_at = excluded.checked_at, \
             details = excluded.details, connected_at = coalesce(excluded.connected_at, connected_at), \
             session = excluded.session, server = excluded.server, reason = excluded.reason \
             WHERE CASE WHEN excluded.online THEN NOT online OR session <> excluded.session \
             ELSE online AND session = excluded.session END",
            (
                device.0,
                presence.online,
                presence.connected_at.map(|at| at.0),
                presence.checked_at.0,
                rows::details_text(presence),
                &presence.session,
                &presence.server,
                presence.reason.name(),
            ),
        )?;
        Ok(changed > 0)
    }

    fn presence_told(&mut self, device: DeviceKey) -> TxResult<PresenceTold> {
        let sql =
            "SELECT told_online, told_changes, told_since, told_due FROM connections WHERE device_key = ?1";
        Ok(self.row(sql, [device.0], |row| rows::told_at(row, 0))?.unwrap_or_default())
    }

    fn presence_told_put(&mut self, device: DeviceKey, told: &PresenceTold) -> TxResult<()> {
        let put = self.change(
            "UPDATE connections SET told_online = ?2, told_changes = ?3, told_since = ?4, told_due = ?5 \
             WHERE device_key = ?1",
            (device.0, told.online, told.changes, told.since.0, told.due.map(|due| due.0)),
        );
        put.map(drop)
    }

    fn presences_due_of_every_org(&mut self, limit: u32) -> TxResult<Vec<(DeviceIdentity, Presence)>> {
        self.read_presences("c.told_due <= ?1", self.now.0, limit)
    }

    fn presences_of_server_of_every_org(
        &mut self,
        server: &str,
        limit: u32,
    ) -> TxResult<Vec<(DeviceIdentity, Presence)>> {
        self.read_presences("c.online = 1 AND c.server = ?1", server, limit)
    }
}

impl SqliteTransaction<'_> {
    /// Devices with their presence, by a condition on their connection `c`.
    fn read_presences(
        &self,
        condition: &str,
        value: impl ToSql,
        limit: u32,
    ) -> TxResult<Vec<(DeviceIdentity, Presence)>> {
        let sql = format!(
            "SELECT {} FROM connections c JOIN devices d ON d.id = c.device_key WHERE {condition} LIMIT ?2",
            rows::device_columns!()
        );
        let devices = self.rows(&sql, (value, limit), rows::device)?.into_iter();
        Ok(devices.filter_map(|device| device.presence.map(|presence| (device.identity, presence))).collect())
    }
}
