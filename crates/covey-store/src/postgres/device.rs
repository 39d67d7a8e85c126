//! Devices, their tags and certificates. Steps on them are rare, so each is a statement of its own.

use covey_core::access::Caller;
use covey_core::device::{
    CertificateRecord, Device, DeviceFilter, DeviceIdentity, DevicePage, DeviceReader, DeviceSteps,
    NewDevice, Tag,
};
use covey_core::error::Result;
use covey_core::id::{DeviceId, DeviceKey, OrgId, Sn};
use covey_core::port::{BoxFuture, Page, PageRequest, TxResult};
use covey_core::task::{DeviceRef, Target};
use tokio_postgres::types::Type;

use crate::postgres::Postgres;
use crate::postgres::lists::{Conditions, page};
use crate::postgres::locks::LockClass;
use crate::postgres::pipeline::{Reply, execute, query};
use crate::postgres::pool::ReadSession;
use crate::postgres::reader::Values;
use crate::postgres::statements::prepared;
use crate::postgres::write::transaction::PostgresTransaction;
use crate::postgres::write::transaction_cache::Name;
use crate::rows::{self, Columns, Damaged, Read};

/// The columns of a device, in the order that [`device`] reads them.
macro_rules! device_columns {
    () => {
        concat!(
            rows::device_columns!(),
            ", (SELECT coalesce(json_agg(json_build_array(g.tag, g.value) ORDER BY g.tag), '[]') \
         ::text FROM device_tags g WHERE g.device_key = d.id)"
        )
    };
}

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// Devices by their numbers, with how many open tasks each has up to a bound.
        targets_by_id: "SELECT d.id, d.org_id, d.device_id, d.sn, (SELECT count(*) FROM \
             (SELECT 1 FROM tasks_open t WHERE t.device_key = d.id LIMIT n.bound) AS o) \
             FROM unnest($1::int8[], $2::int8[], $3::int8[]) AS n (org_id, device_id, bound) \
             JOIN devices d ON d.org_id = n.org_id AND d.device_id = n.device_id AND d.retired_at IS NULL";
        /// The same by their serial numbers.
        targets_by_sn: "SELECT d.id, d.org_id, d.device_id, d.sn, (SELECT count(*) FROM \
             (SELECT 1 FROM tasks_open t WHERE t.device_key = d.id LIMIT n.bound) AS o) \
             FROM unnest($1::int8[], $2::text[], $3::int8[]) AS n (org_id, sn, bound) \
             JOIN devices d ON d.sn = n.sn AND d.org_id = n.org_id AND d.retired_at IS NULL";
        /// A device with its connection and its tags.
        device: concat!("SELECT ", device_columns!(), " FROM devices d \
             LEFT JOIN connections c ON c.device_key = d.id \
             WHERE d.org_id = $1 AND d.device_id = $2 AND d.retired_at IS NULL FOR NO KEY UPDATE OF d");
        /// Whether a serial number is taken.
        sn_is_taken: rows::SN_IS_TAKEN;
        /// Waits for those who are giving a device of an organisation its number.
        device_id_lock: "SELECT pg_advisory_xact_lock($1::int4, hashint8($2::int8))";
        /// The next free number of an organisation.
        device_id_free: rows::DEVICE_ID_FREE;
        /// A new device.
        device_insert: "INSERT INTO devices (org_id, device_id, sn, created_at) VALUES ($1, $2, $3, $4) RETURNING id";
        /// Retires a device.
        device_retire: rows::DEVICE_RETIRE;
        /// Revokes its certificates.
        certificates_revoke: rows::CERTIFICATES_REVOKE;
        /// Sets a tag.
        tag_put: "INSERT INTO device_tags (org_id, device_key, tag, value) SELECT org_id, id, $2::text, $3::text FROM devices \
             WHERE id = $1 ON CONFLICT (device_key, tag) DO UPDATE SET value = excluded.value RETURNING id";
        /// How many other tags a device has.
        tags_beside: rows::TAGS_BESIDE;
        /// Remembers a certificate.
        certificate_insert: "INSERT INTO certificates (serial, device_key, org_id, issued_at, not_after) \
             SELECT $1::text, id, org_id, $3::int8, $4::int8 FROM devices WHERE id = $2";
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// The device with a certificate that is registered under a serial number.
        device_of_sn: rows::DEVICE_OF_SN;
        /// Serial numbers of devices with a certificate: after, limit.
        device_sns: rows::DEVICE_SNS;
        /// Who a certificate belongs to: serial number, SN.
        device_of_certificate: rows::DEVICE_OF_CERTIFICATE;
    }
}

impl DeviceReader for Postgres {
    fn device_list(
        &self,
        caller: &Caller,
        filter: DeviceFilter,
        page: PageRequest,
    ) -> BoxFuture<'_, Result<DevicePage>> {
        let org = caller.org;
        self.reads.read(move |session| {
            let filter = filter.clone();
            Box::pin(async move { device_page(session, org, &filter, page).await })
        })
    }

    fn device_of_sn_of_every_org(&self, sn: Sn) -> BoxFuture<'_, Result<Option<DeviceIdentity>>> {
        self.row(|sql| &sql.device.device_of_sn, vec![Box::new(sn.as_str().to_owned())], rows::identity)
    }

    fn device_sns_of_every_org(&self, after: Option<Sn>, limit: u32) -> BoxFuture<'_, Result<Vec<Sn>>> {
        let after = after.as_ref().map_or("", Sn::as_str).to_owned();
        let values: Values = vec![Box::new(after), Box::new(i64::from(limit))];
        self.rows(|sql| &sql.device.device_sns, values, rows::first)
    }

    fn device_of_certificate_of_every_org(
        &self,
        sn: Sn,
        serial_hex: String,
    ) -> BoxFuture<'_, Result<Option<DeviceIdentity>>> {
        let values: Values = vec![Box::new(serial_hex), Box::new(sn.as_str().to_owned())];
        self.row(|sql| &sql.device.device_of_certificate, values, rows::identity)
    }
}

pub(crate) async fn device_page(
    session: &ReadSession,
    org: OrgId,
    filter: &DeviceFilter,
    request: PageRequest,
) -> Read<DevicePage> {
    let mut conditions = Conditions::default();
    conditions.number("d.org_id = #", Some(org.0));
    conditions.number("d.device_id = #", filter.device_id.map(|id| id.0));
    conditions.text("d.sn = #", filter.sn.as_deref());
    if let Some(online) = filter.online {
        conditions.add("coalesce(c.online, false) = #", online, Type::BOOL);
    }
    if let Some((tag, value)) = &filter.tag {
        let tagged = "EXISTS (SELECT 1 FROM device_tags g WHERE g.device_key = d.id AND g.org_id = d.org_id";
        conditions.text(&format!("{tagged} AND g.tag = #"), Some(tag));
        match value {
            None => conditions.sql.push("true)".to_owned()),
            Some(value) => {
                conditions.text("left(g.value, 64) = left(#, 64) AND g.value = #)", Some(value));
            }
        }
    }
    if conditions.is_impossible {
        return Ok(Page { items: Vec::new(), total: 0 });
    }
    let clause = conditions.clause();
    let from = "devices d LEFT JOIN connections c ON c.device_key = d.id";
    let total = format!("SELECT count(*) FROM {from} WHERE d.retired_at IS NULL AND {clause}");
    let columns = device_columns!();
    let items = format!(
        "SELECT {columns} FROM {from} WHERE d.retired_at IS NULL AND {clause} ORDER BY d.device_id \
         LIMIT {} OFFSET {}",
        request.size,
        request.offset()
    );
    let (total, found) = page(session, &conditions, &total, &items).await?;
    Ok(Page { items: rows::each(&found, device)?, total })
}

/// A device with its tags, from `device_columns!`.
pub(crate) fn device(row: &dyn Columns) -> Read<Device> {
    Ok(Device { tags: tags(12, rows::get(row, 12)?)?, ..rows::device(row)? })
}

/// Tags, as JSON: `[["name", "value"], …]`.
pub(crate) fn tags(column: usize, text: &str) -> Read<Vec<Tag>> {
    let tags: Vec<(String, String)> =
        serde_json::from_str(text).map_err(|_| Damaged::Value(column, "tags"))?;
    Ok(tags.into_iter().map(|(tag, value)| Tag { tag, value }).collect())
}

impl DeviceSteps for PostgresTransaction<'_> {
    fn device_target(&mut self, org: OrgId, device: &DeviceRef) -> TxResult<Option<Target>> {
        let wanted = (org, Name::from(device));
        if let Some(known) = self.cache.targets.get(&wanted) {
            return Ok(known.clone());
        }
        let (client, sql) = (&self.session.client, &self.session.sql);
        let none: Vec<i64> = vec![0];
        let step = match device {
            DeviceRef::Id(id) => query(
                client,
                &sql.device.targets_by_id,
                vec![Box::new(vec![org.0]), Box::new(vec![id.0]), Box::new(none)],
            ),
            DeviceRef::Sn(sn) => query(
                client,
                &sql.device.targets_by_sn,
                vec![Box::new(vec![org.0]), Box::new(vec![sn.as_str().to_owned()]), Box::new(none)],
            ),
        };
        let rows = self.ask(step)?;
        let found = self.first(&rows, rows::target)?;
        self.cache.targets.insert(wanted, found.clone());
        Ok(found)
    }

    fn device(&mut self, org: OrgId, device_id: DeviceId) -> TxResult<Option<Device>> {
        let values = vec![Box::new(org.0) as _, Box::new(device_id.0) as _];
        let rows = self.ask(query(&self.session.client, &self.session.sql.device.device, values))?;
        self.first(&rows, device)
    }

    fn sn_is_taken(&mut self, sn: &Sn) -> TxResult<bool> {
        let values = vec![Box::new(sn.as_str().to_owned()) as _];
        Ok(!self.ask(query(&self.session.client, &self.session.sql.device.sn_is_taken, values))?.is_empty())
    }

    fn device_id_free(&mut self, org: OrgId) -> TxResult<DeviceId> {
        let (client, sql) = (&self.session.client, &self.session.sql);
        let class = LockClass::DeviceId.number();
        let steps = vec![
            query(client, &sql.device.device_id_lock, vec![Box::new(class), Box::new(org.0)]),
            query(client, &sql.device.device_id_free, vec![Box::new(org.0)]),
        ];
        let rows = self.trip(steps)?.pop().map(Reply::rows).unwrap_or_default();
        self.only(&rows, rows::first)
    }

    fn device_insert(&mut self, device: &NewDevice) -> TxResult<DeviceKey> {
        let values = vec![
            Box::new(device.org.0) as _,
            Box::new(device.device_id.0) as _,
            Box::new(device.sn.as_str().to_owned()) as _,
            Box::new(device.created_at.0) as _,
        ];
        let rows =
            self.write_and_ask(query(&self.session.client, &self.session.sql.device.device_insert, values))?;
        let key = self.only(&rows, rows::first)?;
        for tag in &device.tags {
            self.tag_put(key, tag)?;
        }
        self.cache.targets.clear();
        self.cache.has_changed_devices = true;
        Ok(key)
    }

    fn device_retire(&mut self, device: DeviceKey) -> TxResult<()> {
        let (client, sql) = (&self.session.client, &self.session.sql);
        let values = || vec![Box::new(self.now.0) as _, Box::new(device.0) as _];
        let steps = vec![
            execute(client, &sql.device.device_retire, values()),
            execute(client, &sql.device.certificates_revoke, values()),
        ];
        self.has_written = true;
        self.trip(steps)?;
        self.cache.targets.clear();
        self.cache.has_changed_devices = true;
        Ok(())
    }

    fn tag_put(&mut self, device: DeviceKey, tag: &Tag) -> TxResult<i64> {
        let values =
            vec![Box::new(device.0) as _, Box::new(tag.tag.clone()) as _, Box::new(tag.value.clone()) as _];
        let rows =
            self.write_and_ask(query(&self.session.client, &self.session.sql.device.tag_put, values))?;
        self.only(&rows, rows::first)
    }

    fn tags_beside(&mut self, device: DeviceKey, tag: &str) -> TxResult<u32> {
        let values = vec![Box::new(device.0) as _, Box::new(tag.to_owned()) as _];
        let rows = self.ask(query(&self.session.client, &self.session.sql.device.tags_beside, values))?;
        let count: i64 = self.only(&rows, rows::first)?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn certificate_insert(&mut self, device: DeviceKey, certificate: &CertificateRecord) -> TxResult<()> {
        let values = vec![
            Box::new(certificate.serial_hex.clone()) as _,
            Box::new(device.0) as _,
            Box::new(self.now.0) as _,
            Box::new(certificate.not_after.0) as _,
        ];
        self.write(execute(&self.session.client, &self.session.sql.device.certificate_insert, values))
            .map(drop)
    }
}
