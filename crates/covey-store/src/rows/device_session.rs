//! What is kept of devices' sessions.

use covey_core::device_session::{Admission, SessionContent, StoredSession, Subscription};

use crate::rows::{Columns, Damaged, Read, device_kind_at, get, identity, number};

/// Subscriptions, as JSON: `[["filter", QoS, identifier], …]`.
pub(crate) fn subscriptions_text(content: &SessionContent) -> String {
    let all = content.subscriptions.iter().map(|one| (&one.filter, one.qos, one.identifier));
    serde_json::to_string(&all.collect::<Vec<_>>()).unwrap_or_else(|_| "[]".to_owned())
}

fn subscriptions_at(row: &dyn Columns, at: usize) -> Read<Vec<Subscription>> {
    let all: Vec<(String, u8, u32)> =
        serde_json::from_str(get(row, at)?).map_err(|_| Damaged::Value(at, "subscriptions"))?;
    Ok(all.into_iter().map(|(filter, qos, identifier)| Subscription { filter, qos, identifier }).collect())
}

/// A device with its session, from `id, org_id, device_id, sn, revision, expiry_s, subscriptions, away_since, kind`.
pub(crate) fn admission(row: &dyn Columns) -> Read<Admission> {
    let session = match get::<Option<i64>>(row, 4)? {
        None => None,
        Some(revision) => {
            let content =
                SessionContent { expiry_s: number(row, 5)?, subscriptions: subscriptions_at(row, 6)? };
            Some(StoredSession { revision, content, away_since: get(row, 7)? })
        }
    };
    Ok(Admission { identity: identity(row)?, kind: device_kind_at(row, 8)?, session })
}

/// Who a certificate belongs to, with the session: number of the certificate, serial number of the device.
pub(crate) const SESSION_OF_CERTIFICATE: &str = "SELECT d.id, d.org_id, d.device_id, d.sn, s.revision, \
     s.expiry_s, s.subscriptions, CASE WHEN n.online THEN NULL ELSE coalesce(n.checked_at, 0) END, d.kind \
     FROM certificates c JOIN devices d ON d.id = c.device_key \
     LEFT JOIN device_sessions s ON s.device_key = d.id LEFT JOIN connections n ON n.device_key = d.id \
     WHERE c.serial = $1 AND c.revoked_at IS NULL AND d.sn = $2 AND d.retired_at IS NULL";
/// Forgets a device's session.
pub(crate) const SESSION_REMOVE: &str = "DELETE FROM device_sessions WHERE device_key = $1";
