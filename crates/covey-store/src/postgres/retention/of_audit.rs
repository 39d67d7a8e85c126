//! Forgetting what is too old of the audit log: whole rows from the beginning of each chain. The number and the hash of the
//! last one that goes stay as the anchor of those behind it.

use covey_core::audit::forgettable;
use covey_core::id::{OrgId, UnixMs};
use covey_core::retention::{Prune, Pruned};
use tokio::time::sleep;
use tokio_postgres::{Client, Error};

use crate::postgres::retention::by_row::{STEP_PAUSE, STEP_ROWS, STEPS_MAX};

/// Rows of a chain behind its anchor: chain, limit.
const LOOK: &str = "SELECT a.number, a.org_id, a.at, a.hash FROM audit a WHERE a.chain = $1 \
     AND a.number > (SELECT c.anchor FROM audit_chains c WHERE c.id = $1) ORDER BY a.number LIMIT $2";
/// Moves the anchor: chain, number, hash.
const ANCHOR: &str = "UPDATE audit_chains SET anchor = $2, anchor_hash = $3 WHERE id = $1 AND anchor < $2";
/// The first row behind a number that is not of later than now: chain, number, now.
const NEXT: &str = "SELECT a.org_id, a.at FROM audit a WHERE a.chain = $1 AND a.number > $2 AND a.at <= $3 \
     ORDER BY a.number LIMIT 1";
/// Forgets what is up to the anchor: chain.
const FORGET: &str = "DELETE FROM audit WHERE chain = $1 AND number <= \
     (SELECT c.anchor FROM audit_chains c WHERE c.id = $1)";

/// Forgets a bounded amount.
pub(super) async fn forget(client: &Client, what: &Prune) -> Result<Pruned, Error> {
    let (mut pruned, mut steps) = (Pruned::default(), 0);
    for row in client.query("SELECT id FROM audit_chains ORDER BY id", &[]).await? {
        let chain: i32 = row.try_get(0)?;
        // What the call before has left behind its anchor, if it was ended.
        pruned.count += client.execute(FORGET, &[&chain]).await?;
        loop {
            if steps == STEPS_MAX {
                pruned.next = Some(0);
                return Ok(pruned);
            }
            steps += 1;
            let count = step(client, what, chain).await?;
            pruned.count += count.unsigned_abs();
            if count < STEP_ROWS {
                break;
            }
            sleep(STEP_PAUSE).await;
        }
    }
    Ok(pruned)
}

/// A step; answers how many rows were forgotten. The anchor is moved by itself, so that whoever writes the chain waits for
/// no deletion.
async fn step(client: &Client, what: &Prune, chain: i32) -> Result<i64, Error> {
    let found = client.query(LOOK, &[&chain, &STEP_ROWS]).await?;
    let mut aged = Vec::new();
    for row in &found {
        aged.push((OrgId(row.try_get(1)?), UnixMs(row.try_get(2)?)));
    }
    let is_full = i64::try_from(found.len()).is_ok_and(|count| count == STEP_ROWS);
    if let Some(last) = found.last().filter(|_| is_full) {
        let last: i64 = last.try_get(0)?;
        for row in client.query(NEXT, &[&chain, &last, &what.now.0]).await? {
            aged.push((OrgId(row.try_get(0)?), UnixMs(row.try_get(1)?)));
        }
    }
    let count = forgettable(aged, what);
    if let Some(row) = count.checked_sub(1).and_then(|last| found.get(last)) {
        let (number, hash): (i64, Vec<u8>) = (row.try_get(0)?, row.try_get(3)?);
        client.execute(ANCHOR, &[&chain, &number, &hash]).await?;
        client.execute(FORGET, &[&chain]).await?;
    }
    Ok(i64::try_from(count).unwrap_or(STEP_ROWS))
}
