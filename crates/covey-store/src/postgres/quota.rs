//! What is kept, in bytes.

use covey_core::id::{DeviceKey, OrgId};
use covey_core::port::{Found, ReadKind, Turn, TxResult};
use covey_core::quota::{DayKept, FirstDays, OrgDay, QuotaReader, QuotaSteps};
use covey_core::retention::RetentionClass;

use crate::postgres::Postgres;
use crate::postgres::pipeline::{column, values};
use crate::postgres::prepared::prepared;
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows;

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// Adds to what devices have stored: devices, classes, days, bytes, the writer's slot.
        device_kept_add: "INSERT INTO device_kept_bytes AS k (device_key, kept, day, slot, bytes) \
             SELECT n.device_key, n.kept, n.day, $5, n.bytes FROM unnest($1::int8[], $2::int2[], $3::int8[], $4::int8[]) \
             AS n (device_key, kept, day, bytes) \
             ON CONFLICT (device_key, kept, day, slot) DO UPDATE SET bytes = k.bytes + excluded.bytes";
        /// The same of organisations.
        org_kept_add: "INSERT INTO org_kept_bytes AS k (org_id, kept, day, slot, bytes) \
             SELECT n.org_id, n.kept, n.day, $5, n.bytes FROM unnest($1::int8[], $2::int2[], $3::int8[], $4::int8[]) \
             AS n (org_id, kept, day, bytes) \
             ON CONFLICT (org_id, kept, day, slot) DO UPDATE SET bytes = k.bytes + excluded.bytes";
        /// Forgets days of devices that are over: what, which, how many.
        device_kept_forget: "DELETE FROM device_kept_bytes WHERE ctid = ANY (ARRAY( \
             SELECT ctid FROM device_kept_bytes WHERE kept = $1 AND day < $2 LIMIT $3 FOR UPDATE SKIP LOCKED))";
        /// The same of organisations.
        org_kept_forget: "DELETE FROM org_kept_bytes WHERE ctid = ANY (ARRAY( \
             SELECT ctid FROM org_kept_bytes WHERE kept = $1 AND day < $2 LIMIT $3 FOR UPDATE SKIP LOCKED))";
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// What devices have stored: devices, and of each class the first day.
        kept_of_devices: "SELECT coalesce((SELECT sum(k.bytes) FROM device_kept_bytes k \
             WHERE k.device_key = n.device_key \
             AND k.day >= CASE k.kept WHEN 0 THEN n.tasks WHEN 1 THEN n.events ELSE n.twins END), 0)::int8 \
             FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::int8[]) WITH ORDINALITY \
             AS n (device_key, tasks, events, twins, place) ORDER BY n.place";
        /// What organisations have stored.
        kept_of_orgs: rows::KEPT_OF_ORGS;
    }
}

impl QuotaReader for Postgres {
    fn kept_of_devices_of_every_org(&self, wanted: Vec<(DeviceKey, FirstDays)>) -> Found<'_, Vec<i64>> {
        let first = |place: usize| move |(_, first): &(DeviceKey, FirstDays)| first.of_devices()[place];
        let values = vec![
            column(&wanted, |(device, _)| device.0),
            column(&wanted, first(0)),
            column(&wanted, first(1)),
            column(&wanted, first(2)),
        ];
        self.rows(
            ReadKind::KeptOfDevices,
            Turn::Server,
            |sql| &sql.quota.kept_of_devices,
            values,
            rows::first,
        )
    }

    fn kept_of_orgs_of_every_org(&self) -> Found<'_, Vec<OrgDay>> {
        self.rows(
            ReadKind::KeptOfOrgs,
            Turn::Server,
            |sql| &sql.quota.kept_of_orgs,
            Vec::new(),
            rows::org_day,
        )
    }
}

impl QuotaSteps for PostgresTransaction<'_> {
    fn kept_add(
        &mut self,
        of_devices: &[(DeviceKey, DayKept)],
        of_orgs: &[(OrgId, DayKept)],
    ) -> TxResult<()> {
        if !of_devices.is_empty() {
            let values = vec![
                column(of_devices, |(device, _)| device.0),
                column(of_devices, |(_, kept)| i16::from(kept.class.number())),
                column(of_devices, |(_, kept)| kept.day),
                column(of_devices, |(_, kept)| kept.bytes),
                Box::new(self.session.slot),
            ];
            self.write(|sql| &sql.quota.device_kept_add, values)?;
        }
        if !of_orgs.is_empty() {
            let values = vec![
                column(of_orgs, |(org, _)| org.0),
                column(of_orgs, |(_, kept)| i16::from(kept.class.number())),
                column(of_orgs, |(_, kept)| kept.day),
                column(of_orgs, |(_, kept)| kept.bytes),
                Box::new(self.session.slot),
            ];
            self.write(|sql| &sql.quota.org_kept_add, values)?;
        }
        Ok(())
    }

    fn kept_forget_of_every_org(
        &mut self,
        class: RetentionClass,
        before_day: i64,
        limit: u32,
    ) -> TxResult<u64> {
        let values = || values![i16::from(class.number()), before_day, i64::from(limit)];
        self.write(|sql| &sql.quota.org_kept_forget, values())?;
        self.write(|sql| &sql.quota.device_kept_forget, values())
    }
}
