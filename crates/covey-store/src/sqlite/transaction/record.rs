//! Steps on the outbox.

use covey_core::device::DeviceIdentity;
use covey_core::id::{RecordNumber, TaskId};
use covey_core::port::TxResult;
use covey_core::record::{NewRecord, RecordKind, RecordSteps};
use rusqlite::params;

use crate::encoding;
use crate::sqlite::transaction::SqliteTransaction;

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
                status: Some(encoding::twin_side(change.side)),
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
        self.sql(
            "INSERT INTO records (number, org_id, device_key, device_id, sn, at, kind, task_id, result_id, \
             status, name, version, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            |statement| {
                statement.execute(params![
                    number.0,
                    device.org.0,
                    device.device.0,
                    device.device_id.0,
                    device.sn.as_str(),
                    self.now.0,
                    row.kind.map(RecordKind::number),
                    row.task.as_ref().map(|task| task.0.as_bytes().as_slice()),
                    row.result_id,
                    row.status,
                    row.name,
                    row.version,
                    row.value,
                ])
            },
        )?;
        Ok(number)
    }

    fn next_number(&mut self) -> TxResult<RecordNumber> {
        let next = RecordNumber(self.last_number()?.0 + 1);
        self.head = Some(next);
        Ok(next)
    }

    /// The last number that was given.
    pub(super) fn last_number(&self) -> TxResult<RecordNumber> {
        match self.head {
            Some(head) => Ok(head),
            None => self.sql("SELECT number FROM record_head", |statement| {
                statement.query_row([], |row| row.get(0).map(RecordNumber))
            }),
        }
    }

    /// Stores the last number that was given.
    pub(super) fn flush_head(&mut self) -> TxResult<()> {
        let Some(head) = self.head.take() else { return Ok(()) };
        self.sql("UPDATE record_head SET number = ?1", |statement| statement.execute([head.0]).map(drop))
    }
}
