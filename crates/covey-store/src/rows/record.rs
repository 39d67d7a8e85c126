//! Records of the outbox.

use std::sync::Arc;

use covey_core::device::DeviceIdentity;
use covey_core::event::DeviceEvent;
use covey_core::id::{RecordNumber, ResultId, TaskId, UnixMs};
use covey_core::presence::Reason;
use covey_core::record::{Change, RecordKind, RecordTask, TwinChange, TwinSide};
use covey_core::task::{Cause, TaskResult, TaskStatus};

use crate::rows::{Columns, Read, get, identity_at, number};

/// The columns of a record, in the order that [`stored_at`] reads them.
macro_rules! record_columns {
    () => {
        "r.device_key, r.org_id, r.device_id, r.sn, r.number, r.at, r.kind, r.task_id, r.result_id, r.status, \
         r.name, r.version, r.value"
    };
}
pub(crate) use record_columns;

/// A row of the outbox: what it says without what it is about.
pub(crate) struct StoredRecord {
    pub(crate) number: RecordNumber,
    pub(crate) identity: DeviceIdentity,
    pub(crate) at: UnixMs,
    kind: Option<RecordKind>,
    pub(crate) task: Option<TaskId>,
    pub(crate) result: Option<ResultId>,
    status: i64,
    name: String,
    version: i64,
    value: Option<Arc<str>>,
}

/// A row of the outbox, from `record_columns!` from a column on.
pub(crate) fn stored_at(row: &dyn Columns, at: usize) -> Read<StoredRecord> {
    Ok(StoredRecord {
        identity: identity_at(row, at)?,
        number: get(row, at + 4)?,
        at: get(row, at + 5)?,
        kind: RecordKind::from_number(get(row, at + 6)?),
        task: get(row, at + 7)?,
        result: get(row, at + 8)?,
        status: get::<Option<i64>>(row, at + 9)?.unwrap_or(0),
        name: get::<Option<String>>(row, at + 10)?.unwrap_or_default(),
        version: get::<Option<i64>>(row, at + 11)?.unwrap_or(0),
        value: get(row, at + 12)?,
    })
}

/// What a record may be about, as far as that has not been forgotten.
#[derive(Default)]
pub(crate) struct About {
    pub(crate) task: Option<RecordTask>,
    pub(crate) result: Option<TaskResult>,
    pub(crate) event: Option<DeviceEvent>,
}

impl StoredRecord {
    /// Whether it is about an event, which has the record's number.
    pub(crate) fn is_event(&self) -> bool {
        self.kind == Some(RecordKind::Event)
    }

    /// What it tells; nothing if what it is about has been forgotten.
    pub(crate) fn change(self, about: About) -> Option<Change> {
        match self.kind? {
            RecordKind::Task => {
                let status = TaskStatus::from_number(self.status).unwrap_or(TaskStatus::Undefined);
                Some(Change::Task { task: about.task?, status, cause: Cause::from_name(&self.name)? })
            }
            RecordKind::Result => Some(Change::Result { task: about.task?, result: about.result? }),
            RecordKind::Event => about.event.map(Change::Event),
            RecordKind::Presence => {
                let reason = Reason::from_name(&self.name).unwrap_or(Reason::Unknown);
                Some(Change::Presence { online: self.status != 0, reason })
            }
            RecordKind::Twin => {
                let (resource, value, version) = (self.name, self.value, self.version);
                Some(Change::Twin(TwinChange { side: side_from(self.status)?, resource, value, version }))
            }
        }
    }
}

/// What never changes of a task, from `ext_task_id, method_code, method, created_by`
/// from a column on.
pub(crate) fn record_task_at(row: &dyn Columns, at: usize, id: TaskId) -> Read<RecordTask> {
    let method_code = number(row, at + 1)?;
    let (method, created_by) = (get(row, at + 2)?, get(row, at + 3)?);
    Ok(RecordTask { id, ext_task_id: get(row, at)?, method_code, method, created_by })
}

/// A side of a twin as a number.
pub(crate) fn twin_side(side: TwinSide) -> i16 {
    match side {
        TwinSide::Reported => 0,
        TwinSide::Desired => 1,
    }
}

fn side_from(number: i64) -> Option<TwinSide> {
    [TwinSide::Reported, TwinSide::Desired].into_iter().find(|side| i64::from(twin_side(*side)) == number)
}
