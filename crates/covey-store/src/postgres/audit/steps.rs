//! Adding to the audit log.

use covey_core::audit::{AuditEntry, AuditHead, AuditRow, AuditSteps};
use covey_core::port::TxResult;

use crate::postgres::pipeline::{Value, column, values};
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows;

impl AuditSteps for PostgresTransaction<'_> {
    fn audit_add(&mut self, entry: &AuditEntry) -> TxResult<()> {
        self.audit.add(entry);
        Ok(())
    }
}

/// Rows that are to be written, and what the end of their chain was before.
#[derive(Debug)]
pub(crate) struct AuditBatch {
    before: AuditHead,
    rows: Vec<AuditRow>,
}

impl PostgresTransaction<'_> {
    /// Makes rows of the entries of all operations: they are what is written last.
    pub(crate) fn close_audit(&mut self) -> TxResult<()> {
        if self.audit.is_empty() {
            return Ok(());
        }
        let before = match self.audit_head {
            Some(head) => head,
            None => self.ask_only(
                |sql| &sql.audit.audit_head,
                values![self.session.audit_chain],
                rows::audit_head,
            )?,
        };
        let mut head = before;
        let rows = self.audit.rows(&mut head, self.now);
        self.audit_head = Some(head);
        self.batch.audit = Some(AuditBatch { before, rows });
        Ok(())
    }
}

impl AuditBatch {
    /// What the statement takes: the chain, the number and the hash of its end, before and after; the columns of rows.
    pub(crate) fn into_values<'v>(self) -> Vec<Value<'v>> {
        let AuditBatch { before, rows } = self;
        // There is at least one.
        let after = rows.last().map_or((before.number, before.hash), |row| (row.number, row.hash));
        let (numbers, orgs) = (column(&rows, |row| row.number), column(&rows, |row| row.org.0));
        let (instants, hashes) = (column(&rows, |row| row.at.0), column(&rows, |row| row.hash.to_vec()));
        vec![
            Box::new(before.chain),
            Box::new(before.number),
            Box::new(before.hash.to_vec()),
            Box::new(after.0),
            Box::new(after.1.to_vec()),
            numbers,
            orgs,
            instants,
            column(rows, |row| row.entries),
            hashes,
        ]
    }
}
