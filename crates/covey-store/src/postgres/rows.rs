//! Between rows and domain types.

use std::sync::Arc;

use covey_core::access::{ApiKey, Rights};
use covey_core::device::{Device, DeviceIdentity, Presence, Tag};
use covey_core::event::{DeviceEvent, EventKey, Gauge};
use covey_core::id::{DeviceId, DeviceKey, OrgId, RecordNumber, ResultId, Sn, TaskId, UnixMs};
use covey_core::presence::{PresenceTold, Reason};
use covey_core::task::{NewResult, Task, TaskResult, TaskStatus};
use covey_core::twin::{DesiredValue, ReportedValue, TwinResource, TwinVersions};
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

pub(super) fn number<T: TryFrom<i64>>(row: &Row, column: usize) -> Read<T> {
    T::try_from(get(row, column)?).map_err(|_| Damaged::Value(column, "number in range"))
}

pub(super) fn instant(row: &Row, column: usize) -> Read<Option<UnixMs>> {
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
    result_at(row, 0)
}

/// The same from a later column on.
pub(super) fn result_at(row: &Row, at: usize) -> Read<TaskResult> {
    let text = std::str::from_utf8(get(row, at + 5)?).map_err(|_| Damaged::Value(at + 5, "text"))?;
    let body = encoding::body_from(get::<i16>(row, at + 4)?.into(), text)
        .ok_or(Damaged::Value(at + 4, "kind of body"))?;
    let result = NewResult { ext_id: get(row, at + 1)?, status_code: get(row, at + 2)?, body };
    Ok(TaskResult { id: ResultId(get(row, at)?), result, received_at: UnixMs(get(row, at + 3)?) })
}

/// An event, from `event_columns!` from a column on.
pub(super) fn event_at(row: &Row, at: usize) -> Read<DeviceEvent> {
    let DeviceIdentity { org, device, device_id, sn } = identity_at(row, at)?;
    Ok(DeviceEvent {
        id: RecordNumber(get(row, at + 4)?),
        org,
        device,
        device_id,
        sn,
        type_code: get(row, at + 5)?,
        key: EventKey { dev_event_id: number(row, at + 6)?, dev_timestamp: UnixMs(get(row, at + 7)?) },
        received_at: UnixMs(get(row, at + 8)?),
        correlation: get(row, at + 9)?,
        payload: get::<&str>(row, at + 10)?.into(),
    })
}

/// A gauge, from `gauge_columns!`.
pub(super) fn gauge(row: &Row) -> Read<Gauge> {
    Ok(Gauge {
        device_id: DeviceId(get(row, 0)?),
        type_code: get(row, 1)?,
        updated_at: UnixMs(get(row, 2)?),
        payload: get::<&str>(row, 3)?.into(),
    })
}

/// A device with its tags, from `device_columns!`.
pub(super) fn device(row: &Row) -> Read<Device> {
    let presence = match get::<Option<bool>>(row, 5)? {
        None => None,
        Some(_) => Some(presence_at(row, 5)?),
    };
    let tags = tags(12, get(row, 12)?)?;
    Ok(Device { identity: identity(row)?, created_at: UnixMs(get(row, 4)?), tags, presence })
}

/// A presence, from `online, connected_at, checked_at, details, session, server, reason`
/// from a column on.
pub(super) fn presence_at(row: &Row, at: usize) -> Read<Presence> {
    let details = serde_json::from_str(get(row, at + 3)?);
    Ok(Presence {
        online: get(row, at)?,
        connected_at: instant(row, at + 1)?,
        checked_at: UnixMs(get(row, at + 2)?),
        details: details.map_err(|_| Damaged::Value(at + 3, "details"))?,
        session: get(row, at + 4)?,
        server: get(row, at + 5)?,
        reason: Reason::from_name(get(row, at + 6)?).unwrap_or(Reason::Unknown),
    })
}

/// What was told of a presence, from `told_online, told_changes, told_since, told_due`
/// from a column on.
pub(super) fn told_at(row: &Row, at: usize) -> Read<PresenceTold> {
    Ok(PresenceTold {
        online: get(row, at)?,
        changes: number(row, at + 1)?,
        since: UnixMs(get(row, at + 2)?),
        due: instant(row, at + 3)?,
    })
}

/// The versions of a twin from a column on.
pub(super) fn twin_versions_at(row: &Row, at: usize) -> Read<TwinVersions> {
    Ok(TwinVersions { reported: get(row, at)?, desired: get(row, at + 1)? })
}

/// A resource of a twin, from `twin_resource_columns!`.
pub(super) fn twin_resource(row: &Row) -> Read<TwinResource> {
    let text = |column| Ok::<_, Damaged>(get::<Option<&str>>(row, column)?.map(Arc::from));
    let reported = match text(1)? {
        None => None,
        value => Some(ReportedValue { value, version: get(row, 2)?, at: UnixMs(get(row, 3)?) }),
    };
    let desired = match text(4)? {
        None => None,
        Some(value) => Some(DesiredValue {
            value,
            version: get(row, 5)?,
            at: UnixMs(get(row, 6)?),
            task: TaskId(get(row, 7)?),
        }),
    };
    Ok(TwinResource { name: get(row, 0)?, reported, desired })
}

/// What was reported of a resource, from `value, version, at`.
pub(super) fn reported_value(row: &Row) -> Read<ReportedValue> {
    let value = get::<Option<&str>>(row, 0)?.map(Arc::from);
    Ok(ReportedValue { value, version: get(row, 1)?, at: UnixMs(get(row, 2)?) })
}

/// Who a device is, from `id, org_id, device_id, sn`.
pub(super) fn identity(row: &Row) -> Read<DeviceIdentity> {
    identity_at(row, 0)
}

/// The same from a later column on.
pub(super) fn identity_at(row: &Row, at: usize) -> Read<DeviceIdentity> {
    Ok(DeviceIdentity {
        device: DeviceKey(get(row, at)?),
        org: OrgId(get(row, at + 1)?),
        device_id: DeviceId(get(row, at + 2)?),
        sn: sn(row, at + 3)?,
    })
}

/// Tags, as JSON: `[["name", "value"], …]`.
pub(super) fn tags(column: usize, text: &str) -> Read<Vec<Tag>> {
    let tags: Vec<(String, String)> =
        serde_json::from_str(text).map_err(|_| Damaged::Value(column, "tags"))?;
    Ok(tags.into_iter().map(|(tag, value)| Tag { tag, value }).collect())
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
