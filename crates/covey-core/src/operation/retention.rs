//! Operations on how long things are kept.

use crate::error::Result;
use crate::id::OrgId;
use crate::operation::{Operation, Stop};
use crate::port::Transaction;
use crate::retention::Kept;

/// Sets for how many days an organisation keeps something.
pub struct RetentionPut {
    /// The organisation.
    pub org: OrgId,
    /// What, and for how many days: 0 for ever, none for as long as all others.
    pub days: Vec<(Kept, Option<u32>)>,
}

impl Operation for RetentionPut {
    type Output = ();

    fn apply(&self, tx: &mut dyn Transaction) -> Result<(), Stop> {
        for (kept, days) in &self.days {
            tx.retention_put(self.org, *kept, *days)?;
        }
        Ok(())
    }
}
