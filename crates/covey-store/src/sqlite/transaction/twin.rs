//! Steps on twins.

use covey_core::id::DeviceKey;
use covey_core::port::TxResult;
use covey_core::twin::{ReportedValue, TwinResource, TwinSteps, TwinVersions};
use rusqlite::{OptionalExtension, params};

use crate::sqlite::rows;
use crate::sqlite::transaction::SqliteTransaction;

impl TwinSteps for SqliteTransaction<'_> {
    fn twin_versions(&mut self, device: DeviceKey) -> TxResult<TwinVersions> {
        self.sql("SELECT reported_version, desired_version FROM twins WHERE device_key = ?1", |statement| {
            let versions = statement.query_row([device.0], rows::twin_versions);
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
        let sql = format!(
            "SELECT {} FROM twin_resources r WHERE r.device_key = ?1 AND r.name = ?2",
            rows::TWIN_RESOURCE_COLUMNS
        );
        self.sql(&sql, |statement| statement.query_row((device.0, name), rows::twin_resource).optional())
    }

    fn twin_resources(&mut self, device: DeviceKey) -> TxResult<Vec<TwinResource>> {
        self.try_sql(|connection| rows::twin_resources(connection, device))
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
