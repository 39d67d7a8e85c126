//! Writing entries of what no operation does.

use crate::audit::AuditEntry;
use crate::operation::{Abort, Operation};
use crate::port::{Need, Transaction, Turn};

/// Writes entries: of what was refused, and of what is done beside the store.
pub struct AuditAdd {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// In whose turn.
    pub turn: Turn,
}

impl Operation for AuditAdd {
    type Output = ();

    const NEED: Need = Need::Running;

    fn turn(&self) -> Turn {
        self.turn
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<(), Abort> {
        self.entries.iter().try_for_each(|entry| tx.audit_add(entry)).map_err(Abort::Fault)
    }

    /// They are added already.
    fn entries(&self, (): &()) -> Vec<AuditEntry> {
        Vec::new()
    }
}
