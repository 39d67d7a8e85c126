//! What operations and callers ask the store of how long things are kept.

use crate::id::OrgId;
use crate::port::{Found, TxResult};
use crate::retention::{OrgRetention, RetentionClass};

/// The steps on how long things are kept inside a transaction.
pub trait RetentionSteps {
    /// Sets for how many days an organisation keeps something; none for as long as all. Answers whether that is new.
    fn retention_put(&mut self, org: OrgId, kept: RetentionClass, days: Option<u32>) -> TxResult<bool>;
}

/// The reads of how long things are kept.
pub trait RetentionReader {
    /// What organisations keep for a time of their own.
    fn retention_of_every_org(&self) -> Found<'_, Vec<OrgRetention>>;
}
