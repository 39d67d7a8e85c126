//! The keys of servers for tokens, and organisations as tokens name them.

use covey_core::token::{NamedOrg, TokenKey};

use crate::rows::{Columns, Read, get};

/// An organisation by its number.
pub(crate) const ORG_OF_NUMBER: &str = "SELECT id, name FROM orgs WHERE id = $1";
/// An organisation by its name.
pub(crate) const ORG_OF_NAME: &str = "SELECT id, name FROM orgs WHERE name = $1";

/// How many keys there are.
pub(crate) const TOKEN_KEY_COUNT: &str = "SELECT count(*) FROM token_keys";
/// A new key: name, server, JWK, made, signs until, valid until.
pub(crate) const TOKEN_KEY_INSERT: &str = "INSERT INTO token_keys (id, server, jwk, made_at, signs_until, valid_until) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING";
/// Removes those that are over: now.
pub(crate) const TOKEN_KEYS_FORGET: &str = "DELETE FROM token_keys WHERE valid_until <= $1";
/// All keys, the oldest first.
pub(crate) const TOKEN_KEYS: &str =
    "SELECT id, server, jwk, made_at, signs_until, valid_until FROM token_keys ORDER BY made_at, id";

/// An organisation, from its number and name.
pub(crate) fn named_org(row: &dyn Columns) -> Read<NamedOrg> {
    Ok(NamedOrg { id: get(row, 0)?, name: get(row, 1)? })
}

/// A key, from all its columns.
pub(crate) fn token_key(row: &dyn Columns) -> Read<TokenKey> {
    Ok(TokenKey {
        id: get(row, 0)?,
        server: get(row, 1)?,
        jwk: get(row, 2)?,
        made_at: get(row, 3)?,
        signs_until: get(row, 4)?,
        valid_until: get(row, 5)?,
    })
}
