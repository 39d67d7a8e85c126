//! Steps on events and gauges.

use covey_core::device::DeviceIdentity;
use covey_core::event::{DeviceEvent, EventKey, EventSteps, EventToStore, EventTold};
use covey_core::id::{CallerId, DeviceId, DeviceKey, OrgId, RecordNumber};
use covey_core::port::TxResult;
use covey_core::record::RecordKind;
use rusqlite::params;

use crate::sqlite::reader_of_events::events_after;
use crate::sqlite::transaction::SqliteTransaction;
use crate::sqlite::transaction::record::RecordRow;

impl EventSteps for SqliteTransaction<'_> {
    fn event_is_stored(&mut self, device: DeviceKey, key: EventKey) -> TxResult<bool> {
        self.sql(
            "SELECT 1 FROM events INDEXED BY events_once WHERE dev_timestamp = ?1 AND device_key = ?2 \
             AND dev_event_id = ?3 AND dev_event_id <> 0 AND type_code >= 0",
            |statement| statement.exists((key.dev_timestamp.0, device.0, key.dev_event_id)),
        )
    }

    fn event_insert(&mut self, device: &DeviceIdentity, event: &EventToStore) -> TxResult<()> {
        let row = match event.told {
            EventTold::Event => RecordRow { kind: Some(RecordKind::Event), ..RecordRow::default() },
            EventTold::Presence { online, reason } => RecordRow {
                kind: Some(RecordKind::Presence),
                status: Some(online.into()),
                name: Some(reason.name()),
                ..RecordRow::default()
            },
        };
        let number = self.write_record(device, &row)?;
        self.sql(
            "INSERT INTO events (id, org_id, device_key, device_id, sn, type_code, dev_event_id, dev_timestamp, \
             received_at, correlation, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            |statement| {
                statement.execute(params![
                    number.0,
                    device.org.0,
                    device.device.0,
                    device.device_id.0,
                    device.sn.as_str(),
                    event.type_code,
                    event.key.dev_event_id,
                    event.key.dev_timestamp.0,
                    self.now.0,
                    event.correlation.as_ref().map(|correlation| correlation.as_bytes().as_slice()),
                    &*event.payload,
                ])
            },
        )?;
        *self.event_counts.entry(device.org).or_default() += 1;
        Ok(())
    }

    fn gauge_put(&mut self, device: &DeviceIdentity, type_code: i64, payload: &str) -> TxResult<()> {
        self.sql(
            "INSERT INTO gauges (device_key, type_code, org_id, device_id, updated_at, payload) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
             ON CONFLICT DO UPDATE SET updated_at = excluded.updated_at, payload = excluded.payload",
            |statement| {
                let values =
                    (device.device.0, type_code, device.org.0, device.device_id.0, self.now.0, payload);
                statement.execute(values).map(drop)
            },
        )
    }

    fn events_after(
        &mut self,
        org: OrgId,
        device: Option<DeviceId>,
        after: RecordNumber,
        limit: u32,
    ) -> TxResult<Vec<DeviceEvent>> {
        self.try_sql(|connection| events_after(connection, org, device, after, limit))
    }

    fn event_offset(&mut self, caller: CallerId, device: Option<DeviceId>) -> TxResult<RecordNumber> {
        self.sql(
            "SELECT coalesce(max(number), 0) FROM event_offsets WHERE caller_id = ?1 AND device_id = ?2",
            |statement| {
                let device = device.map_or(0, |device| device.0);
                statement.query_row((caller.0, device), |row| row.get(0).map(RecordNumber))
            },
        )
    }

    fn event_offset_put(
        &mut self,
        caller: CallerId,
        device: Option<DeviceId>,
        offset: RecordNumber,
    ) -> TxResult<()> {
        self.sql(
            "INSERT OR REPLACE INTO event_offsets (caller_id, device_id, number) VALUES (?1, ?2, ?3)",
            |statement| {
                let device = device.map_or(0, |device| device.0);
                statement.execute((caller.0, device, offset.0)).map(drop)
            },
        )
    }
}

impl SqliteTransaction<'_> {
    /// Stores how many events each organisation has got.
    pub(super) fn flush_events(&mut self) -> TxResult<()> {
        let counts = std::mem::take(&mut self.event_counts);
        self.try_sql(|connection| {
            let mut statement = connection.prepare_cached(
                "INSERT INTO event_counts (org_id, count) VALUES (?1, ?2) \
                 ON CONFLICT DO UPDATE SET count = count + excluded.count",
            )?;
            counts.into_iter().try_for_each(|(org, change)| statement.execute((org.0, change)).map(drop))
        })
    }
}
