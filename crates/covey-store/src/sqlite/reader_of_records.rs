//! The reads of the outbox: records, with what they are about.

use std::collections::HashMap;
use std::sync::Arc;

use covey_core::access::Caller;
use covey_core::device::{DeviceIdentity, Tag};
use covey_core::error::Result;
use covey_core::id::{DeviceKey, OrgId, RecordNumber, ResultId, TaskId, UnixMs};
use covey_core::port::BoxFuture;
use covey_core::presence::Reason;
use covey_core::record::{
    Change, Record, RecordDevice, RecordKind, RecordPage, RecordReader, RecordRequest, RecordSpan,
    RecordTask, TwinChange,
};
use covey_core::task::{Cause, TaskStatus};
use covey_core::webhook::EndpointId;
use rusqlite::{Connection, OptionalExtension, Row, ToSql};
use uuid::Uuid;

use crate::encoding;
use crate::sqlite::{Sqlite, rows};

impl RecordReader for Sqlite {
    fn record_list_of_every_org(&self, request: RecordRequest) -> BoxFuture<'_, Result<RecordPage>> {
        self.read(move |connection| record_page(connection, &request))
    }

    fn record_span(&self, caller: &Caller) -> BoxFuture<'_, Result<RecordSpan>> {
        let org = caller.org;
        self.read(move |connection| record_span(connection, Some(org)))
    }

    fn record_span_of_every_org(&self) -> BoxFuture<'_, Result<RecordSpan>> {
        self.read(|connection| record_span(connection, None))
    }
}

/// Of an organisation it is known what is gone; of all, that there may be gaps
/// up to the first that is left.
fn record_span(connection: &Connection, org: Option<OrgId>) -> rusqlite::Result<RecordSpan> {
    let snapshot = connection.unchecked_transaction()?;
    let settled = head(&snapshot)?;
    let number = |sql: &str, parameters: &[&dyn ToSql]| -> rusqlite::Result<Option<i64>> {
        snapshot.prepare_cached(sql)?.query_row(parameters, |row| row.get(0))
    };
    let forgotten = match org {
        Some(org) => {
            number("SELECT max(number) FROM records_forgotten WHERE org_id = ?1", &[&org.0])?.unwrap_or(0)
        }
        None => number("SELECT min(number) FROM records", &[])?.map_or(settled.0, |first| first - 1),
    };
    Ok(RecordSpan { forgotten: RecordNumber(forgotten), settled })
}

/// The last number that was given: with one writer, all up to it are there.
fn head(connection: &Connection) -> rusqlite::Result<RecordNumber> {
    let mut statement = connection.prepare_cached("SELECT number FROM record_head")?;
    statement.query_row([], |row| row.get(0).map(RecordNumber))
}

/// A row of the outbox.
struct Stored {
    number: RecordNumber,
    identity: DeviceIdentity,
    at: UnixMs,
    kind: i64,
    task: Option<TaskId>,
    result: Option<ResultId>,
    status: i64,
    name: String,
    version: i64,
    value: Option<Arc<str>>,
}

/// The columns of a record, in the order that they are read.
const COLUMNS: &str = "r.device_key, r.org_id, r.device_id, r.sn, r.number, r.at, r.kind, r.task_id, \
     r.result_id, coalesce(r.status, 0), coalesce(r.name, ''), coalesce(r.version, 0), r.value";

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        identity: rows::identity(row)?,
        number: RecordNumber(row.get(4)?),
        at: UnixMs(row.get(5)?),
        kind: row.get(6)?,
        task: row.get::<_, Option<[u8; 16]>>(7)?.map(|bytes| TaskId(Uuid::from_bytes(bytes))),
        result: row.get::<_, Option<i64>>(8)?.map(ResultId),
        status: row.get(9)?,
        name: row.get(10)?,
        version: row.get(11)?,
        value: row.get(12)?,
    })
}

fn record_page(connection: &Connection, request: &RecordRequest) -> rusqlite::Result<RecordPage> {
    let snapshot = connection.unchecked_transaction()?;
    let head = head(&snapshot)?;
    let until = request.until.map_or(head, |until| until.min(head));
    let of_org = if request.org.is_some() { "r.org_id = ?4" } else { "?4 IS NULL" };
    let sql = format!(
        "SELECT {COLUMNS} FROM records r WHERE r.number > ?1 AND r.number <= ?2 AND {of_org} \
         ORDER BY r.number LIMIT ?3"
    );
    let mut statement = snapshot.prepare_cached(&sql)?;
    let org = request.org.map(|org| org.0);
    let found = statement.query_map((request.after.0, until.0, request.limit, org), stored)?;
    let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let is_more = found.len() == request.limit as usize;
    let end = if is_more { found.last().map(|last| last.number) } else { None };
    let position = end.unwrap_or(until).max(request.after);
    let mut tags = request.with_tags.then(HashMap::new);
    let mut records = Vec::with_capacity(found.len());
    for stored in found {
        let tags = match &mut tags {
            Some(known) => Some(tags_of(&snapshot, known, stored.identity.device)?),
            None => None,
        };
        let (number, at) = (stored.number, stored.at);
        let device = RecordDevice { identity: stored.identity.clone(), tags };
        records.extend(change(&snapshot, stored)?.map(|change| Record { number, device, at, change }));
    }
    Ok(RecordPage { records, position, is_more })
}

/// What a letter that is stored tells, from its copy of the record.
pub(super) fn record_of_letter(
    connection: &Connection,
    webhook: EndpointId,
    number: RecordNumber,
) -> rusqlite::Result<Option<Record>> {
    let sql = format!("SELECT {COLUMNS} FROM webhook_letters r WHERE r.webhook_id = ?1 AND r.number = ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let Some(stored) = statement.query_row((webhook.0, number.0), stored).optional()? else {
        return Ok(None);
    };
    let (at, device) = (stored.at, RecordDevice { identity: stored.identity.clone(), tags: None });
    Ok(change(connection, stored)?.map(|change| Record { number, device, at, change }))
}

fn tags_of(
    connection: &Connection,
    known: &mut HashMap<DeviceKey, Arc<[Tag]>>,
    device: DeviceKey,
) -> rusqlite::Result<Arc<[Tag]>> {
    if let Some(tags) = known.get(&device) {
        return Ok(Arc::clone(tags));
    }
    let mut statement =
        connection.prepare_cached("SELECT tag, value FROM device_tags WHERE device_key = ?1")?;
    let tags = statement.query_map([device.0], |row| Ok(Tag { tag: row.get(0)?, value: row.get(1)? }))?;
    let tags: Arc<[Tag]> = tags.collect::<rusqlite::Result<Vec<_>>>()?.into();
    known.insert(device, Arc::clone(&tags));
    Ok(tags)
}

/// What a record tells; nothing if what it is about has been forgotten.
fn change(connection: &Connection, stored: Stored) -> rusqlite::Result<Option<Change>> {
    let Some(kind) = RecordKind::from_number(stored.kind) else { return Ok(None) };
    Ok(match kind {
        RecordKind::Task => {
            let status = TaskStatus::from_number(stored.status).unwrap_or(TaskStatus::Undefined);
            let cause = Cause::from_name(&stored.name);
            let task = task(connection, stored.task)?;
            task.zip(cause).map(|(task, cause)| Change::Task { task, status, cause })
        }
        RecordKind::Result => {
            let Some(task) = task(connection, stored.task)? else { return Ok(None) };
            let mut statement = connection.prepare_cached(
                "SELECT id, ext_id, status_code, received_at, body_kind, body FROM results WHERE id = ?1",
            )?;
            let result = statement.query_row([stored.result.map(|id| id.0)], rows::result).optional()?;
            result.map(|result| Change::Result { task, result })
        }
        RecordKind::Event => {
            let sql = format!("SELECT {} FROM events e WHERE e.id = ?1", rows::EVENT_COLUMNS);
            let mut statement = connection.prepare_cached(&sql)?;
            statement.query_row([stored.number.0], rows::event).optional()?.map(Change::Event)
        }
        RecordKind::Presence => {
            let reason = Reason::from_name(&stored.name).unwrap_or(Reason::Unknown);
            Some(Change::Presence { online: stored.status != 0, reason })
        }
        RecordKind::Twin => {
            let (side, resource) = (encoding::twin_side_from(stored.status), stored.name);
            let (value, version) = (stored.value, stored.version);
            side.map(|side| Change::Twin(TwinChange { side, resource, value, version }))
        }
    })
}

/// What never changes of a task.
fn task(connection: &Connection, id: Option<TaskId>) -> rusqlite::Result<Option<RecordTask>> {
    let Some(id) = id else { return Ok(None) };
    let mut statement =
        connection.prepare_cached("SELECT ext_task_id, method_code, method FROM tasks WHERE id = ?1")?;
    let task = statement.query_row([id.0.as_bytes()], |row| {
        let method_code = rows::number(row, 1)?;
        Ok(RecordTask { id, ext_task_id: row.get(0)?, method_code, method: row.get(2)? })
    });
    task.optional()
}
