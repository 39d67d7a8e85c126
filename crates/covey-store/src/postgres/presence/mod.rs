//! The coming and going of devices. A presence that was looked at is held, so what
//! comes of it is decided in memory and sent with the group.

mod reads;
mod steps;

use covey_core::device::Presence;
use covey_core::error::Result;
use covey_core::presence::PresenceTold;

use crate::postgres::prepared::prepared;

/// Devices with their connections and what was told of these, held until the commit.
macro_rules! presences {
    ($rest:literal) => {
        concat!(
            "SELECT d.id, d.org_id, d.device_id, d.sn, c.online, c.connected_at, c.checked_at, c.details, \
             c.session, c.server, c.reason, c.told_online, c.told_changes, c.told_since, c.told_due \
             FROM connections c JOIN devices d ON d.id = c.device_key WHERE ",
            $rest
        )
    };
}

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// Sets a presence if it is news; divides by zero if the news before it would
        /// have a later number ([`crate::postgres::write::group_statement`]). Answers when the device last
        /// connected, and what was told of it.
        presence_put: "INSERT INTO connections AS c (device_key, org_id, online, connected_at, checked_at, \
             details, session, server, reason) SELECT id, org_id, $2::bool, $3::int8, $4::int8, $5::text, $6::text, \
             $7::text, $8::text FROM devices WHERE id = $1 \
             ON CONFLICT (device_key) DO UPDATE SET online = excluded.online, checked_at = excluded.checked_at, \
             details = excluded.details, connected_at = coalesce(excluded.connected_at, c.connected_at), \
             session = excluded.session, server = excluded.server, reason = excluded.reason \
             WHERE CASE WHEN excluded.online THEN NOT c.online OR c.session <> excluded.session \
             ELSE c.online AND c.session = excluded.session END AND 1 / (age(c.xmin) >= 0)::int4 = 1 \
             RETURNING c.connected_at, c.told_online, c.told_changes, c.told_since, c.told_due";
        /// What was told of a device, with the same care.
        presence_told: "SELECT c.told_online, c.told_changes, c.told_since, c.told_due \
             FROM connections c WHERE c.device_key = $1 AND 1 / (age(c.xmin) >= 0)::int4 = 1 FOR UPDATE";
        /// Presences of devices that are held: keys, and a value of each column.
        presences_put: "UPDATE connections c SET online = n.online, connected_at = n.connected_at, \
             checked_at = n.checked_at, details = n.details, session = n.session, server = n.server, \
             reason = n.reason FROM unnest($1::int8[], $2::bool[], $3::int8[], $4::int8[], $5::text[], $6::text[], \
             $7::text[], $8::text[]) AS n (device_key, online, connected_at, checked_at, details, session, \
             server, reason) WHERE c.device_key = n.device_key";
        /// What is told of devices that are held: keys, and a value of each column.
        presence_told_put: "UPDATE connections c SET told_online = n.told_online, told_changes = n.told_changes, \
             told_since = n.told_since, told_due = n.told_due \
             FROM unnest($1::int8[], $2::bool[], $3::int8[], $4::int8[], $5::int8[]) \
             AS n (device_key, told_online, told_changes, told_since, told_due) WHERE c.device_key = n.device_key";
        /// Devices of which something is to be told, as far as nobody else is at them:
        /// now, limit. What changed in a transaction of a later number is left for the
        /// next time, so that it comes first in the outbox.
        presences_due: presences!("c.told_due <= $1 AND age(c.xmin) >= 0 ORDER BY c.told_due LIMIT $2 \
             FOR UPDATE OF c SKIP LOCKED");
        /// Devices that a server holds: the server, limit. Waits for those that others
        /// are at: one that was left out would seem to be connected for ever.
        presences_of_server: presences!("c.online AND c.server = $1 AND 1 / (age(c.xmin) >= 0)::int4 = 1 \
             LIMIT $2 FOR UPDATE OF c");
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// Devices that are connected: after, limit.
        presence_online: "SELECT d.id, d.org_id, d.device_id, d.sn, c.session, c.server, c.details FROM connections c \
             JOIN devices d ON d.id = c.device_key WHERE c.online AND c.device_key > $1 \
             ORDER BY c.device_key LIMIT $2";
        /// Whether something is to be told of any device: now.
        presence_due: "SELECT EXISTS (SELECT 1 FROM connections c WHERE c.told_due <= $1)";
    }
}

/// What is known of a device that is held.
#[derive(Default)]
pub(crate) struct CachedPresence {
    /// Its presence, if that was looked at.
    presence: Option<Presence>,
    told: PresenceTold,
    /// Whether the presence is to be sent.
    has_changed: bool,
    /// Whether what was told is to be sent.
    has_told: bool,
}
