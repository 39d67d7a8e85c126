//! Forgetting how far callers have read who have not come for as long as events are kept.

use tokio::time::sleep;
use tokio_postgres::{Client, Error};

use crate::postgres::retention::by_row::{STEP_PAUSE, STEP_ROWS, STEPS_MAX};

/// Those who have read up to a number before all events that are left: without their rows they go on at the same place. Whoever
/// reads now is passed over.
const FORGET: &str = "WITH first AS MATERIALIZED (SELECT min((SELECT min(e.id) FROM events e WHERE e.org_id = o.id)) AS id \
         FROM orgs o), \
     look AS MATERIALIZED (SELECT c.caller_id, c.device_id FROM event_offsets c, first f \
         WHERE c.number < f.id LIMIT $1::int8 FOR UPDATE OF c SKIP LOCKED) \
     DELETE FROM event_offsets c USING look l WHERE c.caller_id = l.caller_id AND c.device_id = l.device_id";

pub(super) async fn forget(client: &Client) -> Result<(), Error> {
    for _ in 0..STEPS_MAX {
        let gone = client.execute(FORGET, &[&STEP_ROWS]).await?;
        if i64::try_from(gone).is_ok_and(|gone| gone < STEP_ROWS) {
            break;
        }
        sleep(STEP_PAUSE).await;
    }
    Ok(())
}
