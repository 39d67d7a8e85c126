//! Steps on devices.

use covey_core::device::{Device, NewDevice, Presence, Tag};
use covey_core::id::{DeviceId, DeviceKey, OrgId};
use covey_core::port::TxResult;
use covey_core::task::{DeviceRef, Target};
use rusqlite::OptionalExtension;

use crate::sqlite::transaction::SqliteTransaction;
use crate::sqlite::{reader, rows};

impl SqliteTransaction<'_> {
    pub(super) fn read_target(&self, org: OrgId, device: &DeviceRef) -> TxResult<Option<Target>> {
        let identity = match device {
            DeviceRef::Id(id) => self.sql(
                "SELECT id, org_id, device_id, sn FROM devices \
                 WHERE org_id = ?1 AND device_id = ?2 AND retired_at IS NULL",
                |statement| statement.query_row((org.0, id.0), rows::identity).optional(),
            ),
            DeviceRef::Sn(sn) => self.sql(
                "SELECT id, org_id, device_id, sn FROM devices \
                 WHERE org_id = ?1 AND sn = ?2 AND retired_at IS NULL",
                |statement| statement.query_row((org.0, sn.as_str()), rows::identity).optional(),
            ),
        }?;
        Ok(identity.map(|device| Target {
            org: device.org,
            device: device.device,
            device_id: device.device_id,
            sn: device.sn,
        }))
    }

    pub(super) fn read_device(&self, org: OrgId, device_id: DeviceId) -> TxResult<Option<Device>> {
        self.try_sql(|connection| {
            let sql = format!(
                "SELECT {} FROM devices d LEFT JOIN connections c ON c.device_key = d.id \
                 WHERE d.org_id = ?1 AND d.device_id = ?2 AND d.retired_at IS NULL",
                rows::DEVICE_COLUMNS
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let device = statement.query_row((org.0, device_id.0), rows::device).optional()?;
            device.map(|device| reader::with_tags(connection, device)).transpose()
        })
    }

    pub(super) fn write_new_device(&self, device: &NewDevice) -> TxResult<DeviceKey> {
        let key = self.sql(
            "INSERT INTO devices (org_id, device_id, sn, created_at) VALUES (?1, ?2, ?3, ?4)",
            |statement| {
                let values = (device.org.0, device.device_id.0, device.sn.as_str(), device.created_at.0);
                statement.insert(values).map(DeviceKey)
            },
        )?;
        for tag in &device.tags {
            self.write_tag(key, tag)?;
        }
        Ok(key)
    }

    pub(super) fn write_retirement(&self, device: DeviceKey) -> TxResult<()> {
        for sql in [
            "UPDATE devices SET retired_at = ?2 WHERE id = ?1 AND retired_at IS NULL",
            "UPDATE certificates SET revoked_at = ?2 WHERE device_key = ?1 AND revoked_at IS NULL",
        ] {
            self.sql(sql, |statement| statement.execute((device.0, self.now.0)))?;
        }
        Ok(())
    }

    pub(super) fn write_tag(&self, device: DeviceKey, tag: &Tag) -> TxResult<i64> {
        self.sql(
            "INSERT INTO device_tags (org_id, device_key, tag, value) \
             SELECT org_id, id, ?2, ?3 FROM devices WHERE id = ?1 \
             ON CONFLICT DO UPDATE SET value = excluded.value RETURNING id",
            |statement| statement.query_row((device.0, &tag.tag, &tag.value), |row| row.get(0)),
        )
    }

    /// Keeps the instant of the last connect when the device goes. Answers
    /// whether it was news.
    pub(super) fn write_presence(&self, device: DeviceKey, presence: &Presence) -> TxResult<bool> {
        let details = serde_json::to_string(&presence.details).unwrap_or_else(|_| "[]".to_owned());
        self.sql(
            "INSERT INTO connections (device_key, org_id, online, connected_at, checked_at, details, session, \
             server, reason) SELECT id, org_id, ?2, ?3, ?4, ?5, ?6, ?7, ?8 FROM devices WHERE id = ?1 \
             ON CONFLICT DO UPDATE SET online = excluded.online, checked_at = excluded.checked_at, \
             details = excluded.details, connected_at = coalesce(excluded.connected_at, connected_at), \
             session = excluded.session, server = excluded.server, reason = excluded.reason \
             WHERE CASE WHEN excluded.online THEN NOT online OR session <> excluded.session \
             ELSE online AND session = excluded.session END",
            |statement| {
                let connected_at = presence.connected_at.map(|at| at.0);
                let values = (
                    device.0,
                    presence.online,
                    connected_at,
                    presence.checked_at.0,
                    details,
                    &presence.session,
                    &presence.server,
                    presence.reason.name(),
                );
                Ok(statement.execute(values)? > 0)
            },
        )
    }
}
