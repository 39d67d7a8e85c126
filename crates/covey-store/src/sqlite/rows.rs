//! Between rows and domain types.

use std::sync::Arc;

use covey_core::access::{ApiKey, Rights};
use covey_core::device::{Device, DeviceIdentity, Presence};
use covey_core::event::{DeviceEvent, EventKey, Gauge};
use covey_core::id::{DeviceId, DeviceKey, OrgId, RecordNumber, ResultId, Sn, TaskId, UnixMs};
use covey_core::presence::Reason;
use covey_core::task::{NewResult, Task, TaskResult, TaskStatus};
use covey_core::twin::{DesiredValue, ReportedValue, TwinResource, TwinVersions};
use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, Row};
use uuid::Uuid;

use crate::encoding;

/// A column that holds what no version of this program wrote there.
pub(super) fn damaged(column: usize, kind: Type, problem: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, problem.into())
}

pub(super) fn number<T: TryFrom<i64>>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    T::try_from(row.get(column)?).map_err(|_| damaged(column, Type::Integer, "number out of range"))
}

pub(super) fn instant(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<UnixMs>> {
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
     c.session, c.server, c.reason";

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
            reason: Reason::from_name(row.get_ref(11)?.as_str()?).unwrap_or(Reason::Unknown),
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

/// The columns of an event, in the order that [`event`] reads them.
pub(super) const EVENT_COLUMNS: &str = "e.device_key, e.org_id, e.device_id, e.sn, e.id, e.type_code, \
     e.dev_event_id, e.dev_timestamp, e.received_at, e.correlation, e.payload";

/// An event, from [`EVENT_COLUMNS`].
pub(super) fn event(row: &Row<'_>) -> rusqlite::Result<DeviceEvent> {
    let DeviceIdentity { org, device, device_id, sn } = identity(row)?;
    Ok(DeviceEvent {
        id: RecordNumber(row.get(4)?),
        org,
        device,
        device_id,
        sn,
        type_code: row.get(5)?,
        key: EventKey { dev_event_id: number(row, 6)?, dev_timestamp: UnixMs(row.get(7)?) },
        received_at: UnixMs(row.get(8)?),
        correlation: row.get::<_, Option<[u8; 16]>>(9)?.map(Uuid::from_bytes),
        payload: row.get::<_, Arc<str>>(10)?,
    })
}

/// A gauge, from `device_id, type_code, updated_at, payload`.
pub(super) fn gauge(row: &Row<'_>) -> rusqlite::Result<Gauge> {
    Ok(Gauge {
        device_id: DeviceId(row.get(0)?),
        type_code: row.get(1)?,
        updated_at: UnixMs(row.get(2)?),
        payload: row.get::<_, Arc<str>>(3)?,
    })
}

/// A number of either kind.
pub(super) fn real(row: &Row<'_>, column: usize) -> rusqlite::Result<f64> {
    match row.get_ref(column)? {
        ValueRef::Integer(number) => Ok(number as f64),
        other => Ok(other.as_f64()?),
    }
}

/// The versions of a twin, from `reported_version, desired_version`.
pub(super) fn twin_versions(row: &Row<'_>) -> rusqlite::Result<TwinVersions> {
    Ok(TwinVersions { reported: row.get(0)?, desired: row.get(1)? })
}

/// The columns of a resource, in the order that [`twin_resource`] reads them.
pub(super) const TWIN_RESOURCE_COLUMNS: &str = "r.name, r.reported, r.reported_version, r.reported_at, \
     r.desired, r.desired_version, r.desired_at, r.desired_task";

/// A resource of a twin, from [`TWIN_RESOURCE_COLUMNS`].
pub(super) fn twin_resource(row: &Row<'_>) -> rusqlite::Result<TwinResource> {
    let reported = match row.get::<_, Option<Arc<str>>>(1)? {
        None => None,
        value => Some(ReportedValue { value, version: row.get(2)?, at: UnixMs(row.get(3)?) }),
    };
    let desired = match row.get::<_, Option<Arc<str>>>(4)? {
        None => None,
        Some(value) => Some(DesiredValue {
            value,
            version: row.get(5)?,
            at: UnixMs(row.get(6)?),
            task: TaskId(Uuid::from_bytes(row.get(7)?)),
        }),
    };
    Ok(TwinResource { name: row.get(0)?, reported, desired })
}

/// All resources of a device, in the order of their names.
pub(super) fn twin_resources(
    connection: &Connection,
    device: DeviceKey,
) -> rusqlite::Result<Vec<TwinResource>> {
    let sql = format!(
        "SELECT {TWIN_RESOURCE_COLUMNS} FROM twin_resources r WHERE r.device_key = ?1 ORDER BY r.name"
    );
    connection.prepare_cached(&sql)?.query_map([device.0], twin_resource)?.collect()
}
