//! Forgetting what is too old. What is too old whoever owns it goes by whole
//! partitions, as soon as all that is in them is; the rest goes row by row: what
//! is in no partition of its own time, and what an organisation keeps for a
//! shorter time than another.

mod by_partition;
mod by_row;
mod of_audit;
mod of_offsets;
mod steps;

pub(super) use steps::{Reading, Writing};

use covey_core::retention::{Prune, Pruned, RetentionClass};
use tokio_postgres::{Client, Error};

use crate::postgres::locks::LockClass;

/// What the connection is told that forgets. A month is counted before it is dropped.
pub(super) const SET_UP: &str = "SET statement_timeout = '600s'";

/// Takes tasks out of the counts, in a slot that no writer has. `$from` has a
/// row for each organisation and state, with how many.
macro_rules! uncount_tasks {
    ($from:literal) => {
        concat!(
            "INSERT INTO task_counts AS c (org_id, status, slot, count) SELECT org_id, status, -1, -count FROM ",
            $from,
            " ON CONFLICT (org_id, status, slot) DO UPDATE SET count = c.count + excluded.count"
        )
    };
}
use uncount_tasks;

/// The same of events that devices sent; a row for each organisation.
macro_rules! uncount_events {
    ($from:literal) => {
        concat!(
            "INSERT INTO event_counts AS c (org_id, slot, count) SELECT org_id, -1, -of_devices FROM ",
            $from,
            " ON CONFLICT (org_id, slot) DO UPDATE SET count = c.count + excluded.count"
        )
    };
}
use uncount_events;

/// Remembers up to which record some may be gone: the greatest number of a
/// table, in which a condition holds.
macro_rules! note_forgotten {
    ($from:literal) => {
        concat!(
            "INSERT INTO deployment AS d (key, value) SELECT 'records_forgotten', max(number)::text FROM ",
            $from,
            " HAVING max(number) IS NOT NULL ON CONFLICT (key) \
             DO UPDATE SET value = greatest(d.value::int8, excluded.value::int8)::text"
        )
    };
}
use note_forgotten;

/// Forgets a bounded amount. Of several servers that do so at once one does it;
/// the others find nothing to do.
pub(super) async fn prune(client: &Client, what: &Prune) -> Result<Pruned, Error> {
    if what.youngest().is_none() {
        return Ok(Pruned::default());
    }
    let place = RetentionClass::NAMES.iter().position(|(kept, ..)| *kept == what.kept).unwrap_or(0);
    let (class, kind) = (LockClass::Retention.number(), i32::try_from(place).unwrap_or(0));
    let row = client.query_one("SELECT pg_try_advisory_lock($1, $2)", &[&class, &kind]).await?;
    if !row.try_get::<_, bool>(0)? {
        return Ok(Pruned::default());
    }
    // With an error the connection is given up, and the lock with it.
    let (partitions, rows) = match what.kept {
        RetentionClass::Audit => (0, of_audit::forget(client, what).await?),
        kept => {
            (by_partition::forget(client, kept, what.oldest()).await?, by_row::forget(client, what).await?)
        }
    };
    if what.kept == RetentionClass::Events && rows.next.is_none() {
        of_offsets::forget(client).await?;
    }
    client.query_one("SELECT pg_advisory_unlock($1, $2)", &[&class, &kind]).await?;
    Ok(Pruned { count: partitions + rows.count, next: rows.next })
}

#[cfg(test)]
mod tests {
    use crate::postgres::numbers::FORGOTTEN;

    #[test]
    fn the_fact_has_the_name_that_is_read() {
        assert!(note_forgotten!("records").contains(&format!("'{FORGOTTEN}'")));
    }
}
