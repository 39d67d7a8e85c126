//! The audit log. Each server has a chain of rows of its own, by its name, so that none waits for another. The entries of a
//! group are written with it, in the one statement that writes nearly all of it; whose chain has gone on meanwhile, which two
//! writers of one name could do, that undoes itself and is run again.

mod reads;
mod steps;

pub(crate) use steps::AuditBatch;

use crate::postgres::prepared::prepared;
use crate::rows;

/// Begins a chain: server.
pub(super) const CHAIN_ENSURE: &str = "WITH made AS (INSERT INTO audit_chains (server, number, hash, anchor, anchor_hash) \
     VALUES ($1, 0, decode(repeat('00', 32), 'hex'), 0, decode(repeat('00', 32), 'hex')) \
     ON CONFLICT (server) DO NOTHING RETURNING id) \
     SELECT id FROM made UNION ALL SELECT id FROM audit_chains WHERE server = $1 LIMIT 1";

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// The end of a chain: its number.
        audit_head: "SELECT id, number, hash FROM audit_chains WHERE id = $1::int4";
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// All chains.
        audit_chains: rows::AUDIT_CHAINS;
        /// Rows of a chain behind a number: chain, number, limit.
        audit_rows: concat!("SELECT ", rows::audit_columns!(), " FROM audit \
             WHERE chain = $1::int8 AND number > $2 ORDER BY number LIMIT $3");
    }
}
