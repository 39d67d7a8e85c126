//! What operations and callers ask the store of organisations and API keys.

use crate::access::{Access, ApiKey, EndedKey, KeyDigest, Org, Rights};
use crate::id::{DeviceKey, OrgId, UnixMs};
use crate::port::{Found, Page, PageRequest, TxResult};

/// The steps on organisations and API keys inside a transaction.
pub trait AccessSteps {
    /// The organisation with this name, made if there is none.
    fn org_ensure(&mut self, name: &str) -> TxResult<OrgId>;
    /// Makes an organisation; none if there is one of that name.
    fn org_insert(&mut self, name: &str) -> TxResult<Option<Org>>;
    /// The organisation with this name.
    fn org_named(&mut self, name: &str) -> TxResult<Option<OrgId>>;
    /// Gives an organisation a name that no other has; answers it, if it is there.
    fn org_rename(&mut self, id: OrgId, name: &str) -> TxResult<Option<Org>>;
    /// Stores an API key's digest, and the serial number of the certificate that stands for it.
    fn api_key_insert(
        &mut self,
        org: OrgId,
        name: &str,
        access: &Access,
        digest: &KeyDigest,
        certificate_serial_hex: Option<&str>,
    ) -> TxResult<ApiKey>;
    /// The API key of this number, unless it was revoked.
    fn api_key(&mut self, id: i64) -> TxResult<Option<ApiKey>>;
    /// How many keys that are valid now, and from anywhere, have all of these rights. Nobody revokes one
    /// of them until this transaction has ended.
    fn api_key_count(&mut self, rights: Rights) -> TxResult<i64>;
    /// Whether there is or was any API key. One that was revoked counts: the
    /// first key must not come to life again with the next start.
    fn api_key_exists(&mut self) -> TxResult<bool>;
    /// Sets the last use of an API key to now, unless it was used after `before`; and the serial number of
    /// its certificate, unless that is known.
    fn api_key_use(&mut self, id: i64, before: UnixMs, certificate_serial_hex: Option<&str>) -> TxResult<()>;
    /// Revokes an API key; answers whether there was one.
    fn api_key_revoke(&mut self, id: i64) -> TxResult<bool>;
    /// Revokes what stands for a certificate of this device; answers that.
    fn api_keys_revoke_of_device(&mut self, device: DeviceKey) -> TxResult<Vec<EndedKey>>;
    /// The serial number under which the certificate of a CA of others with this SHA-256 is a device's, or was.
    fn certificate_imported(&mut self, sha256_hex: &str) -> TxResult<Option<String>>;
    /// Whether a certificate of this serial number is a device's, or was.
    fn certificate_is_of_device(&mut self, serial_hex: &str) -> TxResult<bool>;
    /// Whether a certificate of this serial number was a device's and was revoked.
    fn certificate_is_revoked(&mut self, serial_hex: &str) -> TxResult<bool>;
}

/// The reads of organisations and API keys.
pub trait AccessReader {
    /// The API key with this digest, unless it was revoked; also one that has expired.
    fn api_key_of_every_org(&self, digest: KeyDigest) -> Found<'_, Option<ApiKey>>;

    /// The numbers of the API keys that are valid at this instant.
    fn api_key_numbers_valid_of_every_org(&self, now: UnixMs) -> Found<'_, Vec<i64>>;

    /// Organisations in the order of their numbers, or this one alone.
    fn org_list_of_every_org(&self, only: Option<OrgId>, page: PageRequest) -> Found<'_, Page<Org>>;

    /// All API keys that were not revoked, also those that have expired.
    fn api_key_list_of_every_org(&self) -> Found<'_, Vec<ApiKey>>;
}
