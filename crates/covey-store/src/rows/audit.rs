//! The audit log.

use covey_core::audit::{AuditChain, AuditHash, AuditHead, AuditRow};

use crate::rows::{Columns, Read, get};

/// The columns of a row, in the order that [`audit_row`] reads them.
macro_rules! audit_columns {
    () => {
        "chain, number, org_id, at, entries, hash"
    };
}
pub(crate) use audit_columns;

/// A row, from `audit_columns!`.
pub(crate) fn audit_row(row: &dyn Columns) -> Read<AuditRow> {
    Ok(AuditRow {
        chain: get(row, 0)?,
        number: get(row, 1)?,
        org: get(row, 2)?,
        at: get(row, 3)?,
        entries: get(row, 4)?,
        hash: audit_hash(row, 5)?,
    })
}

/// A hash. One that was changed by hand may be of any length: then it stands for none that a row has.
fn audit_hash(row: &dyn Columns, column: usize) -> Read<AuditHash> {
    let bytes: &[u8] = get(row, column)?;
    Ok(bytes.try_into().unwrap_or([u8::MAX; 32]))
}

/// The end of a chain: its number, the number and the hash of its last row.
pub(crate) fn audit_head(row: &dyn Columns) -> Read<AuditHead> {
    Ok(AuditHead { chain: get(row, 0)?, number: get(row, 1)?, hash: audit_hash(row, 2)? })
}

/// A chain.
pub(crate) fn audit_chain(row: &dyn Columns) -> Read<AuditChain> {
    let (server, anchor, anchor_hash) = (get(row, 3)?, get(row, 4)?, audit_hash(row, 5)?);
    Ok(AuditChain { server, anchor, anchor_hash, head: audit_head(row)? })
}

/// All chains.
pub(crate) const AUDIT_CHAINS: &str =
    "SELECT id, number, hash, server, anchor, anchor_hash FROM audit_chains ORDER BY id";
/// The end of a chain.
pub(crate) const AUDIT_HEAD: &str = "SELECT id, number, hash FROM audit_chains WHERE id = $1";
/// Rows of a chain behind a number: chain, number, limit.
pub(crate) const AUDIT_ROWS: &str = concat!(
    "SELECT ",
    audit_columns!(),
    " FROM audit WHERE chain = $1 AND number > $2 ORDER BY number LIMIT $3"
);
