//! What is kept of devices' sessions. Steps on them are rare, so each is a statement of its own.

mod reads;
mod steps;

use covey_core::error::Result;

use crate::postgres::prepared::prepared;
use crate::rows;

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// Keeps a session whose revision is not another's: device, revision before, expiry, subscriptions.
        /// One that somebody else is at is changed by that one.
        session_put: "WITH held AS (SELECT s.device_key, s.revision FROM device_sessions s WHERE s.device_key = $1 \
             FOR UPDATE SKIP LOCKED), \
             changed AS (UPDATE device_sessions s SET revision = $2::int8 + 1, expiry_s = $3::int8, \
             subscriptions = $4::text FROM held h WHERE s.device_key = h.device_key AND h.revision = $2 \
             RETURNING s.revision), \
             made AS (INSERT INTO device_sessions (device_key, org_id, revision, expiry_s, subscriptions) \
             SELECT id, org_id, $2::int8 + 1, $3::int8, $4::text FROM devices WHERE id = $1 AND retired_at IS NULL \
             AND $2 = 0 ON CONFLICT (device_key) DO NOTHING RETURNING revision) \
             SELECT revision FROM changed UNION ALL SELECT revision FROM made";
        /// Forgets one: device.
        session_remove: rows::SESSION_REMOVE;
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// Who a certificate belongs to, with the session: serial number, SN.
        session_of_certificate: rows::SESSION_OF_CERTIFICATE;
    }
}
