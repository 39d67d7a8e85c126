//! Forgetting what is too old of the audit log: whole rows from its beginning. The number and the hash of the last one that
//! goes stay as the anchor of those behind it.

use covey_core::audit::AuditHash;
use covey_core::id::OrgId;
use covey_core::retention::Prune;
use rusqlite::Transaction;

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
    let mut found = look.query((CHAIN, limit))?;
    let (mut count, mut last) = (0, None);
    while let Some(row) = found.next()? {
        // What one organisation keeps for longer keeps what came after it.
        let is_old = what
            .before_of(OrgId(row.get(1)?))
            .is_some_and(|before| row.get(2).is_ok_and(|at: i64| at < before.0));
        if !is_old {
            break;
        }
        count += 1;
        last = Some((row.get::<_, i64>(0)?, row.get::<_, AuditHash>(3)?));
    }
    let Some((number, hash)) = last else { return Ok((0, None)) };
    let sql = "UPDATE audit_chains SET anchor = ?1, anchor_hash = ?2 WHERE id = ?3";
    transaction.prepare_cached(sql)?.execute((number, hash.as_slice(), CHAIN))?;
    transaction.prepare_cached("DELETE FROM audit WHERE number <= ?1")?.execute([number])?;
    Ok((count, (count == u64::from(limit)).then_some(number)))
}
