//! Operations on how long things are kept.

use crate::access::Caller;
use crate::error::Result;
use crate::operation::{Abort, Operation};
use crate::port::{Need, Transaction, Turn};
use crate::retention::RetentionClass;

/// Sets for how many days an organisation keeps something.
pub struct RetentionPut {
    /// Who asks.
    pub caller: Caller,
    /// What, and for how many days: 0 for ever, none for as long as all others.
    pub days: Vec<(RetentionClass, Option<u32>)>,
}

impl Operation for RetentionPut {
    type Output = ();

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<(), Abort> {
        for (kept, days) in &self.days {
            tx.retention_put(self.caller.org, *kept, *days)?;
        }
        Ok(())
    }
}
