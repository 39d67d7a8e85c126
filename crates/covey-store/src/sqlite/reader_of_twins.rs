//! The reads of twins and of presence.

use covey_core::access::Caller;
use covey_core::device::DeviceIdentity;
use covey_core::error::Result;
use covey_core::id::{DeviceId, DeviceKey, OrgId, UnixMs};
use covey_core::port::BoxFuture;
use covey_core::presence::PresenceReader;
use covey_core::twin::{ReportedValue, Twin, TwinReader};
use rusqlite::{Connection, OptionalExtension};

use crate::sqlite::{Sqlite, rows};

impl PresenceReader for Sqlite {
    fn presence_online_of_every_org(
        &self,
        after: DeviceKey,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<(DeviceIdentity, String)>>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT d.id, d.org_id, d.device_id, d.sn, c.session FROM connections c \
                 JOIN devices d ON d.id = c.device_key \
                 WHERE c.online = 1 AND c.device_key > ?1 ORDER BY c.device_key LIMIT ?2",
            )?;
            let online = statement.query_map((after.0, limit), |row| {
                let session = row.get(4)?;
                Ok((rows::identity(row)?, session))
            })?;
            online.collect()
        })
    }

    fn presence_due_of_every_org(&self, now: UnixMs) -> BoxFuture<'_, Result<bool>> {
        self.read(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT 1 FROM connections WHERE told_due <= ?1 LIMIT 1")?;
            statement.exists([now.0])
        })
    }
}

impl TwinReader for Sqlite {
    fn twin_get(&self, caller: &Caller, device: DeviceId) -> BoxFuture<'_, Result<Option<Twin>>> {
        let org = caller.org;
        self.read(move |connection| {
            let snapshot = connection.unchecked_transaction()?;
            let Some(device) = identity(&snapshot, org, device)? else { return Ok(None) };
            let versions = snapshot
                .prepare_cached("SELECT reported_version, desired_version FROM twins WHERE device_key = ?1")?
                .query_row([device.device.0], rows::twin_versions)
                .optional()?
                .unwrap_or_default();
            let resources = rows::twin_resources(&snapshot, device.device)?;
            Ok(Some(Twin { device, versions, resources }))
        })
    }

    fn twin_history(
        &self,
        caller: &Caller,
        device: DeviceId,
        resource: String,
        before: Option<i64>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Option<Vec<ReportedValue>>>> {
        let org = caller.org;
        self.read(move |connection| {
            let snapshot = connection.unchecked_transaction()?;
            let Some(device) = identity(&snapshot, org, device)? else { return Ok(None) };
            let mut statement = snapshot.prepare_cached(
                "SELECT value, version, at FROM twin_history \
                 WHERE device_key = ?1 AND name = ?2 AND version < ?3 ORDER BY version DESC LIMIT ?4",
            )?;
            let before = before.unwrap_or(i64::MAX);
            let values = statement.query_map((device.device.0, resource, before, limit), |row| {
                Ok(ReportedValue { value: row.get(0)?, version: row.get(1)?, at: UnixMs(row.get(2)?) })
            })?;
            values.collect::<rusqlite::Result<_>>().map(Some)
        })
    }
}

fn identity(
    connection: &Connection,
    org: OrgId,
    device: DeviceId,
) -> rusqlite::Result<Option<DeviceIdentity>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, org_id, device_id, sn FROM devices \
         WHERE org_id = ?1 AND device_id = ?2 AND retired_at IS NULL",
    )?;
    statement.query_row((org.0, device.0), rows::identity).optional()
}
