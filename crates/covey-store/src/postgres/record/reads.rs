//! Reads of the outbox.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use covey_core::access::Caller;
use covey_core::device::Tag;
use covey_core::id::{DeviceKey, OrgId, RecordNumber};
use covey_core::port::{Found, ReadKind, Turn};
use covey_core::record::{Change, Record, RecordDevice, RecordPage, RecordReader, RecordRequest, RecordSpan};
use tokio::time::sleep;

use crate::postgres::Postgres;
use crate::postgres::device::tags;
use crate::postgres::numbers::{LOOK_PAUSE, Looks, Settled};
use crate::postgres::pipeline::{query, values};
use crate::postgres::pool::ReadSession;
use crate::postgres::record::RECORD_COLUMNS;
use crate::rows::{self, About, Columns, Read, StoredRecord};

/// How often one who reads for all looks whether records that are there already
/// may be told, before the answer is that there are more.
const WAIT_LOOKS: u32 = 12;

/// The pauses before these looks; about what a commit takes, then longer.
const WAIT_PAUSE_MIN: Duration = Duration::from_millis(1);

const WAIT_PAUSE_MAX: Duration = Duration::from_millis(10);

impl RecordReader for Postgres {
    /// Records that are there but not yet settled are waited for a little, if one
    /// asks for all organisations: nothing else may happen that would make
    /// anyone ask again. Then they count as more.
    fn record_list_of_every_org(&self, request: RecordRequest) -> Found<'_, RecordPage> {
        let turn = request.org.map_or(Turn::Server, Turn::Org);
        self.reads.read(ReadKind::of_records(&request), turn, move |session| {
            let request = request.clone();
            Box::pin(async move {
                let (mut pause, mut waits) = (WAIT_PAUSE_MIN, 0);
                loop {
                    let (page, has_beyond) = record_page(session, &request).await?;
                    if !has_beyond || page.is_more || !page.records.is_empty() || waits == WAIT_LOOKS {
                        return Ok(RecordPage { is_more: page.is_more || has_beyond, ..page });
                    }
                    waits += 1;
                    sleep(pause).await;
                    pause = (pause * 2).min(WAIT_PAUSE_MAX);
                }
            })
        })
    }

    fn record_span(&self, caller: &Caller) -> Found<'_, RecordSpan> {
        let org = caller.org;
        self.reads.read(ReadKind::RecordSpan, Turn::Org(org), move |session| {
            Box::pin(record_span(session, Some(org)))
        })
    }

    fn record_span_of_every_org(&self) -> Found<'_, RecordSpan> {
        self.reads.read(ReadKind::RecordSpan, Turn::Server, |session| Box::pin(record_span(session, None)))
    }
}

async fn record_span(session: &ReadSession, org: Option<OrgId>) -> Read<RecordSpan> {
    let mut looks = Looks::default();
    loop {
        let row = session.client.query_one(&session.sql.record.record_span, &[&org.map(|org| org.0)]).await?;
        let found = Settled::from_row(&row, 0)?;
        if looks.are_enough(&found) {
            let (settled, forgotten) = (found.position, rows::get::<RecordNumber>(&row, 3)?);
            return Ok(RecordSpan { forgotten: forgotten.min(settled), settled });
        }
        sleep(LOOK_PAUSE).await;
    }
}

/// A page; also whether there are records that are not settled, where that counts.
async fn record_page(session: &ReadSession, request: &RecordRequest) -> Read<(RecordPage, bool)> {
    let statement =
        if request.org.is_some() { &session.sql.record.records_of_org } else { &session.sql.record.records };
    let mut looks = Looks::default();
    let (found, settled) = loop {
        let mut values = values![
            request.after.0,
            request.until.map(|until| until.0),
            i64::from(request.limit),
            request.with_tags,
            i64::try_from(Record::FRAME_BYTES).unwrap_or(i64::MAX),
            i64::try_from(request.bytes_max).unwrap_or(i64::MAX)
        ];
        values.extend(request.org.map(|org| Box::new(org.0) as _));
        let found = query(&session.client, statement, values).await?.rows();
        let Some(first) = found.first() else { return Ok((RecordPage::default(), false)) };
        let settled = Settled::from_row(first, 0)?;
        if looks.are_enough(&settled) {
            break (found, settled.position);
        }
        sleep(LOOK_PAUSE).await;
    };
    let has_beyond = found.first().map_or(Ok(false), |row| rows::get(row, 3))? && request.until.is_none();
    let mut stored = Vec::with_capacity(found.len());
    for row in &found {
        if let Some(number) = rows::get(row, RECORD_AT + 4)? {
            stored.push((number, row));
        }
    }
    stored.sort_by_key(|(number, _)| *number);
    let without_bound = found.first().map_or(Ok(None), |row| rows::get::<Option<i64>>(row, FOUND_AT))?;
    let is_full = stored.len() == request.limit as usize
        || without_bound.is_some_and(|count| usize::try_from(count).is_ok_and(|count| count > stored.len()));
    let end = if is_full { stored.last().map(|(number, _)| *number) } else { None };
    let bound = request.until.map_or(settled, |until| until.min(settled));
    let position = end.unwrap_or(bound).max(request.after);
    // What was settled when somebody else looked is so, even if it cannot be proved now.
    let is_more = is_full || request.until.is_some_and(|until| position < until);
    let mut tags = HashMap::new();
    let mut records = Vec::with_capacity(stored.len());
    for (_, row) in stored {
        records.extend(record(row, device_tags(row, &mut tags)?)?);
    }
    Ok((RecordPage { records, position, is_more }, has_beyond))
}

/// Where the record itself begins in `records!` and its like.
const RECORD_AT: usize = 4;

/// Where the tags of its device are, and what it is about.
const TAGS_AT: usize = 17;

const TASK_AT: usize = 18;

const RESULT_AT: usize = 22;

const EVENT_AT: usize = 28;

/// Where it is told how many there are without the bound of bytes.
const FOUND_AT: usize = RECORD_COLUMNS + 2;

/// One record without tags; none if what it is about has been forgotten.
pub(crate) fn record_from(row: &dyn Columns) -> Read<Option<Record>> {
    record(row, None)
}

fn record(row: &dyn Columns, tags: Option<Arc<[Tag]>>) -> Read<Option<Record>> {
    let stored = rows::stored_at(row, RECORD_AT)?;
    let (number, at) = (stored.number, stored.at);
    let device = RecordDevice { identity: stored.identity.clone(), tags };
    Ok(change(row, stored)?.map(|change| Record { number, device, at, change }))
}

fn device_tags(row: &dyn Columns, known: &mut HashMap<DeviceKey, Arc<[Tag]>>) -> Read<Option<Arc<[Tag]>>> {
    let Some(text) = rows::get::<Option<&str>>(row, TAGS_AT)? else { return Ok(None) };
    let device = rows::get(row, RECORD_AT)?;
    if let Some(tags) = known.get(&device) {
        return Ok(Some(Arc::clone(tags)));
    }
    let tags: Arc<[Tag]> = tags(TAGS_AT, text)?.into();
    known.insert(device, Arc::clone(&tags));
    Ok(Some(tags))
}

/// What a record tells; nothing if what it is about has been forgotten.
fn change(row: &dyn Columns, stored: StoredRecord) -> Read<Option<Change>> {
    let mut about = About::default();
    if let Some(id) = stored.task
        && rows::get::<Option<&str>>(row, TASK_AT)?.is_some()
    {
        about.task = Some(rows::record_task_at(row, TASK_AT, id)?);
    }
    if rows::get::<Option<i64>>(row, RESULT_AT)?.is_some() {
        about.result = Some(rows::result_at(row, RESULT_AT)?);
    }
    if rows::get::<Option<i64>>(row, EVENT_AT)?.is_some() {
        about.event = Some(rows::event_at(row, EVENT_AT)?);
    }
    Ok(stored.change(about))
}
