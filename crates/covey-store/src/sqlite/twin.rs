//! Twins.

use covey_core::access::Caller;
use covey_core::device::DeviceIdentity;
use covey_core::id::{DeviceId, DeviceKey, OrgId};
use covey_core::port::{Found, ReadKind, Turn, TxResult};
use covey_core::twin::{ReportedValue, Twin, TwinReader, TwinResource, TwinSteps, TwinVersions};
use rusqlite::{Connection, params};

use crate::rows;
use crate::sqlite::Sqlite;
use crate::sqlite::device::DEVICE_OF_ID;
use crate::sqlite::statement::{Ask, within};
use crate::sqlite::transaction::SqliteTransaction;

/// How often either side of a twin has changed: device.
const TWIN_VERSIONS: &str = "SELECT reported_version, desired_version FROM twins WHERE device_key = ?1";

/// All resources of a device, in the order of their names.
const TWIN_RESOURCES: &str = concat!(
    "SELECT ",
    rows::twin_resource_columns!(),
    " FROM twin_resources r WHERE r.device_key = ?1 ORDER BY r.name"
);

impl TwinReader for Sqlite {
    fn twin_get(&self, caller: &Caller, device: DeviceId) -> Found<'_, Option<Twin>> {
        let org = caller.org;
        self.read(ReadKind::Twin, Turn::Org(org), move |connection| {
            let snapshot = connection.unchecked_transaction()?;
            let Some(device) = identity(&snapshot, org, device)? else { return Ok(None) };
            let versions = snapshot.row(TWIN_VERSIONS, [device.device.0], rows::twin_versions)?;
            let versions = versions.unwrap_or_default();
            let resources = snapshot.rows(TWIN_RESOURCES, [device.device.0], rows::twin_resource)?;
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
    ) -> Found<'_, Option<Vec<ReportedValue>>> {
        let org = caller.org;
        self.read(ReadKind::TwinHistory, Turn::Org(org), move |connection| {
            let snapshot = connection.unchecked_transaction()?;
            let Some(device) = identity(&snapshot, org, device)? else { return Ok(None) };
            let mut statement = snapshot.prepare_cached(
                "SELECT value, version, at FROM twin_history \
                 WHERE device_key = ?1 AND name = ?2 AND version < ?3 ORDER BY version DESC LIMIT ?4",
            )?;
            let found = statement.query((device.device.0, resource, before.unwrap_or(i64::MAX), limit))?;
            let bytes = |value: &ReportedValue| value.value.as_ref().map_or(0, |value| value.len());
            Ok(Some(within(found, rows::reported_value, bytes)?.items))
        })
    }
}

fn identity(
    connection: &Connection,
    org: OrgId,
    device: DeviceId,
) -> rusqlite::Result<Option<DeviceIdentity>> {
    connection.row(DEVICE_OF_ID, (org.0, device.0), rows::identity)
}

impl TwinSteps for SqliteTransaction<'_> {
    fn twin_versions(&mut self, device: DeviceKey) -> TxResult<TwinVersions> {
        Ok(self.row(TWIN_VERSIONS, [device.0], rows::twin_versions)?.unwrap_or_default())
    }

    fn twin_versions_put(&mut self, device: DeviceKey, versions: TwinVersions) -> TxResult<()> {
        let sql = "INSERT OR REPLACE INTO twins (device_key, reported_version, desired_version) VALUES (?1, ?2, ?3)";
        self.change(sql, (device.0, versions.reported, versions.desired)).map(drop)
    }

    fn twin_reported(&mut self, device: DeviceKey) -> TxResult<TwinVersions> {
        let sql = "INSERT INTO twins (device_key, reported_version, desired_version) VALUES (?1, 1, 0) \
             ON CONFLICT DO UPDATE SET reported_version = reported_version + 1 \
             RETURNING reported_version, desired_version";
        self.only(sql, [device.0], rows::twin_versions)
    }

    fn twin_resource(&mut self, device: DeviceKey, name: &str) -> TxResult<Option<TwinResource>> {
        let sql = concat!(
            "SELECT ",
            rows::twin_resource_columns!(),
            " FROM twin_resources r WHERE r.device_key = ?1 AND r.name = ?2"
        );
        self.row(sql, (device.0, name), rows::twin_resource)
    }

    fn twin_resources(&mut self, device: DeviceKey) -> TxResult<Vec<TwinResource>> {
        self.rows(TWIN_RESOURCES, [device.0], rows::twin_resource)
    }

    fn twin_resource_count(&mut self, device: DeviceKey) -> TxResult<u32> {
        let sql = "SELECT count(*) FROM twin_resources WHERE device_key = ?1";
        self.only(sql, [device.0], |row| rows::number(row, 0))
    }

    fn twin_resource_put(&mut self, device: DeviceKey, resource: &TwinResource) -> TxResult<()> {
        let TwinResource { name, reported, desired } = resource;
        if reported.is_none() && desired.is_none() {
            let sql = "DELETE FROM twin_resources WHERE device_key = ?1 AND name = ?2";
            return self.change(sql, (device.0, name)).map(drop);
        }
        let put = self.change(
            "INSERT OR REPLACE INTO twin_resources (device_key, name, reported, reported_version, reported_at, \
             desired, desired_version, desired_at, desired_task) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                device.0,
                name,
                reported.as_ref().and_then(|reported| reported.value.as_deref()),
                reported.as_ref().map(|reported| reported.version),
                reported.as_ref().map(|reported| reported.at.0),
                desired.as_ref().map(|desired| &*desired.value),
                desired.as_ref().map(|desired| desired.version),
                desired.as_ref().map(|desired| desired.at.0),
                desired.as_ref().map(|desired| desired.task.0.as_bytes().as_slice()),
            ],
        );
        put.map(drop)
    }

    fn twin_history_insert(
        &mut self,
        device: &DeviceIdentity,
        name: &str,
        value: &ReportedValue,
    ) -> TxResult<()> {
        let inserted = self.change(
            "INSERT INTO twin_history (org_id, device_key, name, version, at, value) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            (device.org.0, device.device.0, name, value.version, value.at.0, value.value.as_deref()),
        );
        inserted.map(drop)
    }
}
