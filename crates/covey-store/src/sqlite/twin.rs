//! Twins.

use covey_core::access::Caller;
use covey_core::device::DeviceIdentity;
use covey_core::error::Result;
use covey_core::id::{DeviceId, DeviceKey, OrgId};
use covey_core::port::{BoxFuture, TxResult};
use covey_core::twin::{ReportedValue, Twin, TwinReader, TwinResource, TwinSteps, TwinVersions};
use rusqlite::{Connection, OptionalExtension, params};

use crate::rows;
use crate::sqlite::transaction::SqliteTransaction;
use crate::sqlite::{Sqlite, by};

impl TwinReader for Sqlite {
    fn twin_get(&self, caller: &Caller, device: DeviceId) -> BoxFuture<'_, Result<Option<Twin>>> {
        let org = caller.org;
        self.read(move |connection| {
            let snapshot = connection.unchecked_transaction()?;
            let Some(device) = identity(&snapshot, org, device)? else { return Ok(None) };
            let versions = snapshot
                .prepare_cached("SELECT reported_version, desired_version FROM twins WHERE device_key = ?1")?
                .query_row([device.device.0], by(rows::twin_versions))
                .optional()?
                .unwrap_or_default();
            let resources = twin_resources(&snapshot, device.device)?;
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
            let values =
                statement.query_map((device.device.0, resource, before, limit), by(rows::reported_value))?;
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
    statement.query_row((org.0, device.0), by(rows::identity)).optional()
}

impl TwinSteps for SqliteTransaction<'_> {
    fn twin_versions(&mut self, device: DeviceKey) -> TxResult<TwinVersions> {
        self.sql("SELECT reported_version, desired_version FROM twins WHERE device_key = ?1", |statement| {
            let versions = statement.query_row([device.0], by(rows::twin_versions));
            versions.optional().map(Option::unwrap_or_default)
        })
    }

    fn twin_versions_put(&mut self, device: DeviceKey, versions: TwinVersions) -> TxResult<()> {
        self.sql(
            "INSERT OR REPLACE INTO twins (device_key, reported_version, desired_version) VALUES (?1, ?2, ?3)",
            |statement| statement.execute((device.0, versions.reported, versions.desired)).map(drop),
        )
    }

    fn twin_resource(&mut self, device: DeviceKey, name: &str) -> TxResult<Option<TwinResource>> {
        let sql = concat!(
            "SELECT ",
            rows::twin_resource_columns!(),
            " FROM twin_resources r WHERE r.device_key = ?1 AND r.name = ?2"
        );
        self.sql(sql, |statement| statement.query_row((device.0, name), by(rows::twin_resource)).optional())
    }

    fn twin_resources(&mut self, device: DeviceKey) -> TxResult<Vec<TwinResource>> {
        self.try_sql(|connection| twin_resources(connection, device))
    }

    fn twin_resource_put(&mut self, device: DeviceKey, resource: &TwinResource) -> TxResult<()> {
        let TwinResource { name, reported, desired } = resource;
        if reported.is_none() && desired.is_none() {
            return self.sql("DELETE FROM twin_resources WHERE device_key = ?1 AND name = ?2", |statement| {
                statement.execute((device.0, name)).map(drop)
            });
        }
        self.sql(
            "INSERT OR REPLACE INTO twin_resources (device_key, name, reported, reported_version, reported_at, \
             desired, desired_version, desired_at, desired_task) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            |statement| {
                let values = params![
                    device.0,
                    name,
                    reported.as_ref().and_then(|reported| reported.value.as_deref()),
                    reported.as_ref().map(|reported| reported.version),
                    reported.as_ref().map(|reported| reported.at.0),
                    desired.as_ref().map(|desired| &*desired.value),
                    desired.as_ref().map(|desired| desired.version),
                    desired.as_ref().map(|desired| desired.at.0),
                    desired.as_ref().map(|desired| desired.task.0.as_bytes().as_slice()),
                ];
                statement.execute(values).map(drop)
            },
        )
    }

    fn twin_history_insert(&mut self, device: DeviceKey, name: &str, value: &ReportedValue) -> TxResult<()> {
        self.sql(
            "INSERT INTO twin_history (org_id, device_key, name, version, at, value) \
             SELECT org_id, id, ?2, ?3, ?4, ?5 FROM devices WHERE id = ?1",
            |statement| {
                let values = (device.0, name, value.version, value.at.0, value.value.as_deref());
                statement.execute(values).map(drop)
            },
        )
    }
}

/// All resources of a device, in the order of their names.
fn twin_resources(connection: &Connection, device: DeviceKey) -> rusqlite::Result<Vec<TwinResource>> {
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        rows::twin_resource_columns!(),
        " FROM twin_resources r WHERE r.device_key = ?1 ORDER BY r.name"
    ))?;
    statement.query_map([device.0], by(rows::twin_resource))?.collect()
}
