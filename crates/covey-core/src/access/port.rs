//! What operations and callers ask the store of organisations and API keys.

use crate::access::{ApiKey, KeyDigest, Rights};
use crate::id::{OrgId, UnixMs};
use crate::port::{Found, TxResult};

/// The steps on organisations and API keys inside a transaction.
pub trait AccessSteps {
    /// The organisation with this name, made if there is none.
    fn org_ensure(&mut self, name: &str) -> TxResult<OrgId>;
    /// Stores an API key's digest.
    fn api_key_insert(
        &mut self,
        org: OrgId,
        name: &str,
        rights: Rights,
        digest: &KeyDigest,
    ) -> TxResult<ApiKey>;
    /// Whether there is or was any API key. One that was revoked counts: the
    /// first key must not come to life again with the next start.
    fn api_key_exists(&mut self) -> TxResult<bool>;
    /// Sets the last use of an API key to now, unless it was used after `before`.
    fn api_key_use(&mut self, id: i64, before: UnixMs) -> TxResult<()>;
    /// Revokes an API key; answers whether there was one.
    fn api_key_revoke(&mut self, id: i64) -> TxResult<bool>;
}

/// The reads of organisations and API keys.
pub trait AccessReader {
    /// The API key with this digest, unless it was revoked.
    fn api_key_of_every_org(&self, digest: KeyDigest) -> Found<'_, Option<ApiKey>>;

    /// All API keys that were not revoked.
    fn api_key_list_of_every_org(&self) -> Found<'_, Vec<ApiKey>>;
}
