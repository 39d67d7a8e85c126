//! Steps on devices.

use covey_core::device::{CertificateRecord, Device, DeviceSteps, NewDevice, Tag};
use covey_core::id::{DeviceId, DeviceKey, OrgId, Sn};
use covey_core::port::TxResult;
use covey_core::task::{DeviceRef, Target};

use crate::postgres::device::device;
use crate::postgres::locks::LockClass;
use crate::postgres::pipeline::{Reply, execute, query};
use crate::postgres::write::cross_group_cache::DeviceName;
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows::{self};

impl DeviceSteps for PostgresTransaction<'_> {
    fn device_target(&mut self, org: OrgId, device: &DeviceRef) -> TxResult<Option<Target>> {
        let wanted = (org, DeviceName::from(device));
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
