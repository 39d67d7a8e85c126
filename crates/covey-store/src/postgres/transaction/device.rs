//! Steps on devices, API keys and what organisations keep. They are rare, so each is a statement of its own.

use covey_core::access::{ApiKey, KeyDigest, Rights};
use covey_core::device::{CertificateRecord, Device, NewDevice, Tag};
use covey_core::id::{DeviceId, DeviceKey, OrgId, Sn};
use covey_core::port::TxResult;
use covey_core::retention::Kept;
use covey_core::task::{DeviceRef, Target};

use crate::postgres::lists::device;
use crate::postgres::locks::LockClass;
use crate::postgres::pipeline::{Reply, execute, query};
use crate::postgres::transaction::PostgresTransaction;
use crate::postgres::transaction::known::Name;
use crate::rows;

impl PostgresTransaction<'_> {
    pub(super) fn read_target(&mut self, org: OrgId, device: &DeviceRef) -> TxResult<Option<Target>> {
        let wanted = (org, Name::from(device));
        if let Some(known) = self.known.targets.get(&wanted) {
            return Ok(known.clone());
        }
        let (client, sql) = (&self.session.client, &self.session.sql);
        let none: Vec<i64> = vec![0];
        let step = match device {
            DeviceRef::Id(id) => query(
                client,
                &sql.targets_by_id,
                vec![Box::new(vec![org.0]), Box::new(vec![id.0]), Box::new(none)],
            ),
            DeviceRef::Sn(sn) => query(
                client,
                &sql.targets_by_sn,
                vec![Box::new(vec![org.0]), Box::new(vec![sn.as_str().to_owned()]), Box::new(none)],
            ),
        };
        let rows = self.ask(step)?;
        let found = self.first(&rows, rows::target)?;
        self.known.targets.insert(wanted, found.clone());
        Ok(found)
    }

    pub(super) fn read_device(&mut self, org: OrgId, device_id: DeviceId) -> TxResult<Option<Device>> {
        let values = vec![Box::new(org.0) as _, Box::new(device_id.0) as _];
        let rows = self.ask(query(&self.session.client, &self.session.sql.device, values))?;
        self.first(&rows, device)
    }

    pub(super) fn read_sn_is_taken(&mut self, sn: &Sn) -> TxResult<bool> {
        let values = vec![Box::new(sn.as_str().to_owned()) as _];
        Ok(!self.ask(query(&self.session.client, &self.session.sql.sn_taken, values))?.is_empty())
    }

    pub(super) fn read_device_id_free(&mut self, org: OrgId) -> TxResult<DeviceId> {
        let (client, sql) = (&self.session.client, &self.session.sql);
        let class = LockClass::DeviceId.number();
        let steps = vec![
            query(client, &sql.device_id_lock, vec![Box::new(class), Box::new(org.0)]),
            query(client, &sql.device_id_free, vec![Box::new(org.0)]),
        ];
        let rows = self.trip(steps)?.pop().map(Reply::rows).unwrap_or_default();
        self.only(&rows, rows::first)
    }

    pub(super) fn write_new_device(&mut self, device: &NewDevice) -> TxResult<DeviceKey> {
        let values = vec![
            Box::new(device.org.0) as _,
            Box::new(device.device_id.0) as _,
            Box::new(device.sn.as_str().to_owned()) as _,
            Box::new(device.created_at.0) as _,
        ];
        let rows =
            self.write_and_ask(query(&self.session.client, &self.session.sql.insert_device, values))?;
        let key = self.only(&rows, rows::first)?;
        for tag in &device.tags {
            self.write_tag(key, tag)?;
        }
        self.known.targets.clear();
        self.known.has_changed_devices = true;
        Ok(key)
    }

    pub(super) fn write_retirement(&mut self, device: DeviceKey) -> TxResult<()> {
        let (client, sql) = (&self.session.client, &self.session.sql);
        let values = || vec![Box::new(self.now.0) as _, Box::new(device.0) as _];
        let steps = vec![
            execute(client, &sql.retire_device, values()),
            execute(client, &sql.revoke_certificates, values()),
        ];
        self.has_written = true;
        self.trip(steps)?;
        self.known.targets.clear();
        self.known.has_changed_devices = true;
        Ok(())
    }

    pub(super) fn write_tag(&mut self, device: DeviceKey, tag: &Tag) -> TxResult<i64> {
        let values =
            vec![Box::new(device.0) as _, Box::new(tag.tag.clone()) as _, Box::new(tag.value.clone()) as _];
        let rows = self.write_and_ask(query(&self.session.client, &self.session.sql.put_tag, values))?;
        self.only(&rows, rows::first)
    }

    pub(super) fn read_tags_beside(&mut self, device: DeviceKey, tag: &str) -> TxResult<u32> {
        let values = vec![Box::new(device.0) as _, Box::new(tag.to_owned()) as _];
        let rows = self.ask(query(&self.session.client, &self.session.sql.tags_beside, values))?;
        let count: i64 = self.only(&rows, rows::first)?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    pub(super) fn write_certificate(
        &mut self,
        device: DeviceKey,
        certificate: &CertificateRecord,
    ) -> TxResult<()> {
        let values = vec![
            Box::new(certificate.serial_hex.clone()) as _,
            Box::new(device.0) as _,
            Box::new(self.now.0) as _,
            Box::new(certificate.not_after.0) as _,
        ];
        self.write(execute(&self.session.client, &self.session.sql.insert_certificate, values)).map(drop)
    }

    pub(super) fn write_org(&mut self, name: &str) -> TxResult<OrgId> {
        let values = vec![Box::new(name.to_owned()) as _, Box::new(self.now.0) as _];
        let rows = self.write_and_ask(query(&self.session.client, &self.session.sql.ensure_org, values))?;
        self.only(&rows, rows::first)
    }

    pub(super) fn write_api_key(
        &mut self,
        org: OrgId,
        name: &str,
        rights: Rights,
        digest: &KeyDigest,
    ) -> TxResult<ApiKey> {
        let values = vec![
            Box::new(org.0) as _,
            Box::new(name.to_owned()) as _,
            Box::new(i64::from(rights.0)) as _,
            Box::new(digest.to_vec()) as _,
            Box::new(self.now.0) as _,
        ];
        let rows = self.write_and_ask(query(&self.session.client, &self.session.sql.insert_key, values))?;
        self.only(&rows, rows::api_key)
    }

    /// Waits for those who are about to make the first key.
    pub(super) fn read_api_key_exists(&mut self) -> TxResult<bool> {
        let (client, sql) = (&self.session.client, &self.session.sql);
        let steps = vec![
            query(client, &sql.key_lock, vec![Box::new(LockClass::FirstKey.number())]),
            query(client, &sql.any_key, Vec::new()),
        ];
        let rows = self.trip(steps)?.pop().map(Reply::rows).unwrap_or_default();
        Ok(!rows.is_empty())
    }

    pub(super) fn write_api_key_revocation(&mut self, id: i64) -> TxResult<bool> {
        let values = vec![Box::new(id) as _, Box::new(self.now.0) as _];
        Ok(self.write(execute(&self.session.client, &self.session.sql.revoke_key, values))? > 0)
    }

    pub(super) fn write_retention(&mut self, org: OrgId, kept: Kept, days: Option<u32>) -> TxResult<()> {
        let (client, sql) = (&self.session.client, &self.session.sql);
        let mut values = vec![Box::new(org.0) as _, Box::new(kept.name()) as _];
        let statement = match days {
            None => &sql.remove_retention,
            Some(days) => {
                values.push(Box::new(i64::from(days)) as _);
                &sql.put_retention
            }
        };
        self.write(execute(client, statement, values)).map(drop)
    }
}
