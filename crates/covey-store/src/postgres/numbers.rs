//! The numbers of records, and up to which of them all are there.
//!
//! A number is made of that of the transaction that wrote the record (PostgreSQL
//! `xid8`), moved by an offset, and of the record's place in the transaction:
//! `(transaction + offset) << 16 | place`. So servers need not wait for each
//! other, and PostgreSQL itself knows below which number nothing can come any
//! more: a snapshot says which transactions had not ended when it was taken.
//!
//! Transactions of others, in whatever database of the cluster, have numbers
//! too, and may last for hours. They write no records, so they do not count; see
//! [`settled`].

use std::time::Duration;

use covey_core::id::RecordNumber;
use tokio_postgres::{Client, Error};

use crate::postgres::locks::LockClass;
use crate::rows;
use crate::rows::{Columns, Read};

/// How many bits of a number are the place in the transaction.
const PLACE_BITS: u32 = 16;
/// How many records a transaction may write.
pub(super) const PLACES_MAX: u32 = 1 << PLACE_BITS;
/// How many transactions are left out when the offset is moved: about as many as
/// there may have been between the last note of [`HEAD`] and a dump, during
/// which applications were told numbers that no record shows.
const MARGIN: i64 = 1_000_000;
/// The fact that holds the offset.
pub(super) const OFFSET: &str = "record_offset";
/// The fact that holds a number which was given, and below which others were.
pub(crate) const HEAD: &str = "record_head";
/// The fact that holds the number up to which records may have been forgotten.
pub(crate) const FORGOTTEN: &str = "records_forgotten";

/// How often a look is repeated because it found transactions of which it
/// cannot be told whose they are.
pub(super) const LOOKS_MAX: u32 = 8;
/// The pause before each: such a transaction ends just now, or has just begun.
pub(super) const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// Common table expressions that end with `settled`, of one row: `position`, up
/// to which all records are visible that ever will be, as of the statement's
/// snapshot; `unknown`, the oldest transaction that keeps it from being further
/// and may be nobody's of ours; and `next`, the first that had not begun.
///
/// A transaction counts unless it is provably not a writer's. The proof is one
/// look at `pg_locks`, in which its number is locked by a session that does not
/// hold a writer's lock. One look shows all locks of one moment (advisory locks
/// and those of transactions are never on a fast path; `pg_locks` takes all
/// partitions of the lock table at once). A writer takes its lock before its
/// first transaction and keeps it until its session ends, so a transaction that
/// is locked without it belongs to somebody else: then, before, and after. So it
/// does not matter that the look comes after the snapshot. What it does matter
/// for: a transaction may have ended in between, or may not have locked its
/// number yet; that one counts, and is `unknown`.
///
/// A prepared transaction has no session, so it is none of ours: we prepare
/// none. The own transaction is not in its snapshot, but may yet write.
macro_rules! settled {
    () => {
        "running AS MATERIALIZED (SELECT x::text::int8 AS number, x::xid AS short \
             FROM pg_snapshot_xip(pg_current_snapshot()) AS x), \
         locks AS MATERIALIZED (SELECT l.pid, l.transactionid, l.locktype = 'advisory' AS is_writer \
             FROM pg_locks l WHERE l.granted AND l.mode = 'ExclusiveLock' AND (l.locktype = 'transactionid' \
             OR (l.locktype = 'advisory' AND l.classid = 1131378180::oid AND l.objsubid = 2 \
                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())))), \
         counting AS MATERIALIZED (SELECT r.number, \
             EXISTS (SELECT 1 FROM locks l WHERE l.transactionid = r.short) AS is_known FROM running r \
             WHERE NOT EXISTS (SELECT 1 FROM locks l WHERE l.transactionid = r.short \
                 AND NOT EXISTS (SELECT 1 FROM locks w WHERE w.is_writer AND w.pid = l.pid))), \
         settled AS MATERIALIZED (SELECT \
             ((least(s.next, s.counts, pg_current_xact_id_if_assigned()::text::int8) \
                 + coalesce((SELECT value::int8 FROM deployment WHERE key = 'record_offset'), 0)) << 16) - 1 \
                 AS position, s.unknown, s.next \
             FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8 AS next, min(c.number) AS counts, \
                 min(c.number) FILTER (WHERE NOT c.is_known) AS unknown FROM counting c) AS s)"
    };
}
pub(super) use settled;

/// What `settled!` found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    pub(super) position: RecordNumber,
    unknown: Option<i64>,
    next: i64,
}

impl Settled {
    /// From three columns.
    pub(super) fn from_row(row: &dyn Columns, column: usize) -> Read<Self> {
        Ok(Self {
            position: rows::get(row, column)?,
            unknown: rows::get(row, column + 1)?,
            next: rows::get(row, column + 2)?,
        })
    }
}

/// Decides whether one must look again: what had ended before the first look
/// must not be held back by a transaction that is somebody else's.
#[derive(Default)]
pub(super) struct Looks {
    count: u32,
    /// The first transaction that had not begun when one first looked.
    first_next: Option<i64>,
}

impl Looks {
    pub(super) fn are_enough(&mut self, found: &Settled) -> bool {
        self.count += 1;
        let first_next = *self.first_next.get_or_insert(found.next);
        self.count >= LOOKS_MAX || found.unknown.is_none_or(|unknown| unknown >= first_next)
    }
}

/// Answers the offset of this database, and first sets it if numbers made with
/// the present one were not above all that were given: after a move from SQLite,
/// or after a dump was restored into a cluster that has had fewer transactions.
/// While servers run the condition cannot hold: whatever is visible was written
/// by a transaction before the snapshot's end.
pub(super) async fn ensure_offset(client: &Client) -> Result<i64, Error> {
    let lock = format!("BEGIN; SELECT pg_advisory_xact_lock({}, 0)", LockClass::RecordOffset.number());
    client.batch_execute(&lock).await?;
    let sql = "INSERT INTO deployment (key, value) SELECT $1, ((n.head >> 16) + $3::int8 - n.next)::text FROM \
         (SELECT greatest((SELECT max(number) FROM records), \
             (SELECT value::int8 FROM deployment WHERE key = $2)) AS head, \
             coalesce((SELECT value::int8 FROM deployment WHERE key = $1), 0) AS present, \
             pg_snapshot_xmax(pg_current_snapshot())::text::int8 AS next) AS n \
         WHERE (n.next + n.present) << 16 <= n.head \
         ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    let ensured = async {
        let changed = client.execute(sql, &[&OFFSET, &HEAD, &MARGIN]).await?;
        let sql = "SELECT value::int8 FROM deployment WHERE key = $1";
        let offset = client.query_opt(sql, &[&OFFSET]).await?.map_or(Ok(0), |row| row.try_get(0))?;
        client.batch_execute("COMMIT").await?;
        Ok((changed > 0, offset))
    };
    match ensured.await {
        Ok((has_changed, offset)) => {
            if has_changed {
                tracing::info!(offset, "record numbers raised above those of an earlier database");
            }
            Ok(offset)
        }
        Err(error) => {
            // What was begun is undone; should even that fail, the connection is of no use to anyone.
            let _ = client.batch_execute("ROLLBACK").await;
            Err(error)
        }
    }
}

/// Notes how far the numbers are, for the time when the records that show it
/// are forgotten and the database was restored elsewhere.
pub(super) async fn note_head(client: &Client) -> Result<(), Error> {
    let sql = concat!(
        "WITH ",
        settled!(),
        " INSERT INTO deployment AS d (key, value) SELECT $1, s.position::text FROM settled s \
         ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE d.value::int8 < excluded.value::int8"
    );
    client.execute(sql, &[&HEAD]).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statements_name_the_facts_and_the_lock() {
        assert!(settled!().contains(&format!("key = '{OFFSET}'")));
        assert!(settled!().contains(&format!("classid = {}::oid", LockClass::Writer.number())));
        assert!(settled!().contains(&format!("<< {PLACE_BITS})")));
        assert_eq!(PLACES_MAX, 65_536);
    }

    #[test]
    fn one_looks_again_until_nothing_older_is_unknown() {
        let found = |unknown, next| Settled { position: RecordNumber(0), unknown, next };
        let mut looks = Looks::default();
        assert!(!looks.are_enough(&found(Some(7), 10)));
        assert!(!looks.are_enough(&found(Some(9), 12)));
        assert!(looks.are_enough(&found(Some(11), 12)), "it began after the first look");
        assert!(Looks::default().are_enough(&found(None, 10)));
        let mut looks = Looks::default();
        let count = (0..100).take_while(|_| !looks.are_enough(&found(Some(1), 10))).count();
        assert_eq!(count + 1, LOOKS_MAX as usize);
    }
}
