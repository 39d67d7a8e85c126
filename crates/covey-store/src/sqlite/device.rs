//! Devices, their tags and certificates.

use covey_core::access::Caller;
use covey_core::device::{
    CertificateRecord, Device, DeviceFilter, DeviceIdentity, DevicePage, DeviceReader, DeviceSteps,
    NewDevice, Tag,
};
use covey_core::error::Result;
use covey_core::id::{DeviceId, DeviceKey, OrgId, Sn};
use covey_core::port::{BoxFuture, Page, PageRequest, TxResult};
use covey_core::task::{DeviceRef, Target};
use rusqlite::{Connection, OptionalExtension};

use crate::rows;
use crate::sqlite::conditions::Conditions;
use crate::sqlite::transaction::SqliteTransaction;
use crate::sqlite::{Sqlite, by};

impl DeviceReader for Sqlite {
    fn device_list(
        &self,
        caller: &Caller,
        filter: DeviceFilter,
        page: PageRequest,
    ) -> BoxFuture<'_, Result<DevicePage>> {
        let org = caller.org;
        self.read(move |connection| device_page(connection, org, &filter, page))
    }

    fn device_of_sn_of_every_org(&self, sn: Sn) -> BoxFuture<'_, Result<Option<DeviceIdentity>>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(rows::DEVICE_OF_SN)?;
            statement.query_row([sn.as_str()], by(rows::identity)).optional()
        })
    }

    fn device_sns_of_every_org(&self, after: Option<Sn>, limit: u32) -> BoxFuture<'_, Result<Vec<Sn>>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(rows::DEVICE_SNS)?;
            let after = after.as_ref().map_or("", Sn::as_str);
            statement.query_map((after, limit), by(rows::first))?.collect()
        })
    }

    fn device_of_certificate_of_every_org(
        &self,
        sn: Sn,
        serial_hex: String,
    ) -> BoxFuture<'_, Result<Option<DeviceIdentity>>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(rows::DEVICE_OF_CERTIFICATE)?;
            statement.query_row((serial_hex, sn.as_str()), by(rows::identity)).optional()
        })
    }
}

/// A device with its tags.
fn with_tags(connection: &Connection, mut device: Device) -> rusqlite::Result<Device> {
    let mut statement =
        connection.prepare_cached("SELECT tag, value FROM device_tags WHERE device_key = ?1 ORDER BY tag")?;
    let tags = statement.query_map([device.identity.device.0], by(rows::tag))?;
    device.tags = tags.collect::<rusqlite::Result<_>>()?;
    Ok(device)
}

fn device_page(
    connection: &Connection,
    org: OrgId,
    filter: &DeviceFilter,
    page: PageRequest,
) -> rusqlite::Result<DevicePage> {
    let mut conditions = Conditions::default();
    conditions.add("d.org_id = ?", org.0);
    conditions.add_if("d.device_id = ?", filter.device_id.map(|id| id.0));
    conditions.add_if("d.sn = ?", filter.sn.clone());
    conditions.add_if("coalesce(c.online, 0) = ?", filter.online);
    match filter.tag.clone() {
        None => {}
        Some((tag, None)) => {
            conditions.add("d.id IN (SELECT device_key FROM device_tags WHERE tag = ?)", tag);
        }
        Some((tag, Some(value))) => {
            conditions.add("d.id IN (SELECT device_key FROM device_tags WHERE tag = ?", tag);
            conditions.add("value = ?)", value);
        }
    }
    let clause = conditions.clause();
    let from = "devices d LEFT JOIN connections c ON c.device_key = d.id";
    let snapshot = connection.unchecked_transaction()?;
    let total: i64 = snapshot
        .prepare_cached(&format!("SELECT count(*) FROM {from} WHERE d.retired_at IS NULL AND {clause}"))?
        .query_row(conditions.parameters().as_slice(), |row| row.get(0))?;
    let sql = format!(
        "SELECT {} FROM {from} WHERE d.retired_at IS NULL AND {clause} ORDER BY d.device_id \
         LIMIT {} OFFSET {}",
        rows::device_columns!(),
        page.size,
        page.offset()
    );
    let mut statement = snapshot.prepare(&sql)?;
    let devices = statement.query_map(conditions.parameters().as_slice(), by(rows::device))?;
    let items = devices.map(|device| with_tags(&snapshot, device?)).collect::<rusqlite::Result<_>>()?;
    Ok(Page { items, total: u64::try_from(total).unwrap_or(0) })
}

impl DeviceSteps for SqliteTransaction<'_> {
    fn device_target(&mut self, org: OrgId, device: &DeviceRef) -> TxResult<Option<Target>> {
        match device {
            DeviceRef::Id(id) => self.sql(
                "SELECT id, org_id, device_id, sn FROM devices \
                 WHERE org_id = ?1 AND device_id = ?2 AND retired_at IS NULL",
                |statement| statement.query_row((org.0, id.0), by(rows::target)).optional(),
            ),
            DeviceRef::Sn(sn) => self.sql(
                "SELECT id, org_id, device_id, sn FROM devices \
                 WHERE org_id = ?1 AND sn = ?2 AND retired_at IS NULL",
                |statement| statement.query_row((org.0, sn.as_str()), by(rows::target)).optional(),
            ),
        }
    }

    fn device(&mut self, org: OrgId, device_id: DeviceId) -> TxResult<Option<Device>> {
        self.try_sql(|connection| {
            let sql = format!(
                "SELECT {} FROM devices d LEFT JOIN connections c ON c.device_key = d.id \
                 WHERE d.org_id = ?1 AND d.device_id = ?2 AND d.retired_at IS NULL",
                rows::device_columns!()
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let device = statement.query_row((org.0, device_id.0), by(rows::device)).optional()?;
            device.map(|device| with_tags(connection, device)).transpose()
        })
    }

    fn sn_is_taken(&mut self, sn: &Sn) -> TxResult<bool> {
        self.sql(rows::SN_IS_TAKEN, |statement| statement.exists([sn.as_str()]))
    }

    fn device_id_free(&mut self, org: OrgId) -> TxResult<DeviceId> {
        self.sql(rows::DEVICE_ID_FREE, |statement| statement.query_row([org.0], by(rows::first)))
    }

    fn device_insert(&mut self, device: &NewDevice) -> TxResult<DeviceKey> {
        let key = self.sql(
            "INSERT INTO devices (org_id, device_id, sn, created_at) VALUES (?1, ?2, ?3, ?4)",
            |statement| {
                let values = (device.org.0, device.device_id.0, device.sn.as_str(), device.created_at.0);
                statement.insert(values).map(DeviceKey)
            },
        )?;
        for tag in &device.tags {
            self.tag_put(key, tag)?;
        }
        Ok(key)
    }

    fn device_retire(&mut self, device: DeviceKey) -> TxResult<()> {
        for sql in [rows::DEVICE_RETIRE, rows::CERTIFICATES_REVOKE] {
            self.sql(sql, |statement| statement.execute((self.now.0, device.0)))?;
        }
        Ok(())
    }

    fn tag_put(&mut self, device: DeviceKey, tag: &Tag) -> TxResult<i64> {
        self.sql(
            "INSERT INTO device_tags (org_id, device_key, tag, value) \
             SELECT org_id, id, ?2, ?3 FROM devices WHERE id = ?1 \
             ON CONFLICT DO UPDATE SET value = excluded.value RETURNING id",
            |statement| statement.query_row((device.0, &tag.tag, &tag.value), |row| row.get(0)),
        )
    }

    fn tags_beside(&mut self, device: DeviceKey, tag: &str) -> TxResult<u32> {
        self.sql(rows::TAGS_BESIDE, |statement| statement.query_row((device.0, tag), |row| row.get(0)))
    }

    fn certificate_insert(&mut self, device: DeviceKey, certificate: &CertificateRecord) -> TxResult<()> {
        self.sql(
            "INSERT INTO certificates (serial, device_key, org_id, issued_at, not_after) \
             SELECT ?1, id, org_id, ?3, ?4 FROM devices WHERE id = ?2",
            |statement| {
                let values = (&certificate.serial_hex, device.0, self.now.0, certificate.not_after.0);
                statement.execute(values).map(drop)
            },
        )
    }
}
