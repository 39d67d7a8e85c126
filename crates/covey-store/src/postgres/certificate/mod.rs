//! Certificates of devices. Steps on them are rare, so each is a statement of its own. The device is held first, as where
//! it is retired, so that nobody waits for one who waits for him.

mod reads;
mod steps;

use crate::postgres::prepared::prepared;
use crate::rows;

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// A certificate by its number: organisation, number.
        certificate: concat!("SELECT ", rows::certificate_columns!(), " FROM ", rows::certificates!(),
            " WHERE c.org_id = $1 AND c.serial = $2 ORDER BY ", rows::certificate_order!(), " LIMIT 1 FOR NO KEY UPDATE OF d");
        /// Revokes what stands for a certificate: its number, now.
        api_keys_revoke_of_certificate: "UPDATE api_keys SET revoked_at = $2, \
            digest = sha256(uuid_send(gen_random_uuid())) WHERE revoked_at IS NULL AND certificate_serial = $1 \
            RETURNING id, org_id, name";
        /// Revokes a certificate: now, reason, number, device.
        certificate_revoke: rows::CERTIFICATE_REVOKE;
        /// Remembers by which a certificate was got.
        certificate_renewed_from: rows::CERTIFICATE_RENEWED_FROM;
        /// Those that were got by one, or by these.
        certificates_renewed_from: rows::CERTIFICATES_RENEWED_FROM;
        /// Those of a device that were not revoked: device, limit.
        certificates_unrevoked: rows::CERTIFICATES_UNREVOKED;
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// Which of these numbers were given to devices, and whether they are revoked.
        certificates_known: "SELECT serial, revoked_at, reason FROM certificates WHERE serial = ANY($1::text[])";
        /// How many are revoked.
        revoked_count: rows::REVOKED_COUNT;
        /// Those that are: instant, number, end, whether of CAs of others, too, limit.
        revoked: rows::REVOKED;
    }
}
