//! Events and gauges.

use covey_core::access::Caller;
use covey_core::device::DeviceIdentity;
use covey_core::event::{
    Bucket, DeviceEvent, EventFilter, EventKey, EventPage, EventReader, EventSteps, EventToStore, EventTold,
    EventTypes, EventsFrom, Field, FieldQuery, Gauge, GaugeFilter, SeriesQuery,
};
use covey_core::id::{CallerId, DeviceId, DeviceKey, OrgId, RecordNumber, UnixMs};
use covey_core::port::{Entries, Filling, Found, Page, PageRequest, ReadKind, Turn, TxResult};
use covey_core::record::RecordKind;
use rusqlite::{Connection, OptionalExtension, params};

use crate::rows::{self, ListColumns, ListScope};
use crate::sqlite::Sqlite;
use crate::sqlite::conditions::Conditions;
use crate::sqlite::event_series::{event_fields, event_series};
use crate::sqlite::record::RecordRow;
use crate::sqlite::statement::Ask;
use crate::sqlite::transaction::{Often, SqliteTransaction};

impl EventReader for Sqlite {
    fn event_list(&self, caller: &Caller, filter: EventFilter, from: EventsFrom) -> Found<'_, EventPage> {
        let (org, scope) = (caller.org, ListScope::of(caller, ListColumns::EVENTS));
        let kind = ReadKind::of_events(&filter, from).within(scope.is_some());
        self.read(kind, Turn::Org(org), move |connection| {
            event_page(connection, org, scope.as_ref(), &filter, from)
        })
    }

    fn event_list_after(
        &self,
        caller: &Caller,
        device: Option<DeviceId>,
        types: EventTypes,
        after: RecordNumber,
        limit: u32,
    ) -> Found<'_, Vec<DeviceEvent>> {
        let (org, scope) = (caller.org, ListScope::of(caller, ListColumns::EVENTS));
        let kind = ReadKind::of_events_after(&types).within(scope.is_some());
        self.read(kind, Turn::Org(org), move |connection| {
            events_after(connection, (org, scope.as_ref()), device, &types, after, limit)
        })
    }

    fn event_fields(&self, caller: &Caller, query: FieldQuery) -> Found<'_, Entries<Field>> {
        let org = caller.org;
        self.read(ReadKind::EventFields, Turn::Org(org), move |connection| {
            event_fields(connection, org, &query)
        })
    }

    fn event_series(&self, caller: &Caller, query: SeriesQuery) -> Found<'_, Vec<Bucket>> {
        let org = caller.org;
        self.read(ReadKind::EventSeries, Turn::Org(org), move |connection| {
            event_series(connection, org, &query)
        })
    }

    fn gauge_list(&self, caller: &Caller, filter: GaugeFilter, page: PageRequest) -> Found<'_, Page<Gauge>> {
        let (org, scope) = (caller.org, ListScope::of(caller, ListColumns::GAUGES));
        self.read(ReadKind::of_gauges(&filter).within(scope.is_some()), Turn::Org(org), move |connection| {
            let mut conditions = Conditions::default();
            conditions.add("g.org_id = ?", org.0);
            conditions.add_scope(scope.as_ref());
            conditions.add_if("g.device_id = ?", filter.device_id.map(|id| id.0));
            conditions.add_if("g.type_code = ?", filter.type_code);
            let from = format!(
                "FROM gauges g JOIN devices d ON d.id = g.device_key AND d.retired_at IS NULL WHERE {}",
                conditions.clause()
            );
            let snapshot = connection.unchecked_transaction()?;
            let total = conditions.total(&snapshot, &format!("SELECT count(*) {from}"))?;
            let sql = format!(
                "SELECT {} {from} ORDER BY g.device_id, g.type_code LIMIT {} OFFSET {}",
                rows::gauge_columns!(),
                page.size,
                page.offset()
            );
            let Entries { items, is_cut } =
                conditions.rows_within(&snapshot, &sql, rows::gauge, rows::gauge_bytes)?;
            Ok(Page { items, total, is_cut })
        })
    }

    fn gauges_of(
        &self,
        caller: &Caller,
        devices: Vec<DeviceKey>,
        bytes_max: usize,
    ) -> Found<'_, Entries<Gauge>> {
        let org = caller.org;
        self.read(ReadKind::Gauges, Turn::Org(org), move |connection| {
            let sql = concat!(
                "SELECT ",
                rows::gauge_columns!(),
                " FROM gauges g WHERE g.device_key = ?1 AND g.org_id = ?2 ORDER BY g.type_code"
            );
            let mut gauges = Filling::up_to(bytes_max);
            for device in devices {
                for gauge in connection.rows(sql, (device.0, org.0), rows::gauge)? {
                    let bytes = rows::gauge_bytes(&gauge);
                    if !gauges.add(gauge, bytes) {
                        return Ok(gauges.done());
                    }
                }
            }
            Ok(gauges.done())
        })
    }
}

/// Events after one, in the order of their numbers.
fn events_after(
    connection: &Connection,
    (org, scope): (OrgId, Option<&ListScope>),
    device: Option<DeviceId>,
    types: &EventTypes,
    after: RecordNumber,
    limit: u32,
) -> rusqlite::Result<Vec<DeviceEvent>> {
    let mut conditions = Conditions::default();
    conditions.add("e.org_id = ?", org.0);
    conditions.add_scope(scope);
    conditions.add("e.id > ?", after.0);
    conditions.add_if("e.device_id = ?", device.map(|id| id.0));
    conditions.add_types(types);
    let sql = format!(
        "SELECT {} FROM events e WHERE {} ORDER BY e.id LIMIT {limit}",
        rows::event_columns!(),
        conditions.clause()
    );
    conditions.rows_within(connection, &sql, rows::event, rows::event_bytes).map(|found| found.items)
}

fn event_page(
    connection: &Connection,
    org: OrgId,
    scope: Option<&ListScope>,
    filter: &EventFilter,
    from: EventsFrom,
) -> rusqlite::Result<EventPage> {
    let snapshot = connection.unchecked_transaction()?;
    let mut conditions = Conditions::default();
    conditions.add("e.org_id = ?", org.0);
    conditions.add_scope(scope);
    let device_ids: Vec<i64> = filter.device_ids.iter().map(|id| id.0).collect();
    conditions.add_among("e.device_id", true, &device_ids);
    conditions.add_types(&filter.include);
    conditions.add_among("e.type_code", false, &filter.exclude);
    if let Some(after) = filter.received_after {
        conditions.add("e.id >= ?", number_around(&snapshot, after)?.0);
        conditions.add("e.received_at >= ?", after.0);
    }
    conditions.add_if("e.received_at < ?", filter.received_before.map(|at| at.0));
    let (size, skipped) = match from {
        EventsFrom::Page(page) => (page.size, page.offset()),
        EventsFrom::Before(before, size) => {
            conditions.add_if("e.id < ?", before.map(|before| before.0));
            (size, 0)
        }
    };
    let clause = conditions.clause();
    let total = match from {
        EventsFrom::Before(..) => None,
        EventsFrom::Page(_) if scope.is_none() && *filter == EventFilter::default() => {
            let sql = "SELECT coalesce(max(count), 0) FROM event_counts WHERE org_id = ?1";
            Some(conditions.total(&snapshot, sql)?)
        }
        EventsFrom::Page(_) => {
            let sql = format!("SELECT count(*) FROM events e WHERE {clause}");
            Some(conditions.total(&snapshot, &sql)?)
        }
    };
    let columns = rows::event_columns!();
    let sql = format!(
        "SELECT {columns} FROM events e WHERE {clause} ORDER BY e.id DESC LIMIT {size} OFFSET {skipped}"
    );
    let Entries { items, is_cut } =
        conditions.rows_within(&snapshot, &sql, rows::event, rows::event_bytes)?;
    Ok(EventPage { items, total, is_cut })
}

/// How far the clock may have been set back while events came.
const CLOCK_STEP_MS: i64 = 300_000;

/// A number before which no event was received at or after an instant.
pub(super) fn number_around(connection: &Connection, at: UnixMs) -> rusqlite::Result<RecordNumber> {
    first_number(connection, at.plus_ms(-CLOCK_STEP_MS))
}

/// A number from which on no event was received before an instant.
pub(super) fn number_behind(connection: &Connection, at: UnixMs) -> rusqlite::Result<RecordNumber> {
    first_number(connection, at.plus_ms(CLOCK_STEP_MS))
}

/// The number of the first event that is not older. Numbers grow with time, so it is found by halving; an index
/// on the time of receipt would have to be written with every event.
fn first_number(connection: &Connection, UnixMs(at): UnixMs) -> rusqlite::Result<RecordNumber> {
    let mut look =
        connection.prepare_cached("SELECT id, received_at FROM events WHERE id >= ?1 ORDER BY id LIMIT 1")?;
    let mut last = connection.prepare_cached("SELECT coalesce(max(id), 0) FROM events")?;
    let (mut low, mut high): (i64, i64) = (0, last.query_row([], |row| row.get::<_, i64>(0))? + 1);
    // All events before `low` are older; the first that is not has a number up to `high`.
    while low < high {
        let middle = low + (high - low) / 2;
        let found =
            look.query_row([middle], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).optional()?;
        match found {
            Some((id, received_at)) if received_at < at => low = id + 1,
            Some(_) | None => high = middle,
        }
    }
    Ok(RecordNumber(low))
}

impl EventSteps for SqliteTransaction<'_> {
    fn event_is_stored(&mut self, device: DeviceKey, key: EventKey) -> TxResult<bool> {
        self.exists(
            "SELECT 1 FROM events INDEXED BY events_once WHERE dev_timestamp = ?1 AND device_key = ?2 \
             AND dev_event_id = ?3 AND dev_event_id <> 0 AND type_code >= 0",
            (key.dev_timestamp.0, device.0, key.dev_event_id),
        )
    }

    fn event_insert(&mut self, device: &DeviceIdentity, event: &EventToStore) -> TxResult<bool> {
        let row = match event.told {
            EventTold::Event => RecordRow { kind: Some(RecordKind::Event), ..RecordRow::default() },
            EventTold::Presence { online, reason } => RecordRow {
                kind: Some(RecordKind::Presence),
                status: Some(online.into()),
                name: Some(reason.name()),
                ..RecordRow::default()
            },
        };
        let (number, received_at) = (self.next_number()?, self.now.0);
        let stored = self.change_often(
            Often::Event,
            "INSERT INTO events (id, org_id, device_key, device_id, sn, type_code, dev_event_id, dev_timestamp, \
             received_at, correlation, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
             ON CONFLICT (dev_timestamp, device_key, dev_event_id) WHERE dev_event_id <> 0 AND type_code >= 0 \
             DO NOTHING",
            params![
                number.0,
                device.org.0,
                device.device.0,
                device.device_id.0,
                device.sn.as_str(),
                event.type_code,
                event.key.dev_event_id,
                event.key.dev_timestamp.0,
                received_at,
                event.correlation.as_ref().map(|correlation| correlation.as_bytes().as_slice()),
                &*event.payload,
            ],
        )?;
        if stored == 0 {
            return Ok(false);
        }
        self.put_record(number, device, &row)?;
        if event.type_code >= 0 {
            *self.event_counts.entry(device.org).or_default() += 1;
        }
        Ok(true)
    }

    fn gauge_put(&mut self, device: &DeviceIdentity, type_code: i64, payload: &str) -> TxResult<()> {
        let put = self.change(
            "INSERT INTO gauges (device_key, type_code, org_id, device_id, updated_at, payload) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
             ON CONFLICT DO UPDATE SET updated_at = excluded.updated_at, payload = excluded.payload",
            (device.device.0, type_code, device.org.0, device.device_id.0, self.now.0, payload),
        );
        put.map(drop)
    }

    fn events_after(
        &mut self,
        org: OrgId,
        device: Option<DeviceId>,
        types: &EventTypes,
        after: RecordNumber,
        limit: u32,
    ) -> TxResult<Vec<DeviceEvent>> {
        self.try_sql(|connection| events_after(connection, (org, None), device, types, after, limit))
    }

    fn event_offset(&mut self, caller: CallerId, device: Option<DeviceId>) -> TxResult<RecordNumber> {
        let sql =
            "SELECT coalesce(max(number), 0) FROM event_offsets WHERE caller_id = ?1 AND device_id = ?2";
        self.only(sql, (caller.0, device.map_or(0, |device| device.0)), rows::first)
    }

    fn event_offset_put(
        &mut self,
        caller: CallerId,
        device: Option<DeviceId>,
        offset: RecordNumber,
    ) -> TxResult<()> {
        let sql = "INSERT OR REPLACE INTO event_offsets (caller_id, device_id, number) VALUES (?1, ?2, ?3)";
        self.change(sql, (caller.0, device.map_or(0, |device| device.0), offset.0)).map(drop)
    }
}

impl SqliteTransaction<'_> {
    /// Stores how many events each organisation has got from its devices.
    pub(super) fn flush_events(&mut self) -> TxResult<()> {
        let sql = "INSERT INTO event_counts (org_id, count) VALUES (?1, ?2) \
             ON CONFLICT DO UPDATE SET count = count + excluded.count";
        let mut counts = std::mem::take(&mut self.event_counts).into_iter();
        counts.try_for_each(|(org, change)| self.change(sql, (org.0, change)).map(drop))
    }
}
