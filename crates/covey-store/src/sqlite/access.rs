//! Organisations and API keys.

use covey_core::access::{Access, AccessReader, AccessSteps, ApiKey, EndedKey, KeyDigest, Org, Rights};
use covey_core::id::{DeviceKey, OrgId, UnixMs};
use covey_core::port::{Found, Page, PageRequest, ReadKind, Turn, TxResult};

use crate::rows;
use crate::sqlite::Sqlite;
use crate::sqlite::statement::Ask;
use crate::sqlite::transaction::SqliteTransaction;

impl AccessReader for Sqlite {
    fn api_key_of_every_org(&self, digest: KeyDigest) -> Found<'_, Option<ApiKey>> {
        self.row(ReadKind::ApiKey, Turn::Server, rows::API_KEY, [digest], rows::api_key)
    }

    fn api_key_numbers_valid_of_every_org(&self, now: UnixMs) -> Found<'_, Vec<i64>> {
        let sql = rows::API_KEY_NUMBERS_VALID;
        self.rows(ReadKind::ApiKeyList, Turn::Server, sql, [now.0], rows::first)
    }

    fn org_list_of_every_org(&self, only: Option<OrgId>, page: PageRequest) -> Found<'_, Page<Org>> {
        self.read(ReadKind::OrgList, Turn::Server, move |connection| {
            let snapshot = connection.unchecked_transaction()?;
            if let Some(only) = only {
                let items = snapshot.rows(rows::ORG, [only.0], rows::org)?;
                return Ok(Page { total: items.len() as u64, items, is_cut: false });
            }
            let offset = i64::try_from(page.offset()).unwrap_or(i64::MAX);
            let items = snapshot.rows(rows::ORG_LIST, (page.size, offset), rows::org)?;
            let total = snapshot.only(rows::ORG_COUNT, [], |row| rows::number(row, 0))?;
            Ok(Page { items, total, is_cut: false })
        })
    }

    fn api_key_list_of_every_org(&self) -> Found<'_, Vec<ApiKey>> {
        self.rows(ReadKind::ApiKeyList, Turn::Server, rows::API_KEY_LIST, [], rows::api_key)
    }
}

impl AccessSteps for SqliteTransaction<'_> {
    fn org_ensure(&mut self, name: &str) -> TxResult<OrgId> {
        self.only(rows::ORG_ENSURE, (name, self.now.0), rows::first)
    }

    fn org_insert(&mut self, name: &str) -> TxResult<Option<Org>> {
        self.row(rows::ORG_INSERT, (name, self.now.0), rows::org)
    }

    fn org_named(&mut self, name: &str) -> TxResult<Option<OrgId>> {
        self.row(rows::ORG_NAMED, [name], rows::first)
    }

    fn org_rename(&mut self, id: OrgId, name: &str) -> TxResult<Option<Org>> {
        self.change(rows::ORG_RENAME, (name, id.0))?;
        self.row(rows::ORG, [id.0], rows::org)
    }

    fn api_key_insert(
        &mut self,
        org: OrgId,
        name: &str,
        access: &Access,
        digest: &KeyDigest,
        certificate_serial_hex: Option<&str>,
    ) -> TxResult<ApiKey> {
        let Access { rights, grants, bounds } = access;
        let (expires_at, addresses) = (bounds.expires_at.map(|at| at.0), rows::api_key_addresses(bounds));
        let (digest, serial, grants) = (digest.as_slice(), certificate_serial_hex, rows::grants_text(grants));
        let values = (org.0, name, rights.0, digest, self.now.0, serial, expires_at, addresses, grants);
        self.only(rows::API_KEY_INSERT, values, rows::api_key)
    }

    fn api_key(&mut self, id: i64) -> TxResult<Option<ApiKey>> {
        self.row(rows::API_KEY_OF_ID, [id], rows::api_key)
    }

    fn api_key_count(&mut self, rights: Rights) -> TxResult<i64> {
        let sql = "SELECT count(*) FROM api_keys WHERE revoked_at IS NULL AND rights & ?1 = ?1 \
             AND coalesce(expires_at > ?2, TRUE) AND addresses IS NULL";
        self.only(sql, (rights.0, self.now.0), rows::first)
    }

    fn api_key_exists(&mut self) -> TxResult<bool> {
        self.exists(rows::API_KEY_EXISTS, [])
    }

    fn api_key_use(&mut self, id: i64, before: UnixMs, certificate_serial_hex: Option<&str>) -> TxResult<()> {
        let sql = "UPDATE api_keys SET last_used_at = ?1, certificate_serial = coalesce(certificate_serial, ?4) \
             WHERE id = ?2 AND coalesce(last_used_at, ?3) <= ?3";
        self.change(sql, (self.now.0, id, before.0, certificate_serial_hex)).map(drop)
    }

    fn api_key_revoke(&mut self, id: i64) -> TxResult<bool> {
        // The digest makes room: a certificate that stood for this key may be registered anew.
        let revoked = self.change(
            "UPDATE api_keys SET revoked_at = ?2, digest = randomblob(32) WHERE id = ?1 AND revoked_at IS NULL",
            (id, self.now.0),
        )?;
        Ok(revoked > 0)
    }

    fn api_keys_revoke_of_device(&mut self, device: DeviceKey) -> TxResult<Vec<EndedKey>> {
        let sql = "UPDATE api_keys SET revoked_at = ?2, digest = randomblob(32) WHERE revoked_at IS NULL \
             AND certificate_serial IN (SELECT serial FROM certificates WHERE device_key = ?1) \
             RETURNING id, org_id, name";
        self.rows(sql, (device.0, self.now.0), rows::ended_key)
    }

    fn certificate_imported(&mut self, sha256_hex: &str) -> TxResult<Option<String>> {
        self.row(rows::CERTIFICATE_IMPORTED, [sha256_hex], rows::first)
    }

    fn certificate_is_of_device(&mut self, serial_hex: &str) -> TxResult<bool> {
        self.exists(rows::CERTIFICATE_IS_OF_DEVICE, [serial_hex])
    }

    fn certificate_is_revoked(&mut self, serial_hex: &str) -> TxResult<bool> {
        self.exists(rows::CERTIFICATE_IS_REVOKED, [serial_hex])
    }
}
