//! What operations and those who tell of changes ask the store of the outbox.

use crate::access::Caller;
use crate::device::DeviceIdentity;
use crate::port::{Found, TxResult};
use crate::record::{NewRecord, RecordPage, RecordRequest, RecordSpan};

/// The steps on the outbox inside a transaction.
pub trait RecordSteps {
    /// Writes a record of a change that this transaction makes.
    fn record(&mut self, device: &DeviceIdentity, record: &NewRecord) -> TxResult<()>;
}

/// The reads of the outbox.
pub trait RecordReader {
    /// Records in the order of their numbers, with what they are about.
    fn record_list_of_every_org(&self, request: RecordRequest) -> Found<'_, RecordPage>;

    /// Which records there are of an organisation.
    fn record_span(&self, caller: &Caller) -> Found<'_, RecordSpan>;

    /// Which records there are.
    fn record_span_of_every_org(&self) -> Found<'_, RecordSpan>;
}
