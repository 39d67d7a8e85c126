//! What was used.

use covey_core::usage::{Usage, UsageDay};

use crate::rows::{Columns, Read, get};

/// What an organisation has used: whose, the first day, the last; and the same again.
pub(crate) const USAGE: &str = "SELECT u.day, CAST(sum(u.tasks_created) AS BIGINT), \
     CAST(sum(u.tasks_finished) AS BIGINT), CAST(sum(u.events) AS BIGINT), CAST(sum(u.bytes_in) AS BIGINT), \
     CAST(sum(u.active_devices) AS BIGINT) FROM ( \
     SELECT day, tasks_created, tasks_finished, events, bytes_in, active_devices FROM usage_days \
     WHERE org_id = $1 AND day >= $2 AND day <= $3 \
     UNION ALL SELECT day, 0, 0, 0, 0, count(DISTINCT device_key) FROM usage_devices \
     WHERE org_id = $4 AND day >= $5 AND day <= $6 GROUP BY day) AS u GROUP BY u.day ORDER BY u.day";

/// One of its days.
pub(crate) fn usage_day(row: &dyn Columns) -> Read<UsageDay> {
    let usage = Usage {
        tasks_created: get(row, 1)?,
        tasks_finished: get(row, 2)?,
        events: get(row, 3)?,
        bytes_in: get(row, 4)?,
        active_devices: get(row, 5)?,
    };
    Ok(UsageDay { day: get(row, 0)?, usage })
}

/// A day of an organisation, its number first.
pub(crate) fn org_and_day(row: &dyn Columns) -> Read<(i64, i64)> {
    Ok((get(row, 0)?, get(row, 1)?))
}
