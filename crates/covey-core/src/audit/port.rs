//! What operations and callers ask the store of the audit log.

use crate::access::Caller;
use crate::audit::{AuditEntry, AuditHash, AuditHead, AuditPage, AuditRequest, AuditRow};
use crate::port::{Found, TxResult};

/// The steps on the audit log inside a transaction.
pub trait AuditSteps {
    /// Adds an entry. It is written with the others of the transaction, at its end.
    fn audit_add(&mut self, entry: &AuditEntry) -> TxResult<()>;
}

/// A chain of rows, as the store knows it beside the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditChain {
    /// Who writes it: a server, by its name; empty where there is only one.
    pub server: String,
    /// The number of the last row that was forgotten because it was too old; 0 if none was.
    pub anchor: i64,
    /// Its hash.
    pub anchor_hash: AuditHash,
    /// Its end.
    pub head: AuditHead,
}

/// The reads of the audit log.
pub trait AuditReader {
    /// Entries of the caller's organisation, newest first. At most [`PAGE_MAX`](super::PAGE_MAX), out of at most
    /// [`SCAN_BYTES_MAX`](super::SCAN_BYTES_MAX) that are looked at.
    fn audit_list(&self, caller: &Caller, request: AuditRequest) -> Found<'_, AuditPage>;

    /// The same of all organisations.
    fn audit_list_of_every_org(&self, request: AuditRequest) -> Found<'_, AuditPage>;

    /// All chains. There are as many as servers had names.
    fn audit_chains_of_every_org(&self) -> Found<'_, Vec<AuditChain>>;

    /// Rows of a chain behind a number, in their order: so many at most, and of some megabytes; none if there are no more.
    fn audit_rows_of_every_org(&self, chain: i64, after: i64, limit: u32) -> Found<'_, Vec<AuditRow>>;
}
