//! Steps on events.

use std::borrow::Cow;

use covey_core::device::DeviceIdentity;
use covey_core::event::{DeviceEvent, EventKey, EventSteps, EventToStore, EventTold, EventTypes};
use covey_core::id::{CallerId, DeviceId, DeviceKey, OrgId, RecordNumber};
use covey_core::port::TxResult;
use covey_core::record::RecordKind;

use crate::postgres::event::reads::{events_from, values_after};
use crate::postgres::event::stored::event_is_stored;
use crate::postgres::numbers::{LOOK_PAUSE, Looks, Settled};
use crate::postgres::pipeline::{query, values};
use crate::postgres::record::kind_number;
use crate::postgres::write::outbox_batch::RecordRow;
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows::{self};

impl EventSteps for PostgresTransaction<'_> {
    fn event_is_stored(&mut self, device: DeviceKey, key: EventKey) -> TxResult<bool> {
        if let Some(is_stored) = self.cache.events.get(&(device, key)) {
            return Ok(*is_stored);
        }
        let rows = self.ask(event_is_stored(self.session, [(device, key)].iter()))?;
        let is_stored = !rows.is_empty();
        self.cache.events.insert((device, key), is_stored);
        Ok(is_stored)
    }

    fn event_insert(&mut self, device: &DeviceIdentity, event: &EventToStore) -> TxResult<bool> {
        let is_counted = event.type_code >= 0 && event.key.dev_event_id != 0;
        if is_counted && self.event_is_stored(device.device, event.key)? {
            return Ok(false);
        }
        let row = match event.told {
            EventTold::Event => RecordRow {
                kind: kind_number(RecordKind::Event),
                dev_timestamp: Some(event.key.dev_timestamp.0),
                ..RecordRow::default()
            },
            EventTold::Presence { online, reason } => RecordRow {
                kind: kind_number(RecordKind::Presence),
                status: Some(online.into()),
                name: Some(Cow::Borrowed(reason.name())),
                ..RecordRow::default()
            },
        };
        let place = self.write_record(device, row)?;
        self.batch.outbox.event(device, place, event);
        if is_counted {
            self.cache.events.insert((device.device, event.key), true);
        }
        Ok(true)
    }

    fn gauge_put(&mut self, device: &DeviceIdentity, type_code: i64, payload: &str) -> TxResult<()> {
        self.batch.outbox.gauge(device, type_code, payload);
        Ok(())
    }

    fn events_after(
        &mut self,
        org: OrgId,
        device: Option<DeviceId>,
        types: &EventTypes,
        after: RecordNumber,
        limit: u32,
    ) -> TxResult<Vec<DeviceEvent>> {
        let sql = &self.session.sql;
        let statement =
            if device.is_some() { &sql.event.events_of_device_after } else { &sql.event.events_after };
        let mut looks = Looks::default();
        loop {
            let values = values_after(org, device, types, after, limit);
            let rows = self.ask(query(&self.session.client, statement, values))?;
            let settled = self.only(&rows, |row| Settled::from_row(row, 0))?;
            if looks.are_enough(&settled) {
                let events = events_from(&rows);
                return self.read(events);
            }
            self.pause(LOOK_PAUSE);
        }
    }

    fn event_offset(&mut self, caller: CallerId, device: Option<DeviceId>) -> TxResult<RecordNumber> {
        let key = (caller, device.map_or(0, |device| device.0));
        if let Some(number) = self.cache.event_offsets.get(&key) {
            return Ok(*number);
        }
        let values = || values![caller.0, key.1];
        let number = match self.ask_first(|sql| &sql.event.event_offset, values(), rows::first)? {
            Some(number) => number,
            None => self.write_only(|sql| &sql.event.event_offset_make, values(), rows::first)?,
        };
        self.cache.event_offsets.insert(key, number);
        Ok(number)
    }

    fn event_offset_put(
        &mut self,
        caller: CallerId,
        device: Option<DeviceId>,
        offset: RecordNumber,
    ) -> TxResult<()> {
        let key = (caller, device.map_or(0, |device| device.0));
        self.cache.event_offsets.insert(key, offset);
        self.batch.event_offsets.insert(key, offset);
        Ok(())
    }
}
