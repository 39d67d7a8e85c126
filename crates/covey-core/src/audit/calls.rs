//! What can be asked of the audit log.

use crate::access::Rights;
use crate::audit::{
    AuditAdd, AuditChain, AuditEntry, AuditPage, AuditRequest, AuditRow, PAGE_MAX, RefusedCall,
};
use crate::engine::{ForCaller, ForServer};
use crate::error::{Error, Result};
use crate::port::{ReadKind, Turn};

/// How many rows one answer has at most, when they are read in their order.
/// Limit for each answer: the rest follows.
pub const ROWS_MAX: u32 = 500;

impl ForCaller<'_> {
    /// Entries of the audit log, newest first: of the caller's organisation, or of all for whom that may be said and who
    /// asks for it.
    ///
    /// # Errors
    /// A missing right, a size out of range, too many searches at once, or the store's.
    pub async fn audit_list(self, request: AuditRequest, is_of_all: bool) -> Result<AuditPage> {
        self.caller.require(Rights::AUDIT_READ)?;
        if is_of_all {
            self.caller.require(Rights::ORGS_ADMIN)?;
        }
        if !(1..=PAGE_MAX).contains(&request.size) {
            return Err(Error::invalid("size", "must be 1 to 1000"));
        }
        let _scan = self.begin_read(ReadKind::AuditList)?;
        let store = &self.engine.parts.store;
        if is_of_all {
            return store.audit_list_of_every_org(request).await;
        }
        store.audit_list(self.caller, request).await
    }

    /// The chains of the audit log, of which each has rows of all organisations.
    ///
    /// # Errors
    /// A missing right, or the store's.
    pub async fn audit_chains(self) -> Result<Vec<AuditChain>> {
        self.caller.require(Rights::AUDIT_READ)?;
        self.caller.require(Rights::ORGS_ADMIN)?;
        self.engine.parts.store.audit_chains_of_every_org().await
    }

    /// Rows of a chain behind a number, in their order; none if there are no more.
    ///
    /// # Errors
    /// As [`Self::audit_chains`].
    pub async fn audit_rows(self, chain: i64, after: i64) -> Result<Vec<AuditRow>> {
        self.caller.require(Rights::AUDIT_READ)?;
        self.caller.require(Rights::ORGS_ADMIN)?;
        self.engine.parts.store.audit_rows_of_every_org(chain, after, ROWS_MAX).await
    }

    /// Notes what the caller has done beside the store.
    pub(crate) async fn audit_note(self, entry: AuditEntry) -> Result<()> {
        let turn = Turn::Org(self.caller.org);
        self.engine.execute(AuditAdd { entries: vec![entry], turn }).await
    }
}

impl ForServer<'_> {
    /// Counts a request that was refused. It is written soon.
    pub fn audit_refused(self, call: RefusedCall) {
        self.engine.refusals.note(call);
    }

    /// Writes what was refused, as few entries.
    ///
    /// # Errors
    /// The store's; then they are written next time.
    pub async fn audit_refusals_write(self) -> Result<()> {
        let now_ms = self.engine.parts.clock.monotonic_us() / 1_000;
        let Some(refused) = self.engine.refusals.take(now_ms) else { return Ok(()) };
        let written = AuditAdd { entries: refused.entries(), turn: Turn::Server };
        let outcome = self.engine.execute(written).await;
        if outcome.is_err() {
            self.engine.refusals.put_back(refused);
        }
        outcome
    }
}
