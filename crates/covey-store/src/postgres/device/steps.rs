//! Steps on devices.

use covey_core::device::{CertificateRecord, Device, DeviceSteps, NamedDevice, NewDevice, Tag};
use covey_core::id::{DeviceId, DeviceKey, OrgId, Sn};
use covey_core::port::TxResult;
use covey_core::task::{DeviceRef, Target};

use crate::postgres::device::device;
use crate::postgres::locks::LockClass;
use crate::postgres::pipeline::values;
use crate::postgres::write::cross_group_cache::DeviceName;
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows::{self};

impl DeviceSteps for PostgresTransaction<'_> {
    fn device_target(&mut self, org: OrgId, device: &DeviceRef) -> TxResult<Option<Target>> {
        let wanted = (org, DeviceName::from(device));
        if let Some(cached) = self.cache.targets.get(&wanted) {
            return Ok(cached.clone());
        }
        let none: Vec<i64> = vec![0];
        let found = match device {
            DeviceRef::Id(id) => {
                let values = values![vec![org.0], vec![id.0], none];
                self.ask_first(|sql| &sql.device.targets_by_id, values, rows::target)?
            }
            DeviceRef::Sn(sn) => {
                let values = values![vec![org.0], vec![sn.as_str().to_owned()], none];
                self.ask_first(|sql| &sql.device.targets_by_sn, values, rows::target)?
            }
        };
        self.cache.targets.insert(wanted, found.clone());
        Ok(found)
    }

    fn device(&mut self, org: OrgId, device_id: DeviceId) -> TxResult<Option<Device>> {
        self.ask_first(|sql| &sql.device.device, values![org.0, device_id.0], device)
    }

    fn sn_is_taken(&mut self, sn: &Sn) -> TxResult<bool> {
        let step = self.query(|sql| &sql.device.sn_is_taken, values![sn.as_str().to_owned()]);
        Ok(!self.ask(step)?.is_empty())
    }

    fn device_of_name(&mut self, sn: &Sn) -> TxResult<Option<NamedDevice>> {
        self.ask_first(|sql| &sql.device.device_of_name, values![sn.as_str().to_owned()], rows::named_device)
    }

    fn device_id_free(&mut self, org: OrgId) -> TxResult<DeviceId> {
        let steps = vec![
            self.query(|sql| &sql.device.device_id_lock, values![LockClass::DeviceId.number(), org.0]),
            self.query(|sql| &sql.device.device_id_free, values![org.0]),
        ];
        let rows = self.ask_last(steps)?;
        self.only(&rows, rows::first)
    }

    fn device_insert(&mut self, device: &NewDevice) -> TxResult<DeviceKey> {
        let (sn, kind) = (device.sn.as_str().to_owned(), device.kind as i64);
        let values = values![device.org.0, device.device_id.0, sn, device.created_at.0, kind];
        let key = self.write_only(|sql| &sql.device.device_insert, values, rows::first)?;
        for tag in &device.tags {
            self.tag_put(key, tag)?;
        }
        self.cache.targets.clear();
        self.cache.has_changed_devices = true;
        Ok(key)
    }

    fn device_retire(&mut self, device: DeviceKey) -> TxResult<()> {
        let steps = vec![
            self.execute(|sql| &sql.device.device_retire, values![self.now.0, device.0]),
            self.execute(|sql| &sql.device.certificates_revoke, values![self.now.0, device.0]),
        ];
        self.has_written = true;
        self.trip(steps)?;
        self.cache.targets.clear();
        self.cache.has_changed_devices = true;
        Ok(())
    }

    fn device_tags(&mut self, device: DeviceKey) -> TxResult<Vec<Tag>> {
        let step = self.query(|sql| &sql.device.device_tags, values![device.0]);
        let found = self.ask(step)?;
        let tags = rows::each(&found, rows::tag);
        self.read(tags)
    }

    fn tag_put(&mut self, device: DeviceKey, tag: &Tag) -> TxResult<i64> {
        let values = values![device.0, tag.tag.clone(), tag.value.clone()];
        self.write_only(|sql| &sql.device.tag_put, values, rows::first)
    }

    fn tags_beside(&mut self, device: DeviceKey, tag: &str) -> TxResult<u32> {
        let values = values![device.0, tag.to_owned()];
        let count: i64 = self.ask_only(|sql| &sql.device.tags_beside, values, rows::first)?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn certificate_insert(&mut self, device: DeviceKey, certificate: &CertificateRecord) -> TxResult<()> {
        let values = values![certificate.serial_hex.clone(), device.0, self.now.0, certificate.not_after.0];
        self.write(|sql| &sql.device.certificate_insert, values).map(drop)
    }
}
