//! How long organisations keep things.

use covey_core::retention::{OrgRetention, RetentionClass};

use crate::rows::{Columns, Read, get, number};

/// For how many days an organisation keeps something: organisation, what, days.
pub(crate) const RETENTION_PUT: &str = "INSERT INTO retention (org_id, kept, days) VALUES ($1, $2, $3) \
     ON CONFLICT (org_id, kept) DO UPDATE SET days = excluded.days WHERE retention.days <> excluded.days";

/// It keeps it as long as all others: organisation, what.
pub(crate) const RETENTION_REMOVE: &str = "DELETE FROM retention WHERE org_id = $1 AND kept = $2";

/// What organisations keep for a time of their own.
pub(crate) const RETENTION: &str = "SELECT org_id, kept, days FROM retention";

/// For how long an organisation keeps something, if this version knows what.
pub(crate) fn org_retention(row: &dyn Columns) -> Read<Option<OrgRetention>> {
    let (org, days) = (get(row, 0)?, number(row, 2)?);
    Ok(RetentionClass::from_name(get(row, 1)?).map(|kept| OrgRetention { org, kept, days }))
}
