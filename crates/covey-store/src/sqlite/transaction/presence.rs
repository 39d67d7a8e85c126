//! Steps on the coming and going of devices.

use covey_core::device::{DeviceIdentity, Presence};
use covey_core::id::{DeviceKey, UnixMs};
use covey_core::port::TxResult;
use covey_core::presence::{PresenceSteps, PresenceTold};
use rusqlite::{OptionalExtension, ToSql};

use crate::sqlite::rows;
use crate::sqlite::transaction::SqliteTransaction;

impl PresenceSteps for SqliteTransaction<'_> {
    fn presence_put(&mut self, device: DeviceKey, presence: &Presence) -> TxResult<bool> {
        self.write_presence(device, presence)
    }

    fn presence_told(&mut self, device: DeviceKey) -> TxResult<PresenceTold> {
        self.sql(
            "SELECT told_online, told_changes, told_since, told_due FROM connections WHERE device_key = ?1",
            |statement| {
                let told = statement.query_row([device.0], |row| {
                    Ok(PresenceTold {
                        online: row.get(0)?,
                        changes: rows::number(row, 1)?,
                        since: UnixMs(row.get(2)?),
                        due: row.get::<_, Option<i64>>(3)?.map(UnixMs),
                    })
                });
                told.optional().map(Option::unwrap_or_default)
            },
        )
    }

    fn presence_told_put(&mut self, device: DeviceKey, told: &PresenceTold) -> TxResult<()> {
        self.sql(
            "UPDATE connections SET told_online = ?2, told_changes = ?3, told_since = ?4, told_due = ?5 \
             WHERE device_key = ?1",
            |statement| {
                let values = (device.0, told.online, told.changes, told.since.0, told.due.map(|due| due.0));
                statement.execute(values).map(drop)
            },
        )
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
            rows::DEVICE_COLUMNS
        );
        self.sql(&sql, |statement| {
            let devices = statement.query_map((value, limit), rows::device)?;
            let devices = devices.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(devices
                .into_iter()
                .filter_map(|device| device.presence.map(|presence| (device.identity, presence)))
                .collect())
        })
    }
}
