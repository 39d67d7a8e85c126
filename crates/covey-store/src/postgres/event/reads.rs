//! Reads of events.

use covey_core::access::Caller;
use covey_core::event::{
    Bucket, DeviceEvent, EventFilter, EventPage, EventReader, EventTypes, EventsFrom, Field, FieldQuery,
    Gauge, GaugeFilter, SeriesQuery,
};
use covey_core::id::{DeviceId, DeviceKey, OrgId, RecordNumber};
use covey_core::port::{Entries, Found, LIST_BYTES_MAX, Page, PageRequest, ReadKind, Turn};
use tokio_postgres::Row;

use crate::postgres::Postgres;
use crate::postgres::event::series;
use crate::postgres::lists::{Conditions, entries, page, within};
use crate::postgres::numbers::{LOOK_PAUSE, Looks, Settled};
use crate::postgres::pipeline::{Reply, Value, query, values};
use crate::postgres::pool::ReadSession;
use crate::rows::{self, ListColumns, ListScope, Read};

/// How many bytes an entry with a body takes.
const PAYLOAD_BYTES: &str = "octet_length(w.payload)";

impl EventReader for Postgres {
    fn event_list(&self, caller: &Caller, filter: EventFilter, from: EventsFrom) -> Found<'_, EventPage> {
        let (org, scope) = (caller.org, ListScope::of(caller, ListColumns::EVENTS));
        let kind = ReadKind::of_events(&filter, from).within(scope.is_some());
        self.reads.read(kind, Turn::Org(org), move |session| {
            let (filter, scope) = (filter.clone(), scope.clone());
            Box::pin(async move { event_page(session, org, scope.as_ref(), &filter, from).await })
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
        let org = caller.org;
        let scope = ListScope::of(caller, ListColumns::EVENTS).map(|scope| scope.json());
        let kind = ReadKind::of_events_after(&types).within(scope.is_some());
        self.reads.read(kind, Turn::Org(org), move |session| {
            let (types, scope) = (types.clone(), scope.clone());
            Box::pin(async move {
                let sql = &session.sql;
                let statement = match (&scope, device) {
                    (Some(_), _) => &sql.event.events_granted_after,
                    (None, Some(_)) => &sql.event.events_of_device_after,
                    (None, None) => &sql.event.events_after,
                };
                let mut looks = Looks::default();
                loop {
                    let mut values = values_after(org, device, &types, after, limit);
                    if let Some(scope) = &scope {
                        // The number of a device is the last value, if there is one.
                        values.truncate(AFTER_VALUES);
                        values.extend(values![device.map(|device| device.0), scope.clone()]);
                    }
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

    fn event_fields(&self, caller: &Caller, query: FieldQuery) -> Found<'_, Entries<Field>> {
        let org = caller.org;
        self.reads.read(ReadKind::EventFields, Turn::Org(org), move |session| {
            let query = query.clone();
            Box::pin(async move { series::event_fields(session, org, &query).await })
        })
    }

    fn event_series(&self, caller: &Caller, query: SeriesQuery) -> Found<'_, Vec<Bucket>> {
        let org = caller.org;
        self.reads.read(ReadKind::EventSeries, Turn::Org(org), move |session| {
            let query = query.clone();
            Box::pin(async move { series::event_series(session, org, &query).await })
        })
    }

    fn gauge_list(
        &self,
        caller: &Caller,
        filter: GaugeFilter,
        request: PageRequest,
    ) -> Found<'_, Page<Gauge>> {
        let (org, scope) = (caller.org, ListScope::of(caller, ListColumns::GAUGES));
        self.reads.read(
            ReadKind::of_gauges(&filter).within(scope.is_some()),
            Turn::Org(org),
            move |session| {
                let scope = scope.clone();
                Box::pin(async move {
                    let mut conditions = Conditions::default();
                    conditions.number("g.org_id = #", Some(org.0));
                    conditions.scope(scope.as_ref());
                    conditions.number("g.device_id = #", filter.device_id.map(|id| id.0));
                    conditions.number("g.type_code = #", filter.type_code);
                    let from = format!(
                        "gauges g JOIN devices d ON d.id = g.device_key AND d.retired_at IS NULL WHERE {}",
                        conditions.clause()
                    );
                    let total = format!("SELECT count(*) FROM {from}");
                    let rows = format!(
                        "{from} ORDER BY g.device_id, g.type_code LIMIT {} OFFSET {}",
                        request.size,
                        request.offset()
                    );
                    let order = "w.device_id, w.type_code";
                    let items = within(rows::gauge_columns!(), &rows, PAYLOAD_BYTES, order, LIST_BYTES_MAX);
                    let (total, found) = page(session, &conditions, &total, &items).await?;
                    let Entries { items, is_cut } = entries(&found, rows::GAUGE_COLUMNS, rows::gauge)?;
                    Ok(Page { items, total, is_cut })
                })
            },
        )
    }

    fn gauges_of(
        &self,
        caller: &Caller,
        devices: Vec<DeviceKey>,
        bytes_max: usize,
    ) -> Found<'_, Entries<Gauge>> {
        let org = caller.org;
        let keys: Vec<i64> = devices.iter().map(|device| device.0).collect();
        self.reads.read(ReadKind::Gauges, Turn::Org(org), move |session| {
            let values = values![keys.clone(), org.0, i64::try_from(bytes_max).unwrap_or(i64::MAX)];
            Box::pin(async move {
                let found = query(&session.client, &session.sql.event.gauges_of, values).await?.rows();
                entries(&found, rows::GAUGE_COLUMNS, rows::gauge)
            })
        })
    }
}

async fn event_page(
    session: &ReadSession,
    org: OrgId,
    scope: Option<&ListScope>,
    filter: &EventFilter,
    from: EventsFrom,
) -> Read<EventPage> {
    let mut conditions = Conditions::default();
    conditions.number("e.org_id = #", Some(org.0));
    conditions.scope(scope);
    let device_ids: Vec<i64> = filter.device_ids.iter().map(|id| id.0).collect();
    conditions.among("e.device_id", true, &device_ids);
    conditions.types(&filter.include);
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
    let rows = format!("events e WHERE {clause} ORDER BY e.id DESC LIMIT {size} OFFSET {skipped}");
    let items = within(rows::event_columns!(), &rows, PAYLOAD_BYTES, "w.id DESC", LIST_BYTES_MAX);
    let (total, found) = match from {
        EventsFrom::Before(..) => {
            let found = conditions.query(&session.client, &items).await.map(Reply::rows)?;
            (None, found)
        }
        EventsFrom::Page(_) => {
            let total = if scope.is_none() && *filter == EventFilter::default() {
                "SELECT coalesce(sum(count), 0)::int8 FROM event_counts WHERE org_id = $1".to_owned()
            } else {
                format!("SELECT count(*) FROM events e WHERE {clause}")
            };
            let (total, found) = page(session, &conditions, &total, &items).await?;
            (Some(total), found)
        }
    };
    let Entries { items, is_cut } = entries(&found, rows::EVENT_COLUMNS, rows::event)?;
    Ok(EventPage { items, total, is_cut })
}

/// How many bytes the bodies in a part of a list may take.
fn bytes_max() -> i64 {
    i64::try_from(LIST_BYTES_MAX).unwrap_or(i64::MAX)
}

/// How many values `events_after!` takes without that of a device.
const AFTER_VALUES: usize = 6;

/// The values that `events_after!` takes.
pub(crate) fn values_after<'v>(
    org: OrgId,
    device: Option<DeviceId>,
    types: &EventTypes,
    after: RecordNumber,
    limit: u32,
) -> Vec<Value<'v>> {
    let (least, these) = match types {
        EventTypes::OfDevices => (0, None),
        EventTypes::Any => (i64::MIN, None),
        EventTypes::These(types) => (i64::MIN, Some(types.clone())),
    };
    let mut values = values![org.0, after.0, i64::from(limit), least, these, bytes_max()];
    values.extend(device.map(|device| Box::new(device.0) as _));
    values
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
