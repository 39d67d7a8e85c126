//! Steps on the outbox.

use std::borrow::Cow;

use covey_core::device::DeviceIdentity;
use covey_core::error::StorageFault;
use covey_core::port::TxResult;
use covey_core::record::{NewRecord, RecordKind, RecordSteps, TwinSide};

use crate::postgres::fault::Failure;
use crate::postgres::numbers::PLACES_MAX;
use crate::postgres::record::kind_number;
use crate::postgres::write::outbox_batch::RecordRow;
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows::{self};

impl RecordSteps for PostgresTransaction<'_> {
    fn record(&mut self, device: &DeviceIdentity, record: &NewRecord) -> TxResult<()> {
        let row = match record {
            NewRecord::Task { id, status, cause } => RecordRow {
                kind: kind_number(RecordKind::Task),
                task: Some(id.0),
                status: Some(i16::from(status.number())),
                name: Some(Cow::Borrowed(cause.name())),
                ..RecordRow::default()
            },
            NewRecord::Result { task, result } => RecordRow {
                kind: kind_number(RecordKind::Result),
                task: Some(task.0),
                result_id: Some(result.0),
                ..RecordRow::default()
            },
            NewRecord::Twin(change) => RecordRow {
                kind: kind_number(RecordKind::Twin),
                status: Some(side_number(change.side)),
                name: Some(Cow::Owned(change.resource.clone())),
                version: Some(change.version),
                value: change.value.clone(),
                ..RecordRow::default()
            },
        };
        self.write_record(device, row).map(drop)
    }
}

impl PostgresTransaction<'_> {
    /// Gathers a record. A group that has too many is run job by job: each of
    /// them has fewer.
    pub(crate) fn write_record(&mut self, device: &DeviceIdentity, row: RecordRow) -> TxResult<i64> {
        if let Some(place) = self.batch.outbox.record(device, row) {
            return Ok(place);
        }
        tracing::warn!(
            "group of operations would write more than {PLACES_MAX} records; running them one by one"
        );
        Err(self.fail(Failure::OfJob(StorageFault::Io)))
    }
}

fn side_number(side: TwinSide) -> i16 {
    rows::twin_side(side)
}
