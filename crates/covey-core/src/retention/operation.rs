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
    /// What is new of it.
    type Output = Vec<(RetentionClass, Option<u32>)>;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Self::Output, Abort> {
        let mut new = Vec::new();
        for (kept, days) in &self.days {
            if tx.retention_put(self.caller.org, *kept, *days)? {
                new.push((*kept, *days));
            }
        }
        Ok(new)
    }

    fn entries(&self, new: &Self::Output) -> Vec<AuditEntry> {
        if new.is_empty() {
            return Vec::new();
        }
        let days = |days: &Option<u32>| days.map_or_else(|| "default".to_owned(), |days| days.to_string());
        let days: Vec<_> = new.iter().map(|(kept, of)| format!("{}={}", kept.name(), days(of))).collect();
        let entry = AuditEntry::of(&self.caller, AuditAction::RetentionSet, "retention");
        vec![entry.detail("days", &days.join(", "))]
    }
}

/// Notes that somebody has what is too old forgotten, which is done beside the store's jobs.
pub struct RetentionRun {
    /// Who asks.
    pub caller: Caller,
}

impl Operation for RetentionRun {
    type Output = ();

    // It makes room.
    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, _: &mut dyn Transaction) -> Result<(), Abort> {
        Ok(())
    }

    fn entries(&self, (): &()) -> Vec<AuditEntry> {
        vec![AuditEntry::of(&self.caller, AuditAction::RetentionRun, "retention")]
    }
}
