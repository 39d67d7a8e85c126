//! Operations on how long things are kept.

use crate::access::Caller;
use crate::audit::{AuditAction, AuditEntry};
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

    fn entries(&self, (): &()) -> Vec<AuditEntry> {
        let days = |days: &Option<u32>| days.map_or_else(|| "default".to_owned(), |days| days.to_string());
        let days: Vec<_> =
            self.days.iter().map(|(kept, of)| format!("{}={}", kept.name(), days(of))).collect();
        let entry = AuditEntry::of(&self.caller, AuditAction::RetentionSet, "retention");
        vec![entry.detail("days", &days.join(", "))]
    }
}
