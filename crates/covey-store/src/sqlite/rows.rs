//! Between rows and domain types.

use std::sync::Arc;

use covey_core::access::{ApiKey, Rights};
use covey_core::device::{Device, DeviceIdentity, Presence};
use covey_core::id::{DeviceId, DeviceKey, OrgId, ResultId, Sn, TaskId, UnixMs};
use covey_core::task::{NewResult, Task, TaskResult, TaskStatus};
use rusqlite::Row;
use rusqlite::types::Type;
use uuid::Uuid;

use crate::encoding;

/// A column that holds what no version of this program wrote there.
fn damaged(column: usize, kind: Type, problem: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, problem.into())
}

fn number<T: TryFrom<i64>>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    T::try_from(row.get(column)?).map_err(|_| damaged(column, Type::Integer, "number out of range"))
}

fn instant(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<UnixMs>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(UnixMs))
}

pub(super) fn sn(row: &Row<'_>, column: usize) -> rusqlite::Result<Sn> {
    Sn::parse(row.get_ref(column)?.as_str()?).map_err(|_| damaged(column, Type::Text, "no serial number"))
}

/// A task, from the columns of `task_columns!`.
pub(super) fn task(row: &Row<'_>) -> rusqlite::Result<Task> {
    let status = TaskStatus::from_number(row.get(13)?);
    Ok(Task {
        seq: row.get(0)?,
        id: TaskId(Uuid::from_bytes(row.get(1)?)),
        org: OrgId(row.get(2)?),
        device: DeviceKey(row.get(3)?),
        device_id: DeviceId(row.get(4)?),
        sn: sn(row, 5)?,
        ext_task_id: row.get(6)?,
        method_code: number(row, 7)?,
        method: row.get(8)?,
        priority: number(row, 9)?,
        push_only: row.get(10)?,
        created_at: UnixMs(row.get(11)?),
        expires_at: UnixMs(row.get(12)?),
        status: status.ok_or_else(|| damaged(13, Type::Integer, "no task status"))?,
        pending_at: instant(row, 14)?,
        locked_at: instant(row, 15)?,
        lease_until: instant(row, 16)?,
        deliveries: number(row, 17)?,
        results: number(row, 18)?,
        timeline: encoding::timeline_from(row.get_ref(19)?.as_str()?)
            .ok_or_else(|| damaged(19, Type::Text, "no timeline"))?,
        payload: row.get::<_, Option<Arc<str>>>(20)?,
    })
}

/// A result, from `id, ext_id, status_code, received_at, body_kind, body`.
pub(super) fn result(row: &Row<'_>) -> rusqlite::Result<TaskResult> {
    let body = encoding::body_from(row.get(4)?, row.get::<_, Arc<str>>(5)?)
        .ok_or_else(|| damaged(4, Type::Integer, "no kind of body"))?;
    let result = NewResult { ext_id: row.get(1)?, status_code: row.get(2)?, body };
    Ok(TaskResult { id: ResultId(row.get(0)?), result, received_at: UnixMs(row.get(3)?) })
}

/// The columns of a device, in the order that [`device`] reads them.
pub(super) const DEVICE_COLUMNS: &str = "d.id, d.org_id, d.device_id, d.sn, d.created_at, c.online, c.connected_at, c.checked_at, c.details, \
     c.session, c.server";

/// A device without its tags, from [`DEVICE_COLUMNS`].
pub(super) fn device(row: &Row<'_>) -> rusqlite::Result<Device> {
    let presence = match row.get::<_, Option<bool>>(5)? {
        None => None,
        Some(online) => Some(Presence {
            online,
            connected_at: instant(row, 6)?,
            checked_at: UnixMs(row.get(7)?),
            details: serde_json::from_str(row.get_ref(8)?.as_str()?)
                .map_err(|_| damaged(8, Type::Text, "no details"))?,
            session: row.get(9)?,
            server: row.get(10)?,
        }),
    };
    Ok(Device { identity: identity(row)?, created_at: UnixMs(row.get(4)?), tags: Vec::new(), presence })
}

/// Who a device is, from `id, org_id, device_id, sn`.
pub(super) fn identity(row: &Row<'_>) -> rusqlite::Result<DeviceIdentity> {
    Ok(DeviceIdentity {
        device: DeviceKey(row.get(0)?),
        org: OrgId(row.get(1)?),
        device_id: DeviceId(row.get(2)?),
        sn: sn(row, 3)?,
    })
}

/// An API key, from `id, org_id, org name, name, rights, created_at`.
pub(super) fn api_key(row: &Row<'_>) -> rusqlite::Result<ApiKey> {
    Ok(ApiKey {
        id: row.get(0)?,
        org: OrgId(row.get(1)?),
        org_name: row.get(2)?,
        name: row.get(3)?,
        rights: Rights(number(row, 4)?),
        created_at: UnixMs(row.get(5)?),
    })
}
