//! The audit log. There is one chain.

use covey_core::access::Caller;
use covey_core::audit::{
    AuditChain, AuditEntry, AuditFilter, AuditHead, AuditPage, AuditPlace, AuditReader, AuditRequest,
    AuditRow, AuditScan, AuditSteps,
};
use covey_core::id::UnixMs;
use covey_core::port::{Found, ReadKind, Turn, TxResult};
use rusqlite::Connection;

use crate::rows;
use crate::sqlite::Sqlite;
use crate::sqlite::statement::within;
use crate::sqlite::transaction::SqliteTransaction;

/// The number of the only chain.
pub(super) const CHAIN: i64 = 0;

/// Rows of some organisations between two instants, up to a place: the newest first.
macro_rules! newest {
    ($orgs:literal) => {
        concat!(
            "SELECT ",
            rows::audit_columns!(),
            " FROM audit WHERE ",
            $orgs,
            " AND at >= ?2 AND at < ?3 AND (at, chain, number) <= (?4, ?5, ?6) \
             ORDER BY at DESC, chain DESC, number DESC"
        )
    };
}
/// Those of one organisation.
const NEWEST_OF_ORG: &str = newest!("org_id = ?1");
/// Those of all.
const NEWEST_OF_ALL: &str = newest!("?1 IS NULL");
/// Both, by name.
pub(super) const PAGES: [(&str, &str); 2] =
    [("audit_of_org", NEWEST_OF_ORG), ("audit_of_all", NEWEST_OF_ALL)];

impl AuditReader for Sqlite {
    fn audit_list(&self, caller: &Caller, request: AuditRequest) -> Found<'_, AuditPage> {
        let filter = AuditFilter { org: Some(caller.org), ..request.filter };
        let request = AuditRequest { filter, ..request };
        self.read(ReadKind::AuditList, Turn::Org(caller.org), |connection| page(connection, request))
    }

    fn audit_list_of_every_org(&self, request: AuditRequest) -> Found<'_, AuditPage> {
        self.read(ReadKind::AuditList, Turn::Server, |connection| page(connection, request))
    }

    fn audit_chains_of_every_org(&self) -> Found<'_, Vec<AuditChain>> {
        self.rows(ReadKind::AuditChains, Turn::Server, rows::AUDIT_CHAINS, [], rows::audit_chain)
    }

    fn audit_rows_of_every_org(&self, chain: i64, after: i64, limit: u32) -> Found<'_, Vec<AuditRow>> {
        self.read(ReadKind::AuditRows, Turn::Server, move |connection| {
            let mut statement = connection.prepare_cached(rows::AUDIT_ROWS)?;
            let found = statement.query((chain, after, limit))?;
            Ok(within(found, rows::audit_row, |row| row.entries.len())?.items)
        })
    }
}

fn page(connection: &Connection, request: AuditRequest) -> rusqlite::Result<AuditPage> {
    let AuditFilter { org, since, until, .. } = &request.filter;
    let newest = AuditPlace { at: UnixMs(i64::MAX), chain: i64::MAX, number: i64::MAX, line: 0 };
    let AuditPlace { at, chain, number, .. } = request.before.unwrap_or(newest);
    let since = since.map_or(i64::MIN, |at| at.0);
    let until = until.map_or(i64::MAX, |at| at.0);
    let mut statement =
        connection.prepare_cached(if org.is_some() { NEWEST_OF_ORG } else { NEWEST_OF_ALL })?;
    let mut found = statement.query((org.map(|org| org.0), since, until, at.0, chain, number))?;
    let mut scan = AuditScan::new(request);
    while let Some(row) = found.next()? {
        if !scan.row(&rows::audit_row(row)?) {
            break;
        }
    }
    Ok(scan.done())
}

impl AuditSteps for SqliteTransaction<'_> {
    fn audit_add(&mut self, entry: &AuditEntry) -> TxResult<()> {
        self.audit.add(entry);
        Ok(())
    }
}

impl SqliteTransaction<'_> {
    /// Writes the entries of all operations, as one row for each organisation.
    pub(super) fn flush_audit(&mut self) -> TxResult<()> {
        if self.audit.is_empty() {
            return Ok(());
        }
        let mut head: AuditHead = self.only(rows::AUDIT_HEAD, [CHAIN], rows::audit_head)?;
        for row in self.audit.rows(&mut head, self.now) {
            self.change(
                "INSERT INTO audit (number, chain, org_id, at, entries, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                (row.number, row.chain, row.org.0, row.at.0, &row.entries, row.hash.as_slice()),
            )?;
        }
        let sql = "UPDATE audit_chains SET number = ?1, hash = ?2 WHERE id = ?3";
        self.change(sql, (head.number, head.hash.as_slice(), CHAIN)).map(drop)
    }
}
