//! Organisations and API keys.

use covey_core::access::{ApiKey, EndedKey, KeyBounds, Org, Rights};

use crate::rows::{Columns, Damaged, Read, get, grants, number};

/// An organisation of a name: name, now.
pub(crate) const ORG_ENSURE: &str = "INSERT INTO orgs (name, created_at) VALUES ($1, $2) \
     ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id";

/// The columns of an organisation `o`, in the order that [`org`] reads them.
macro_rules! org_columns {
    () => {
        "o.id, o.name, o.created_at, \
         (SELECT count(*) FROM devices d WHERE d.org_id = o.id AND d.retired_at IS NULL), \
         (SELECT count(*) FROM api_keys k WHERE k.org_id = o.id AND k.revoked_at IS NULL)"
    };
}

/// A new organisation, none if the name is taken: name, now.
pub(crate) const ORG_INSERT: &str = "INSERT INTO orgs (name, created_at) VALUES ($1, $2) \
     ON CONFLICT (name) DO NOTHING RETURNING id, name, created_at, 0, 0";
/// The organisation of a name.
pub(crate) const ORG_NAMED: &str = "SELECT id FROM orgs WHERE name = $1";
/// Gives an organisation another name: name, organisation.
pub(crate) const ORG_RENAME: &str = "UPDATE orgs SET name = $1 WHERE id = $2";
/// An organisation.
pub(crate) const ORG: &str = concat!("SELECT ", org_columns!(), " FROM orgs o WHERE o.id = $1");
/// Organisations in the order of their numbers: limit, offset.
pub(crate) const ORG_LIST: &str =
    concat!("SELECT ", org_columns!(), " FROM orgs o ORDER BY o.id LIMIT $1 OFFSET $2");
/// How many there are.
pub(crate) const ORG_COUNT: &str = "SELECT count(*) FROM orgs";

/// An organisation, from `org_columns!`.
pub(crate) fn org(row: &dyn Columns) -> Read<Org> {
    let (id, name, created_at) = (get(row, 0)?, get(row, 1)?, get(row, 2)?);
    Ok(Org { id, name, created_at, devices: number(row, 3)?, keys: number(row, 4)? })
}

/// The columns of an API key, in the order that [`api_key`] reads them.
macro_rules! api_key_columns {
    () => {
        "id, org_id, (SELECT o.name FROM orgs o WHERE o.id = org_id), name, rights, created_at, last_used_at, \
         expires_at, addresses, grants"
    };
}

/// A new API key: organisation, name, rights, digest, now, serial number of its certificate, expiry, addresses, grants.
pub(crate) const API_KEY_INSERT: &str = concat!(
    "INSERT INTO api_keys (org_id, name, rights, digest, created_at, certificate_serial, expires_at, addresses, grants) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING ",
    api_key_columns!()
);

/// The API key of a number.
pub(crate) const API_KEY_OF_ID: &str =
    concat!("SELECT ", api_key_columns!(), " FROM api_keys WHERE id = $1 AND revoked_at IS NULL");

/// Under what the certificate of a CA of others is a device's, or was: its SHA-256. That stands behind 32 digits of its CA
/// and a tilde.
pub(crate) const CERTIFICATE_IMPORTED: &str =
    "SELECT serial FROM certificates WHERE substr(serial, 34) = $1 AND length(serial) = 97 LIMIT 1";

/// Whether a certificate is a device's, or was.
pub(crate) const CERTIFICATE_IS_OF_DEVICE: &str = "SELECT 1 FROM certificates WHERE serial = $1 LIMIT 1";

/// The same of one that was revoked.
pub(crate) const CERTIFICATE_IS_REVOKED: &str =
    "SELECT 1 FROM certificates WHERE serial = $1 AND revoked_at IS NOT NULL LIMIT 1";

/// Whether there is or was any key.
pub(crate) const API_KEY_EXISTS: &str = "SELECT 1 FROM api_keys LIMIT 1";

/// The API key of a digest.
pub(crate) const API_KEY: &str =
    concat!("SELECT ", api_key_columns!(), " FROM api_keys WHERE digest = $1 AND revoked_at IS NULL");

/// All API keys.
pub(crate) const API_KEY_LIST: &str =
    concat!("SELECT ", api_key_columns!(), " FROM api_keys WHERE revoked_at IS NULL ORDER BY id");

/// The numbers of those that are valid: now.
pub(crate) const API_KEY_NUMBERS_VALID: &str =
    "SELECT id FROM api_keys WHERE revoked_at IS NULL AND coalesce(expires_at > $1, TRUE)";

/// An API key, from `api_key_columns!`.
pub(crate) fn api_key(row: &dyn Columns) -> Read<ApiKey> {
    Ok(ApiKey {
        id: get(row, 0)?,
        org: get(row, 1)?,
        org_name: get(row, 2)?,
        name: get(row, 3)?,
        rights: Rights(number(row, 4)?),
        grants: grants(get(row, 9)?),
        created_at: get(row, 5)?,
        last_used_at: get(row, 6)?,
        bounds: KeyBounds {
            expires_at: get(row, 7)?,
            addresses: KeyBounds::addresses_of(
                get::<Option<&str>>(row, 8)?.into_iter().flat_map(|text| text.split(' ')),
            )
            .map_err(|_| Damaged::Value(8, "addresses of an API key"))?,
        },
    })
}

/// What is told of an API key that ended: number, organisation, name.
pub(crate) fn ended_key(row: &dyn Columns) -> Read<EndedKey> {
    Ok(EndedKey { id: get(row, 0)?, org: get(row, 1)?, name: get(row, 2)? })
}

/// The addresses of an API key as they are stored: with a space between two; none for anywhere.
pub(crate) fn api_key_addresses(bounds: &KeyBounds) -> Option<String> {
    let addresses: Vec<_> = bounds.addresses.iter().map(ToString::to_string).collect();
    (!addresses.is_empty()).then(|| addresses.join(" "))
}
