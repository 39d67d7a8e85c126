//! The outbox: records, with what they are about.

use std::collections::HashMap;
use std::sync::Arc;

use covey_core::access::Caller;
use covey_core::device::{DeviceIdentity, Tag};
use covey_core::id::{DeviceKey, OrgId, RecordNumber, TaskId};
use covey_core::port::{Found, ReadKind, Turn, TxResult};
use covey_core::record::{
    Change, NewRecord, Record, RecordDevice, RecordKind, RecordPage, RecordReader, RecordRequest, RecordSpan,
    RecordSteps,
};
use covey_core::webhook::EndpointId;
use rusqlite::{Connection, OptionalExtension, params};

use crate::rows;
use crate::rows::{About, Columns, Read, StoredRecord};
use crate::sqlite::Sqlite;
use crate::sqlite::statement::Ask;
use crate::sqlite::transaction::{Often, SqliteTransaction};

impl RecordReader for Sqlite {
    fn record_list_of_every_org(&self, request: RecordRequest) -> Found<'_, RecordPage> {
        let turn = request.org.map_or(Turn::Server, Turn::Org);
        self.read(ReadKind::of_records(&request), turn, move |connection| record_page(connection, &request))
    }

    fn record_span(&self, caller: &Caller) -> Found<'_, RecordSpan> {
        let org = caller.org;
        self.read(ReadKind::RecordSpan, Turn::Org(org), move |connection| record_span(connection, Some(org)))
    }

    fn record_span_of_every_org(&self) -> Found<'_, RecordSpan> {
        self.read(ReadKind::RecordSpan, Turn::Server, |connection| record_span(connection, None))
    }
}

/// Of an organisation it is known what is gone; of all, that there may be gaps
/// up to the first that is left.
fn record_span(connection: &Connection, org: Option<OrgId>) -> rusqlite::Result<RecordSpan> {
    let snapshot = connection.unchecked_transaction()?;
    let settled = head(&snapshot)?;
    let forgotten = match org {
        Some(org) => {
            let sql = "SELECT max(number) FROM records_forgotten WHERE org_id = ?1";
            snapshot.only(sql, [org.0], rows::first::<Option<i64>>)?.unwrap_or(0)
        }
        None => {
            let first = snapshot.only("SELECT min(number) FROM records", [], rows::first::<Option<i64>>)?;
            first.map_or(settled.0, |first| first - 1)
        }
    };
    Ok(RecordSpan { forgotten: RecordNumber(forgotten), settled })
}

/// The last number that was given: with one writer, all up to it are there.
pub(super) fn head(connection: &Connection) -> rusqlite::Result<RecordNumber> {
    connection.only("SELECT number FROM record_head", [], rows::first)
}

fn stored(row: &dyn Columns) -> Read<StoredRecord> {
    rows::stored_at(row, 0)
}

fn record_page(connection: &Connection, request: &RecordRequest) -> rusqlite::Result<RecordPage> {
    let snapshot = connection.unchecked_transaction()?;
    let head = head(&snapshot)?;
    let until = request.until.map_or(head, |until| until.min(head));
    let of_org = if request.org.is_some() { "r.org_id = ?4" } else { "?4 IS NULL" };
    let sql = format!(
        "SELECT {} FROM records r WHERE r.number > ?1 AND r.number <= ?2 AND {of_org} \
         ORDER BY r.number LIMIT ?3",
        rows::record_columns!()
    );
    let org = request.org.map(|org| org.0);
    let mut statement = snapshot.prepare_cached(&sql)?;
    let mut found = statement.query((request.after.0, until.0, request.limit, org))?;
    let mut tags = request.with_tags.then(HashMap::new);
    let mut records: Vec<Record> = Vec::new();
    let (mut position, mut bytes, mut looked_at, mut is_more) = (request.after, 0, 0, false);
    // Row by row, so that no body beyond the bound is read, but for the one that is too many.
    while let Some(row) = found.next()? {
        let stored = stored(row)?;
        let (number, at) = (stored.number, stored.at);
        let tags = match &mut tags {
            Some(known) => Some(tags_of(&snapshot, known, stored.identity.device)?),
            None => None,
        };
        let device = RecordDevice { identity: stored.identity.clone(), tags };
        if let Some(change) = change(&snapshot, stored)? {
            let record = Record { number, device, at, change };
            bytes += record.bytes();
            if bytes > request.bytes_max && !records.is_empty() {
                is_more = true;
                break;
            }
            records.push(record);
        }
        position = number;
        looked_at += 1;
    }
    is_more |= looked_at == request.limit;
    let position = if is_more { position } else { until.max(request.after) };
    Ok(RecordPage { records, position, is_more })
}

/// What a delivery that is stored tells, from its copy of the record.
pub(super) fn record_of_delivery(
    connection: &Connection,
    webhook: EndpointId,
    number: RecordNumber,
) -> rusqlite::Result<Option<Record>> {
    let sql = concat!(
        "SELECT ",
        rows::record_columns!(),
        " FROM webhook_letters r WHERE r.webhook_id = ?1 AND r.number = ?2"
    );
    let Some(stored) = connection.row(sql, (webhook.0, number.0), stored)? else { return Ok(None) };
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
    let sql = "SELECT tag, value FROM device_tags WHERE device_key = ?1";
    let tags: Arc<[Tag]> = connection.rows(sql, [device.0], rows::tag)?.into();
    known.insert(device, Arc::clone(&tags));
    Ok(tags)
}

/// What a record tells; nothing if what it is about has been forgotten.
fn change(connection: &Connection, stored: StoredRecord) -> rusqlite::Result<Option<Change>> {
    let mut about = About::default();
    if let Some(id) = stored.task {
        let mut statement = connection
            .prepare_cached("SELECT ext_task_id, method_code, method, created_by FROM tasks WHERE id = ?1")?;
        let task = statement.query_row([id.0.as_bytes()], |row| Ok(rows::record_task_at(row, 0, id)?));
        about.task = task.optional()?;
    }
    if let Some(result) = stored.result {
        let sql = concat!("SELECT ", rows::result_columns!(), " FROM results r WHERE r.id = ?1");
        about.result = connection.row(sql, [result.0], rows::result)?;
    }
    if stored.is_event() {
        let sql = concat!("SELECT ", rows::event_columns!(), " FROM events e WHERE e.id = ?1");
        about.event = connection.row(sql, [stored.number.0], rows::event)?;
    }
    Ok(stored.change(about))
}

/// What a row of the outbox holds beside whom it is about.
#[derive(Default)]
pub(super) struct RecordRow<'a> {
    pub(super) kind: Option<RecordKind>,
    pub(super) task: Option<TaskId>,
    pub(super) result_id: Option<i64>,
    pub(super) status: Option<i64>,
    pub(super) name: Option<&'a str>,
    pub(super) version: Option<i64>,
    pub(super) value: Option<&'a str>,
}

impl RecordSteps for SqliteTransaction<'_> {
    fn record(&mut self, device: &DeviceIdentity, record: &NewRecord) -> TxResult<()> {
        let row = match record {
            NewRecord::Task { id, status, cause } => RecordRow {
                kind: Some(RecordKind::Task),
                task: Some(*id),
                status: Some(status.number().into()),
                name: Some(cause.name()),
                ..RecordRow::default()
            },
            NewRecord::Result { task, result } => RecordRow {
                kind: Some(RecordKind::Result),
                task: Some(*task),
                result_id: Some(result.0),
                ..RecordRow::default()
            },
            NewRecord::Twin(change) => RecordRow {
                kind: Some(RecordKind::Twin),
                status: Some(rows::twin_side(change.side).into()),
                name: Some(&change.resource),
                version: Some(change.version),
                value: change.value.as_deref(),
                ..RecordRow::default()
            },
        };
        self.write_record(device, &row).map(drop)
    }
}

impl SqliteTransaction<'_> {
    /// Writes a record under the next number.
    pub(super) fn write_record(
        &mut self,
        device: &DeviceIdentity,
        row: &RecordRow<'_>,
    ) -> TxResult<RecordNumber> {
        let number = self.next_number()?;
        self.put_record(number, device, row)?;
        Ok(number)
    }

    /// Writes a record under a number that was not given before, and is given now.
    pub(super) fn put_record(
        &mut self,
        number: RecordNumber,
        device: &DeviceIdentity,
        row: &RecordRow<'_>,
    ) -> TxResult<()> {
        let at = self.now.0;
        self.change_often(
            Often::Record,
            "INSERT INTO records (number, org_id, device_key, device_id, sn, at, kind, task_id, result_id, \
             status, name, version, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            params![
                number.0,
                device.org.0,
                device.device.0,
                device.device_id.0,
                device.sn.as_str(),
                at,
                row.kind.map(RecordKind::number),
                row.task.as_ref().map(|task| task.0.as_bytes().as_slice()),
                row.result_id,
                row.status,
                row.name,
                row.version,
                row.value,
            ],
        )?;
        self.head = Some(number);
        Ok(())
    }

    /// The number that the next record will have.
    pub(super) fn next_number(&self) -> TxResult<RecordNumber> {
        Ok(RecordNumber(self.last_number()?.0 + 1))
    }

    /// The last number that was given.
    pub(super) fn last_number(&self) -> TxResult<RecordNumber> {
        match self.head {
            Some(head) => Ok(head),
            None => self.try_sql(head),
        }
    }

    /// Stores the last number that was given.
    pub(super) fn flush_head(&mut self) -> TxResult<()> {
        let Some(head) = self.head.take() else { return Ok(()) };
        self.change("UPDATE record_head SET number = ?1", [head.0]).map(drop)
    }
}
