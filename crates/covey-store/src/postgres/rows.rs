//! Between rows and domain types.

use std::sync::Arc;

use covey_core::access::{ApiKey, Rights};
use covey_core::device::{Device, DeviceIdentity, Presence, Tag};
use covey_core::id::{DeviceId, DeviceKey, OrgId, ResultId, Sn, TaskId, UnixMs};
use covey_core::task::{NewResult, Task, TaskResult, TaskStatus};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::encoding;

/// Why a row cannot be read: a column holds what no version of this program
/// wrote there.
#[derive(Debug, thiserror::Error)]
pub(super) enum Damaged {
    /// Another type than expected.
    #[error("a column cannot be read: {0}")]
    Type(#[from] tokio_postgres::Error),
    /// A value out of its range.
    #[error("column {0} holds no {1}")]
    Value(usize, &'static str),
}

pub(super) type Read<T> = Result<T, Damaged>;

pub(super) fn get<'r, T: FromSql<'r>>(row: &'r Row, column: usize) -> Read<T> {
    Ok(row.try_get(column)?)
}

fn number<T: TryFrom<i64>>(row: &Row, column: usize) -> Read<T> {
    T::try_from(get(row, column)?).map_err(|_| Damaged::Value(column, "number in range"))
}

fn instant(row: &Row, column: usize) -> Read<Option<UnixMs>> {
    Ok(get::<Option<i64>>(row, column)?.map(UnixMs))
}

pub(super) fn sn(row: &Row, column: usize) -> Read<Sn> {
    Sn::parse(get(row, column)?).map_err(|_| Damaged::Value(column, "serial number"))
}

/// A task, from the columns of `task_columns!`.
pub(super) fn task(row: &Row) -> Read<Task> {
    let out = Damaged::Value;
    let status = TaskStatus::from_number(get::<i16>(row, 13)?.into());
    Ok(Task {
        seq: get(row, 0)?,
        id: TaskId(get(row, 1)?),
        org: OrgId(get(row, 2)?),
        device: DeviceKey(get(row, 3)?),
        device_id: DeviceId(get(row, 4)?),
        sn: sn(row, 5)?,
        ext_task_id: get(row, 6)?,
        method_code: u16::try_from(get::<i32>(row, 7)?).map_err(|_| out(7, "method code"))?,
        method: get(row, 8)?,
        priority: u8::try_from(get::<i16>(row, 9)?).map_err(|_| out(9, "priority"))?,
        push_only: get(row, 10)?,
        created_at: UnixMs(get(row, 11)?),
        expires_at: UnixMs(get(row, 12)?),
        status: status.ok_or(out(13, "task status"))?,
        pending_at: instant(row, 14)?,
        locked_at: instant(row, 15)?,
        lease_until: instant(row, 16)?,
        deliveries: number(row, 17)?,
        results: number(row, 18)?,
        timeline: encoding::timeline_from(get(row, 19)?).ok_or(out(19, "timeline"))?,
        payload: get::<Option<&str>>(row, 20)?.map(Arc::from),
    })
}

/// A result, from `id, ext_id, status_code, received_at, body_kind, body`.
pub(super) fn result(row: &Row) -> Read<TaskResult> {
    let text = std::str::from_utf8(get(row, 5)?).map_err(|_| Damaged::Value(5, "text"))?;
    let body =
        encoding::body_from(get::<i16>(row, 4)?.into(), text).ok_or(Damaged::Value(4, "kind of body"))?;
    let result = NewResult { ext_id: get(row, 1)?, status_code: get(row, 2)?, body };
    Ok(TaskResult { id: ResultId(get(row, 0)?), result, received_at: UnixMs(get(row, 3)?) })
}

/// A device with its tags, from `device_columns!`.
pub(super) fn device(row: &Row) -> Read<Device> {
    let presence = match get::<Option<bool>>(row, 5)? {
        None => None,
        Some(online) => Some(Presence {
            online,
            connected_at: instant(row, 6)?,
            checked_at: UnixMs(get(row, 7)?),
            details: serde_json::from_str(get(row, 8)?).map_err(|_| Damaged::Value(8, "details"))?,
            session: get(row, 9)?,
            server: get(row, 10)?,
        }),
    };
    let tags: Vec<(String, String)> =
        serde_json::from_str(get(row, 11)?).map_err(|_| Damaged::Value(11, "tags"))?;
    let tags = tags.into_iter().map(|(tag, value)| Tag { tag, value }).collect();
    Ok(Device { identity: identity(row)?, created_at: UnixMs(get(row, 4)?), tags, presence })
}

/// Who a device is, from `id, org_id, device_id, sn`.
pub(super) fn identity(row: &Row) -> Read<DeviceIdentity> {
    Ok(DeviceIdentity {
        device: DeviceKey(get(row, 0)?),
        org: OrgId(get(row, 1)?),
        device_id: DeviceId(get(row, 2)?),
        sn: sn(row, 3)?,
    })
}

/// An API key, from `id, org_id, org name, name, rights, created_at`.
pub(super) fn api_key(row: &Row) -> Read<ApiKey> {
    Ok(ApiKey {
        id: get(row, 0)?,
        org: OrgId(get(row, 1)?),
        org_name: get(row, 2)?,
        name: get(row, 3)?,
        rights: Rights(number(row, 4)?),
        created_at: UnixMs(get(row, 5)?),
    })
}
