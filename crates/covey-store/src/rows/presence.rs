//! The coming and going of devices.

use covey_core::device::Presence;
use covey_core::presence::{OnlineDevice, PresenceTold, Reason};

use crate::rows::{Columns, Damaged, Read, get, identity, number};

/// A presence, from `online, connected_at, checked_at, details, session, server, reason`
/// from a column on.
pub(crate) fn presence_at(row: &dyn Columns, at: usize) -> Read<Presence> {
    Ok(Presence {
        online: get(row, at)?,
        connected_at: get(row, at + 1)?,
        checked_at: get(row, at + 2)?,
        details: details_at(row, at + 3)?,
        session: get(row, at + 4)?,
        server: get(row, at + 5)?,
        reason: Reason::from_name(get(row, at + 6)?).unwrap_or(Reason::Unknown),
    })
}

/// The details of a presence, as JSON.
pub(crate) fn details_text(presence: &Presence) -> String {
    serde_json::to_string(&presence.details).unwrap_or_else(|_| "[]".to_owned())
}

/// What was told of a presence, from `told_online, told_changes, told_since, told_due`
/// from a column on.
pub(crate) fn told_at(row: &dyn Columns, at: usize) -> Read<PresenceTold> {
    Ok(PresenceTold {
        online: get(row, at)?,
        changes: number(row, at + 1)?,
        since: get(row, at + 2)?,
        due: get(row, at + 3)?,
    })
}

/// A device that is connected, from `id, org_id, device_id, sn, session, details`.
pub(crate) fn online(row: &dyn Columns) -> Read<OnlineDevice> {
    let (session, server) = (get(row, 4)?, get(row, 5)?);
    Ok(OnlineDevice { device: identity(row)?, session, server, details: details_at(row, 6)? })
}

fn details_at(row: &dyn Columns, at: usize) -> Read<Vec<(String, String)>> {
    serde_json::from_str(get(row, at)?).map_err(|_| Damaged::Value(at, "details"))
}
