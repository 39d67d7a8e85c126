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

    fn apply(&self, _: &mut dyn Transaction) -> Result<(), Abort> {
        Ok(())
    }

    fn entries(&self, (): &()) -> Vec<AuditEntry> {
        self.entries.clone()
    }
}
