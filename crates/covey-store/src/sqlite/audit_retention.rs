//! Forgetting what is too old of the audit log: whole rows from its beginning. The number and the hash of the last one that
//! goes stay as the anchor of those behind it.

use covey_core::audit::{AuditHash, forgettable};
use covey_core::id::{OrgId, UnixMs};
use covey_core::retention::Prune;
use rusqlite::{OptionalExtension, Row, Transaction};

use crate::sqlite::audit::CHAIN;

/// One transaction; answers how many rows were forgotten, and whether there may be more.
pub(super) fn step(
    transaction: &Transaction<'_>,
    what: &Prune,
    limit: u32,
) -> rusqlite::Result<(u64, Option<i64>)> {
    let mut look = transaction.prepare_cached(
        "SELECT number, org_id, at, hash FROM audit WHERE number > \
         (SELECT anchor FROM audit_chains WHERE id = ?1) ORDER BY number LIMIT ?2",
    )?;
    let read = |row: &Row<'_>| Ok((row.get(0)?, OrgId(row.get(1)?), UnixMs(row.get(2)?), row.get(3)?));
    let found: rusqlite::Result<Vec<(i64, OrgId, UnixMs, AuditHash)>> =
        look.query_map((CHAIN, limit), read)?.collect();
    let found = found?;
    let is_full = found.len() == limit as usize;
    let mut aged: Vec<_> = found.iter().map(|(_, org, at, _)| (*org, *at)).collect();
    if let Some((last, ..)) = found.last().filter(|_| is_full) {
        let sql = "SELECT org_id, at FROM audit WHERE number > ?1 AND at <= ?2 ORDER BY number LIMIT 1";
        let read = |row: &Row<'_>| Ok((OrgId(row.get(0)?), UnixMs(row.get(1)?)));
        aged.extend(transaction.prepare_cached(sql)?.query_row((last, what.now.0), read).optional()?);
    }
    let count = forgettable(aged, what);
    let Some((number, .., hash)) = count.checked_sub(1).and_then(|last| found.get(last)) else {
        return Ok((0, None));
    };
    let sql = "UPDATE audit_chains SET anchor = ?1, anchor_hash = ?2 WHERE id = ?3";
    transaction.prepare_cached(sql)?.execute((number, hash.as_slice(), CHAIN))?;
    transaction.prepare_cached("DELETE FROM audit WHERE number <= ?1")?.execute([number])?;
    // A usize is no wider.
    Ok((count as u64, (count == limit as usize).then_some(*number)))
}
