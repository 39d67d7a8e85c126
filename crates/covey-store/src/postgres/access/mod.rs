//! Organisations and API keys.

mod reads;
mod steps;

use covey_core::error::Result;

use crate::postgres::prepared::prepared;
use crate::rows;

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// An organisation of a name.
        org_ensure: rows::ORG_ENSURE;
        /// A new organisation.
        org_insert: rows::ORG_INSERT;
        /// The organisation of a name.
        org_named: rows::ORG_NAMED;
        /// Gives an organisation another name.
        org_rename: rows::ORG_RENAME;
        /// An organisation.
        org: rows::ORG;
        /// A new API key.
        api_key_insert: rows::API_KEY_INSERT;
        /// Whether there is or was a key, after those who are about to make one.
        api_key_lock: "SELECT pg_advisory_xact_lock($1::int4, 0)";
        /// Whether there is or was a key.
        api_key_exists: rows::API_KEY_EXISTS;
        /// Remembers that a key was used: now, key, before, serial number of its certificate. Waits for nobody, so that
        /// servers that do so at once do not stand in each other's way.
        api_key_use: "UPDATE api_keys SET last_used_at = $1, \
            certificate_serial = coalesce(certificate_serial, $4::text) WHERE id IN (SELECT id FROM api_keys \
            WHERE id = $2 AND coalesce(last_used_at, $3) <= $3 FOR NO KEY UPDATE SKIP LOCKED)";
        /// Revokes a key. Its digest is free again: a certificate may be registered anew.
        api_key_revoke: "UPDATE api_keys SET revoked_at = $2, digest = sha256(uuid_send(gen_random_uuid())) \
            WHERE id = $1 AND revoked_at IS NULL";
        /// The API key of a number.
        api_key_of_id: rows::API_KEY_OF_ID;
        /// How many keys that are valid now, and from anywhere, have rights: rights, now. Who would revoke one of them waits.
        api_key_count: "SELECT count(*) FROM (SELECT 1 FROM api_keys WHERE revoked_at IS NULL AND rights & $1 = $1 \
            AND coalesce(expires_at > $2, TRUE) AND addresses IS NULL ORDER BY id FOR NO KEY UPDATE) AS k";
        /// Revokes what stands for the certificates of a device: device, now.
        api_keys_revoke_of_device: "UPDATE api_keys SET revoked_at = $2, \
            digest = sha256(uuid_send(gen_random_uuid())) WHERE revoked_at IS NULL \
            AND certificate_serial IN (SELECT serial FROM certificates WHERE device_key = $1) RETURNING id, org_id, name";
        /// Under what the certificate of a CA of others is a device's.
        certificate_imported: rows::CERTIFICATE_IMPORTED;
        /// Whether a certificate is a device's, or was.
        certificate_is_of_device: rows::CERTIFICATE_IS_OF_DEVICE;
        /// Whether a certificate was a device's and was revoked.
        certificate_is_revoked: rows::CERTIFICATE_IS_REVOKED;
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// The API key of a digest.
        api_key: rows::API_KEY;
        /// An organisation.
        org: rows::ORG;
        /// Organisations.
        org_list: rows::ORG_LIST;
        /// The numbers of the API keys that are valid.
        api_key_numbers_valid: rows::API_KEY_NUMBERS_VALID;
        /// How many there are.
        org_count: rows::ORG_COUNT;
        /// All API keys.
        api_key_list: rows::API_KEY_LIST;
    }
}
