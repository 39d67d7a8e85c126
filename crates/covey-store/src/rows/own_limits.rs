//! Limits of organisations and keys.

use covey_core::id::{CallerId, OrgId};
use covey_core::own_limits::{LimitHolder, LimitsStamp, OwnLimits};

use crate::rows::{Columns, Read, get};

/// Limits of a holder: kind, number.
pub(crate) const OWN_LIMITS: &str =
    "SELECT limits FROM own_limits WHERE kind = CAST($1 AS SMALLINT) AND id = $2";
/// Sets them: kind, number, limits, now.
pub(crate) const OWN_LIMITS_PUT: &str = "INSERT INTO own_limits AS l (kind, id, limits, changed_at) \
     VALUES (CAST($1 AS SMALLINT), $2, $3, $4) ON CONFLICT (kind, id) DO UPDATE SET limits = excluded.limits, \
     changed_at = CASE WHEN excluded.changed_at > l.changed_at THEN excluded.changed_at ELSE l.changed_at + 1 END";
/// What is another one after any change.
pub(crate) const OWN_LIMITS_STAMP: &str =
    "SELECT count(*), CAST(coalesce(sum(changed_at), 0) AS BIGINT) FROM own_limits";
/// All limits, but those of revoked keys.
pub(crate) const OWN_LIMITS_LIST: &str = "SELECT l.kind, l.id, l.limits FROM own_limits l WHERE l.kind = 0 \
     OR EXISTS (SELECT 1 FROM api_keys k WHERE k.id = l.id AND k.revoked_at IS NULL)";

/// Under which kind and number a holder is stored.
pub(crate) fn limit_holder(holder: LimitHolder) -> (i64, i64) {
    match holder {
        LimitHolder::Org(org) => (0, org.0),
        LimitHolder::Key(key) => (1, key.0),
    }
}

/// Limits, from their text.
pub(crate) fn own_limits(row: &dyn Columns) -> Read<OwnLimits> {
    Ok(OwnLimits::of_text(get(row, 0)?))
}

/// A stamp.
pub(crate) fn limits_stamp(row: &dyn Columns) -> Read<LimitsStamp> {
    Ok((get(row, 0)?, get(row, 1)?))
}

/// Limits, with whose they are.
pub(crate) fn limits_of_holder(row: &dyn Columns) -> Read<(LimitHolder, OwnLimits)> {
    let id = get(row, 1)?;
    let holder = match get::<i64>(row, 0)? {
        0 => LimitHolder::Org(OrgId(id)),
        _ => LimitHolder::Key(CallerId(id)),
    };
    Ok((holder, OwnLimits::of_text(get(row, 2)?)))
}
