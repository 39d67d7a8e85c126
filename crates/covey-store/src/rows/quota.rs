//! What is kept, in bytes.

use covey_core::quota::OrgDay;
use covey_core::retention::RetentionClass;

use crate::rows::{Columns, Read, get, number};

/// What organisations have stored in days, each at least once; the messages of their webhooks, which are kept now, without a class.
pub(crate) const KEPT_OF_ORGS: &str = "SELECT o.id, o.name, coalesce(k.kept, -1), coalesce(k.day, 0), CAST(coalesce(sum(k.bytes), 0) AS BIGINT) \
     FROM orgs o LEFT JOIN org_kept_bytes k ON k.org_id = o.id GROUP BY o.id, o.name, k.kept, k.day \
     UNION ALL SELECT o.id, o.name, -1, 0, CAST(sum(256 * (p.parked + p.dead)) AS BIGINT) FROM webhooks w \
     JOIN webhook_progress p ON p.webhook_id = w.id JOIN orgs o ON o.id = w.org_id GROUP BY o.id, o.name";

/// One of them.
pub(crate) fn org_day(row: &dyn Columns) -> Read<OrgDay> {
    let class = u8::try_from(number::<i64>(row, 2)?).ok().and_then(RetentionClass::from_number);
    Ok(OrgDay { org: get(row, 0)?, name: get(row, 1)?, class, day: get(row, 3)?, bytes: get(row, 4)? })
}
