//! Devices, their tags and certificates.

use covey_core::access::Caller;
use covey_core::device::{
    CertificateRecord, Device, DeviceFilter, DeviceIdentity, DevicePage, DeviceReader, DeviceSteps,
    NamedDevice, NewDevice, Tag, TaggedDevice, TagsOf,
};
use covey_core::id::{DeviceId, DeviceKey, OrgId, Sn};
use covey_core::port::{Entries, Filling, Found, Page, PageRequest, ReadKind, Turn, TxResult};
use covey_core::task::{DeviceRef, Target};
use rusqlite::Connection;

use crate::rows::{self, ListColumns, ListScope};
use crate::sqlite::Sqlite;
use crate::sqlite::conditions::Conditions;
use crate::sqlite::statement::Ask;
use crate::sqlite::transaction::SqliteTransaction;

/// A device by its number: organisation, number.
pub(super) const DEVICE_OF_ID: &str = "SELECT id, org_id, device_id, sn FROM devices \
     WHERE org_id = ?1 AND device_id = ?2 AND retired_at IS NULL";

impl DeviceReader for Sqlite {
    fn device_list(
        &self,
        caller: &Caller,
        filter: DeviceFilter,
        page: PageRequest,
        bytes_max: usize,
    ) -> Found<'_, DevicePage> {
        let (org, scope) = (caller.org, ListScope::of(caller, ListColumns::DEVICES));
        self.read(ReadKind::of_devices(&filter).within(scope.is_some()), Turn::Org(org), move |connection| {
            device_page(connection, org, scope.as_ref(), &filter, page, bytes_max)
        })
    }

    fn device_tags(&self, caller: &Caller, device: TagsOf) -> Found<'_, Option<TaggedDevice>> {
        let (sql, number) = match device {
            TagsOf::Key(DeviceKey(key)) => (rows::TAGS_OF_KEY, key),
            TagsOf::Id(DeviceId(id)) => (rows::TAGS_OF_ID, id),
        };
        let org = caller.org;
        self.read(ReadKind::DeviceTags, Turn::Org(org), move |connection| {
            Ok(rows::tagged_device(connection.rows(sql, (number, org.0), rows::tagged)?))
        })
    }

    fn device_of_name_of_every_org(&self, sn: Sn) -> Found<'_, Option<NamedDevice>> {
        let values = [sn.as_str().to_owned()];
        self.row(ReadKind::DeviceOfName, Turn::Server, rows::DEVICE_OF_NAME, values, rows::named_device)
    }

    fn device_of_sn_of_every_org(&self, sn: Sn) -> Found<'_, Option<DeviceIdentity>> {
        let values = [sn.as_str().to_owned()];
        self.row(ReadKind::DeviceOfSn, Turn::Server, rows::DEVICE_OF_SN, values, rows::identity)
    }

    fn device_sns_of_every_org(&self, after: Option<Sn>, limit: u32) -> Found<'_, Vec<Sn>> {
        let after = after.as_ref().map_or("", Sn::as_str).to_owned();
        self.rows(ReadKind::DeviceSns, Turn::Server, rows::DEVICE_SNS, (after, limit), rows::first)
    }

    fn device_of_certificate_of_every_org(
        &self,
        sn: Sn,
        serial_hex: String,
    ) -> Found<'_, Option<DeviceIdentity>> {
        let values = (serial_hex, sn.as_str().to_owned());
        let kind = ReadKind::DeviceOfCertificate;
        self.row(kind, Turn::Server, rows::DEVICE_OF_CERTIFICATE, values, rows::identity)
    }
}

/// A device with its tags.
fn with_tags(connection: &Connection, mut device: Device) -> rusqlite::Result<Device> {
    let sql = "SELECT tag, value FROM device_tags WHERE device_key = ?1 ORDER BY tag";
    device.tags = connection.rows(sql, [device.identity.device.0], rows::tag)?;
    Ok(device)
}

/// A device with the name of the node that it is.
fn with_node(connection: &Connection, mut device: Device) -> rusqlite::Result<Device> {
    let sql = "SELECT gateway, uid FROM nodes WHERE device_key = ?1";
    device.node = connection.row(sql, [device.identity.device.0], rows::node_name)?;
    Ok(device)
}

fn device_page(
    connection: &Connection,
    org: OrgId,
    scope: Option<&ListScope>,
    filter: &DeviceFilter,
    page: PageRequest,
    bytes_max: usize,
) -> rusqlite::Result<DevicePage> {
    let mut conditions = Conditions::default();
    conditions.add("d.org_id = ?", org.0);
    conditions.add_scope(scope);
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
    let total = format!("SELECT count(*) FROM {from} WHERE d.retired_at IS NULL AND {clause}");
    let total = conditions.total(&snapshot, &total)?;
    let sql = format!(
        "SELECT {} FROM {from} WHERE d.retired_at IS NULL AND {clause} ORDER BY d.device_id \
         LIMIT {} OFFSET {}",
        rows::device_columns!(),
        page.size,
        page.offset()
    );
    let mut filling = Filling::up_to(bytes_max);
    for device in conditions.rows(&snapshot, &sql, rows::device)? {
        let device = with_node(&snapshot, with_tags(&snapshot, device)?)?;
        let bytes = rows::tag_bytes(&device);
        if !filling.add(device, bytes) {
            break;
        }
    }
    let Entries { items, is_cut } = filling.done();
    Ok(Page { items, total, is_cut })
}

impl DeviceSteps for SqliteTransaction<'_> {
    fn device_target(&mut self, org: OrgId, device: &DeviceRef) -> TxResult<Option<Target>> {
        match device {
            DeviceRef::Id(id) => self.row(DEVICE_OF_ID, (org.0, id.0), rows::target),
            DeviceRef::Sn(sn) => self.row(
                "SELECT id, org_id, device_id, sn FROM devices \
                 WHERE org_id = ?1 AND sn = ?2 AND retired_at IS NULL",
                (org.0, sn.as_str()),
                rows::target,
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
            let device = connection.row(&sql, (org.0, device_id.0), rows::device)?;
            device.map(|device| with_tags(connection, device)).transpose()
        })
    }

    fn sn_is_taken(&mut self, sn: &Sn) -> TxResult<bool> {
        self.exists(rows::SN_IS_TAKEN, [sn.as_str()])
    }

    fn device_of_name(&mut self, sn: &Sn) -> TxResult<Option<NamedDevice>> {
        self.row(rows::DEVICE_OF_NAME, [sn.as_str()], rows::named_device)
    }

    fn device_id_free(&mut self, org: OrgId) -> TxResult<DeviceId> {
        self.only(rows::DEVICE_ID_FREE, [org.0], rows::first)
    }

    fn device_insert(&mut self, device: &NewDevice) -> TxResult<DeviceKey> {
        let key = DeviceKey(self.insert(
            "INSERT INTO devices (org_id, device_id, sn, created_at, kind) VALUES (?1, ?2, ?3, ?4, ?5)",
            (device.org.0, device.device_id.0, device.sn.as_str(), device.created_at.0, device.kind as i64),
        )?);
        for tag in &device.tags {
            self.tag_put(key, tag)?;
        }
        Ok(key)
    }

    fn device_retire(&mut self, device: DeviceKey) -> TxResult<()> {
        for sql in [rows::DEVICE_RETIRE, rows::CERTIFICATES_REVOKE] {
            self.change(sql, (self.now.0, device.0))?;
        }
        Ok(())
    }

    fn device_tags(&mut self, device: DeviceKey) -> TxResult<Vec<Tag>> {
        let sql = "SELECT tag, value FROM device_tags WHERE device_key = ?1 ORDER BY tag";
        self.rows(sql, [device.0], rows::tag)
    }

    fn tag_put(&mut self, device: DeviceKey, tag: &Tag) -> TxResult<i64> {
        self.only(
            "INSERT INTO device_tags (org_id, device_key, tag, value) \
             SELECT org_id, id, ?2, ?3 FROM devices WHERE id = ?1 \
             ON CONFLICT DO UPDATE SET value = excluded.value RETURNING id",
            (device.0, &tag.tag, &tag.value),
            rows::first,
        )
    }

    fn tags_beside(&mut self, device: DeviceKey, tag: &str) -> TxResult<u32> {
        self.only(rows::TAGS_BESIDE, (device.0, tag), |row| rows::number(row, 0))
    }

    fn certificate_insert(&mut self, device: DeviceKey, certificate: &CertificateRecord) -> TxResult<()> {
        let inserted = self.change(
            "INSERT INTO certificates (serial, device_key, org_id, issued_at, not_after) \
             SELECT ?1, id, org_id, ?3, ?4 FROM devices WHERE id = ?2",
            (&certificate.serial_hex, device.0, self.now.0, certificate.not_after.0),
        );
        inserted.map(drop)
    }
}
