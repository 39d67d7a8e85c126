//! Events and gauges.

mod series;

use std::borrow::Cow;

use covey_core::access::Caller;
use covey_core::device::DeviceIdentity;
use covey_core::error::Result;
use covey_core::event::{
    Bucket, DeviceEvent, EventFilter, EventKey, EventPage, EventReader, EventSteps, EventToStore, EventTold,
    EventsFrom, Field, FieldQuery, Gauge, GaugeFilter, SeriesQuery,
};
use covey_core::id::{CallerId, DeviceId, DeviceKey, OrgId, RecordNumber, UnixMs};
use covey_core::port::{BoxFuture, Page, PageRequest, TxResult};
use covey_core::record::RecordKind;
use tokio_postgres::Row;

use crate::postgres::Postgres;
use crate::postgres::lists::{Conditions, page};
use crate::postgres::numbers::{LOOK_PAUSE, Looks, Settled, settled};
use crate::postgres::pipeline::{Reply, Step, Value, query};
use crate::postgres::pool::ReadSession;
use crate::postgres::record::kind_number;
use crate::postgres::session::Session;
use crate::postgres::statements::prepared;
use crate::postgres::write::outbox_batch::RecordRow;
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows::{self, Read};

/// Events up to which all are there: organisation, after, limit. Always answers
/// a row, of which the first three columns are those of `settled!`.
macro_rules! events_after {
    ($device:literal) => {
        concat!(
            "WITH ",
            settled!(),
            " SELECT s.position, s.unknown, s.next, f.* FROM settled s LEFT JOIN LATERAL (SELECT ",
            rows::event_columns!(),
            " FROM events e WHERE e.org_id = $1 AND e.id > $2 AND e.id <= s.position ",
            $device,
            " ORDER BY e.id LIMIT $3) AS f ON true"
        )
    };
}

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// Which of these events are stored: devices, numbers, times. A limit keeps
        /// the planner from reading all events first while it knows of few.
        events_stored: "SELECT n.device_key, n.dev_event_id, n.dev_timestamp \
             FROM unnest($1::int8[], $2::int8[], $3::int8[]) AS n (device_key, dev_event_id, dev_timestamp) \
             CROSS JOIN LATERAL (SELECT 1 FROM events e WHERE e.dev_timestamp = n.dev_timestamp \
             AND e.device_key = n.device_key AND e.dev_event_id = n.dev_event_id \
             AND e.dev_event_id <> 0 AND e.type_code >= 0 LIMIT 1) AS e";
        /// How far a caller has read: caller, device. Held until the commit, so
        /// that the next server gives it what comes after.
        event_offset: "SELECT number FROM event_offsets WHERE caller_id = $1 AND device_id = $2 FOR UPDATE";
        /// The same of a caller that may never have read: makes the row that is held.
        event_offset_make: "INSERT INTO event_offsets AS o (caller_id, device_id, number) VALUES ($1, $2, 0) \
             ON CONFLICT (caller_id, device_id) DO UPDATE SET number = o.number RETURNING number";
        /// How far callers have read: callers, devices, numbers.
        event_offset_put: "INSERT INTO event_offsets (caller_id, device_id, number) \
             SELECT * FROM unnest($1::int8[], $2::int8[], $3::int8[]) \
             ON CONFLICT (caller_id, device_id) DO UPDATE SET number = excluded.number";
        /// Events of an organisation: organisation, after, limit.
        events_after: events_after!("");
        /// Events of a device: organisation, after, limit, device.
        events_of_device_after: events_after!("AND e.device_id = $4");
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// Events of an organisation: organisation, after, limit.
        events_after: events_after!("");
        /// Events of a device: organisation, after, limit, device.
        events_of_device_after: events_after!("AND e.device_id = $4");
        /// The gauges of devices: devices, organisation.
        gauges_of: concat!("SELECT ", rows::gauge_columns!(), " FROM unnest($1::int8[]) WITH ORDINALITY AS n (device_key, place) \
             CROSS JOIN LATERAL (SELECT * FROM gauges g WHERE g.device_key = n.device_key OFFSET 0) AS g \
             WHERE g.org_id = $2 ORDER BY n.place, g.type_code");
    }
}

impl EventReader for Postgres {
    fn event_list(
        &self,
        caller: &Caller,
        filter: EventFilter,
        from: EventsFrom,
    ) -> BoxFuture<'_, Result<EventPage>> {
        let org = caller.org;
        self.reads.read(move |session| {
            let filter = filter.clone();
            Box::pin(async move { event_page(session, org, &filter, from).await })
        })
    }

    fn event_list_after(
        &self,
        caller: &Caller,
        device: Option<DeviceId>,
        after: RecordNumber,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<DeviceEvent>>> {
        let org = caller.org;
        self.reads.read(move |session| {
            Box::pin(async move {
                let sql = &session.sql;
                let statement = if device.is_some() {
                    &sql.event.events_of_device_after
                } else {
                    &sql.event.events_after
                };
                let mut looks = Looks::default();
                loop {
                    let mut values =
                        vec![Box::new(org.0) as _, Box::new(after.0) as _, Box::new(i64::from(limit)) as _];
                    values.extend(device.map(|device| Box::new(device.0) as _));
                    let rows = query(&session.client, statement, values).await?.rows();
                    let Some(row) = rows.first() else { return Ok(Vec::new()) };
                    if looks.are_enough(&Settled::from_row(row, 0)?) {
                        return events_from(&rows);
                    }
                    tokio::time::sleep(LOOK_PAUSE).await;
                }
            })
        })
    }

    fn event_fields(&self, caller: &Caller, query: FieldQuery) -> BoxFuture<'_, Result<Vec<Field>>> {
        let org = caller.org;
        self.reads.read(move |session| {
            let query = query.clone();
            Box::pin(async move { series::event_fields(session, org, &query).await })
        })
    }

    fn event_series(&self, caller: &Caller, query: SeriesQuery) -> BoxFuture<'_, Result<Vec<Bucket>>> {
        let org = caller.org;
        self.reads.read(move |session| {
            let query = query.clone();
            Box::pin(async move { series::event_series(session, org, &query).await })
        })
    }

    fn gauge_list(
        &self,
        caller: &Caller,
        filter: GaugeFilter,
        request: PageRequest,
    ) -> BoxFuture<'_, Result<Page<Gauge>>> {
        let org = caller.org;
        self.reads.read(move |session| {
            Box::pin(async move {
                let mut conditions = Conditions::default();
                conditions.number("g.org_id = #", Some(org.0));
                conditions.number("g.device_id = #", filter.device_id.map(|id| id.0));
                conditions.number("g.type_code = #", filter.type_code);
                let from = format!(
                    "FROM gauges g JOIN devices d ON d.id = g.device_key AND d.retired_at IS NULL WHERE {}",
                    conditions.clause()
                );
                let total = format!("SELECT count(*) {from}");
                let columns = rows::gauge_columns!();
                let items = format!(
                    "SELECT {columns} {from} ORDER BY g.device_id, g.type_code LIMIT {} OFFSET {}",
                    request.size,
                    request.offset()
                );
                let (total, found) = page(session, &conditions, &total, &items).await?;
                Ok(Page { items: rows::each(&found, rows::gauge)?, total })
            })
        })
    }

    fn gauges_of(&self, caller: &Caller, devices: Vec<DeviceKey>) -> BoxFuture<'_, Result<Vec<Gauge>>> {
        let org = caller.org;
        let keys: Vec<i64> = devices.iter().map(|device| device.0).collect();
        self.rows(|sql| &sql.event.gauges_of, vec![Box::new(keys), Box::new(org.0)], rows::gauge)
    }
}

async fn event_page(
    session: &ReadSession,
    org: OrgId,
    filter: &EventFilter,
    from: EventsFrom,
) -> Read<EventPage> {
    let mut conditions = Conditions::default();
    conditions.number("e.org_id = #", Some(org.0));
    let device_ids: Vec<i64> = filter.device_ids.iter().map(|id| id.0).collect();
    conditions.among("e.device_id", true, &device_ids);
    conditions.among("e.type_code", true, &filter.include);
    conditions.among("e.type_code", false, &filter.exclude);
    conditions.number("e.received_at >= #", filter.received_after.map(|at| at.0));
    conditions.number("e.received_at < #", filter.received_before.map(|at| at.0));
    let (size, skipped) = match from {
        EventsFrom::Page(page) => (page.size, page.offset()),
        EventsFrom::Before(before, size) => {
            conditions.number("e.id < #", before.map(|before| before.0));
            (size, 0)
        }
    };
    let clause = conditions.clause();
    let columns = rows::event_columns!();
    let items = format!(
        "SELECT {columns} FROM events e WHERE {clause} ORDER BY e.id DESC LIMIT {size} OFFSET {skipped}"
    );
    let (total, found) = match from {
        EventsFrom::Before(..) => {
            let found = conditions.query(&session.client, &items).await.map(Reply::rows)?;
            (None, found)
        }
        EventsFrom::Page(_) => {
            let total = if *filter == EventFilter::default() {
                "SELECT coalesce(sum(count), 0)::int8 FROM event_counts WHERE org_id = $1".to_owned()
            } else {
                format!("SELECT count(*) FROM events e WHERE {clause}")
            };
            let (total, found) = page(session, &conditions, &total, &items).await?;
            (Some(total), found)
        }
    };
    Ok(EventPage { items: rows::each(&found, rows::event)?, total })
}

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

    fn event_insert(&mut self, device: &DeviceIdentity, event: &EventToStore) -> TxResult<()> {
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
        if event.type_code >= 0 && event.key.dev_event_id != 0 {
            self.cache.events.insert((device.device, event.key), true);
        }
        Ok(())
    }

    fn gauge_put(&mut self, device: &DeviceIdentity, type_code: i64, payload: &str) -> TxResult<()> {
        self.batch.outbox.gauge(device, type_code, payload);
        Ok(())
    }

    fn events_after(
        &mut self,
        org: OrgId,
        device: Option<DeviceId>,
        after: RecordNumber,
        limit: u32,
    ) -> TxResult<Vec<DeviceEvent>> {
        let sql = &self.session.sql;
        let statement =
            if device.is_some() { &sql.event.events_of_device_after } else { &sql.event.events_after };
        let mut looks = Looks::default();
        loop {
            let mut values: Vec<Value<'_>> =
                vec![Box::new(org.0), Box::new(after.0), Box::new(i64::from(limit))];
            values.extend(device.map(|device| Box::new(device.0) as _));
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
        let values = || vec![Box::new(caller.0) as _, Box::new(key.1) as _];
        let (client, sql) = (&self.session.client, &self.session.sql);
        let rows = self.ask(query(client, &sql.event.event_offset, values()))?;
        let number = match self.first(&rows, |row| rows::get(row, 0))? {
            Some(number) => number,
            None => {
                let rows = self.write_and_ask(query(client, &sql.event.event_offset_make, values()))?;
                self.only(&rows, |row| rows::get(row, 0))?
            }
        };
        self.cache.event_offsets.insert(key, RecordNumber(number));
        Ok(RecordNumber(number))
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

/// Asks which of these events are stored.
pub(crate) fn event_is_stored<'s, 'k>(
    session: &'s Session,
    events: impl Iterator<Item = &'k (DeviceKey, EventKey)> + Clone,
) -> Step<'s> {
    let numbers = |of: fn(&(DeviceKey, EventKey)) -> i64| -> Value<'s> {
        Box::new(events.clone().map(of).collect::<Vec<i64>>())
    };
    let values = vec![
        numbers(|(device, _)| device.0),
        numbers(|(_, key)| i64::from(key.dev_event_id)),
        numbers(|(_, key)| key.dev_timestamp.0),
    ];
    query(&session.client, &session.sql.event.events_stored, values)
}

/// An event's key, from what [`event_is_stored`] answers.
pub(crate) fn stored_key(row: &Row) -> Read<(DeviceKey, EventKey)> {
    let dev_event_id = rows::number(row, 1)?;
    let key = EventKey { dev_event_id, dev_timestamp: UnixMs(rows::get(row, 2)?) };
    Ok((DeviceKey(rows::get(row, 0)?), key))
}

/// The events that `events_after!` answers.
pub(crate) fn events_from(rows: &[Row]) -> Read<Vec<DeviceEvent>> {
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        if rows::get::<Option<i64>>(row, 3)?.is_some() {
            events.push(rows::event_at(row, 3)?);
        }
    }
    events.sort_by_key(|event| event.id);
    Ok(events)
}
