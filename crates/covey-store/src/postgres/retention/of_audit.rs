//! Forgetting what is too old of the audit log: whole rows from the beginning of each chain. The number and the hash of the
//! last one that goes stay as the anchor of those behind it.

use covey_core::id::OrgId;
use covey_core::retention::{Prune, Pruned};
use tokio::time::sleep;
use tokio_postgres::{Client, Error};

use crate::postgres::retention::by_row::{STEP_PAUSE, STEP_ROWS, STEPS_MAX};

/// Rows of a chain behind its anchor: chain, limit.
const LOOK: &str = "SELECT a.number, a.org_id, a.at, a.hash FROM audit a WHERE a.chain = $1 \
     AND a.number > (SELECT c.anchor FROM audit_chains c WHERE c.id = $1) ORDER BY a.number LIMIT $2";
/// Moves the anchor: chain, number, hash.
const ANCHOR: &str = "UPDATE audit_chains SET anchor = $2, anchor_hash = $3 WHERE id = $1 AND anchor < $2";
/// Forgets what is up to it.
const FORGET: &str = "DELETE FROM audit WHERE chain = $1 AND number <= $2";

/// Forgets a bounded amount.
pub(super) async fn forget(client: &Client, what: &Prune) -> Result<Pruned, Error> {
    let (mut pruned, mut steps) = (Pruned::default(), 0);
    for row in client.query("SELECT id FROM audit_chains ORDER BY id", &[]).await? {
        let chain: i32 = row.try_get(0)?;
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

/// One transaction; answers how many rows were forgotten.
async fn step(client: &Client, what: &Prune, chain: i32) -> Result<i64, Error> {
    let (mut count, mut last) = (0, None);
    for row in client.query(LOOK, &[&chain, &STEP_ROWS]).await? {
        let at: i64 = row.try_get(2)?;
        // What one organisation keeps for longer keeps what came after it.
        if what.before_of(OrgId(row.try_get(1)?)).is_none_or(|before| at >= before.0) {
            break;
        }
        count += 1;
        last = Some((row.try_get::<_, i64>(0)?, row.try_get::<_, Vec<u8>>(3)?));
    }
    if let Some((number, hash)) = last {
        client.batch_execute("BEGIN").await?;
        client.execute(ANCHOR, &[&chain, &number, &hash]).await?;
        client.execute(FORGET, &[&chain, &number]).await?;
        client.batch_execute("COMMIT").await?;
    }
    Ok(count)
}
