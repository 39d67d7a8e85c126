//! The reads of the outbox: records, with what they are about.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use covey_core::access::Caller;
use covey_core::device::Tag;
use covey_core::error::Result;
use covey_core::id::{DeviceKey, OrgId, RecordNumber, TaskId, UnixMs};
use covey_core::port::BoxFuture;
use covey_core::presence::Reason;
use covey_core::record::{
    Change, Record, RecordDevice, RecordKind, RecordPage, RecordReader, RecordRequest, RecordSpan,
    RecordTask, TwinChange,
};
use covey_core::task::{Cause, TaskStatus};
use tokio::time::sleep;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::encoding;
use crate::postgres::Postgres;
use crate::postgres::numbers::{LOOK_PAUSE, Looks, Settled};
use crate::postgres::pipeline::query;
use crate::postgres::pool::ReadSession;
use crate::postgres::rows::{self, Read};

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
    fn record_list_of_every_org(&self, request: RecordRequest) -> BoxFuture<'_, Result<RecordPage>> {
        self.reads.read(move |session| {
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

    fn record_span(&self, caller: &Caller) -> BoxFuture<'_, Result<RecordSpan>> {
        let org = caller.org;
        self.reads.read(move |session| Box::pin(record_span(session, Some(org))))
    }

    fn record_span_of_every_org(&self) -> BoxFuture<'_, Result<RecordSpan>> {
        self.reads.read(|session| Box::pin(record_span(session, None)))
    }
}

async fn record_span(session: &ReadSession, org: Option<OrgId>) -> Read<RecordSpan> {
    let mut looks = Looks::default();
    loop {
        let row = session.client.query_one(&session.sql.record_span, &[&org.map(|org| org.0)]).await?;
        let found = Settled::from_row(&row, 0)?;
        if looks.are_enough(&found) {
            let (settled, forgotten) = (found.position, RecordNumber(rows::get(&row, 3)?));
            return Ok(RecordSpan { forgotten: forgotten.min(settled), settled });
        }
        sleep(LOOK_PAUSE).await;
    }
}

/// A page; also whether there are records that are not settled, where that counts.
async fn record_page(session: &ReadSession, request: &RecordRequest) -> Read<(RecordPage, bool)> {
    let statement = if request.org.is_some() { &session.sql.records_of_org } else { &session.sql.records };
    let mut looks = Looks::default();
    let (found, settled) = loop {
        let mut values = vec![
            Box::new(request.after.0) as _,
            Box::new(request.until.map(|until| until.0)) as _,
            Box::new(i64::from(request.limit)) as _,
            Box::new(request.with_tags) as _,
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
        if let Some(number) = rows::get::<Option<i64>>(row, 8)? {
            stored.push((RecordNumber(number), row));
        }
    }
    stored.sort_by_key(|(number, _)| *number);
    let is_full = stored.len() == request.limit as usize;
    let end = if is_full { stored.last().map(|(number, _)| *number) } else { None };
    let bound = request.until.map_or(settled, |until| until.min(settled));
    let position = end.unwrap_or(bound).max(request.after);
    // What was settled when somebody else looked is so, even if it cannot be proved now.
    let is_more = is_full || request.until.is_some_and(|until| position < until);
    let mut tags = HashMap::new();
    let mut records = Vec::with_capacity(stored.len());
    for (number, row) in stored {
        let device =
            RecordDevice { identity: rows::identity_at(row, 4)?, tags: device_tags(row, &mut tags)? };
        let at = UnixMs(rows::get(row, 9)?);
        records.extend(change(row)?.map(|change| Record { number, device, at, change }));
    }
    Ok((RecordPage { records, position, is_more }, has_beyond))
}

/// How many columns a record has with what it is about, and the four before it.
pub(super) const RECORD_COLUMNS: usize = 37;

/// One record without tags; none if what it is about has been forgotten.
pub(super) fn record_from(row: &Row) -> Read<Option<Record>> {
    let device = RecordDevice { identity: rows::identity_at(row, 4)?, tags: None };
    let (number, at) = (RecordNumber(rows::get(row, 8)?), UnixMs(rows::get(row, 9)?));
    Ok(change(row)?.map(|change| Record { number, device, at, change }))
}

fn device_tags(row: &Row, known: &mut HashMap<DeviceKey, Arc<[Tag]>>) -> Read<Option<Arc<[Tag]>>> {
    let Some(text) = rows::get::<Option<&str>>(row, 16)? else { return Ok(None) };
    let device = DeviceKey(rows::get(row, 4)?);
    if let Some(tags) = known.get(&device) {
        return Ok(Some(Arc::clone(tags)));
    }
    let tags: Arc<[Tag]> = rows::tags(16, text)?.into();
    known.insert(device, Arc::clone(&tags));
    Ok(Some(tags))
}

/// What a record tells; nothing if what it is about has been forgotten.
fn change(row: &Row) -> Read<Option<Change>> {
    let Some(kind) = RecordKind::from_number(rows::get::<i16>(row, 10)?.into()) else { return Ok(None) };
    let (status, name): (i16, &str) = (rows::get(row, 12)?, rows::get(row, 13)?);
    Ok(match kind {
        RecordKind::Task => {
            let status = TaskStatus::from_number(status.into()).unwrap_or(TaskStatus::Undefined);
            let task = task(row)?.zip(Cause::from_name(name));
            task.map(|(task, cause)| Change::Task { task, status, cause })
        }
        RecordKind::Result => {
            let has_result = rows::get::<Option<i64>>(row, 20)?.is_some();
            let Some(task) = task(row)?.filter(|_| has_result) else { return Ok(None) };
            Some(Change::Result { task, result: rows::result_at(row, 20)? })
        }
        RecordKind::Event => {
            let has_event = rows::get::<Option<i64>>(row, 26)?.is_some();
            if has_event { Some(Change::Event(rows::event_at(row, 26)?)) } else { None }
        }
        RecordKind::Presence => {
            let reason = Reason::from_name(name).unwrap_or(Reason::Unknown);
            Some(Change::Presence { online: status != 0, reason })
        }
        RecordKind::Twin => {
            let value = rows::get::<Option<&str>>(row, 15)?.map(Arc::from);
            let (resource, version) = (name.to_owned(), rows::get(row, 14)?);
            let side = encoding::twin_side_from(status.into());
            side.map(|side| Change::Twin(TwinChange { side, resource, value, version }))
        }
    })
}

/// What never changes of a task.
fn task(row: &Row) -> Read<Option<RecordTask>> {
    let (id, ext_task_id): (Option<Uuid>, Option<String>) = (rows::get(row, 11)?, rows::get(row, 17)?);
    let Some((id, ext_task_id)) = id.zip(ext_task_id) else { return Ok(None) };
    let method_code =
        u16::try_from(rows::get::<i32>(row, 18)?).map_err(|_| rows::Damaged::Value(18, "method code"))?;
    Ok(Some(RecordTask { id: TaskId(id), ext_task_id, method_code, method: rows::get(row, 19)? }))
}
