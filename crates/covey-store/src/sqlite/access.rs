//! Organisations and API keys.

use covey_core::access::{AccessReader, AccessSteps, ApiKey, KeyDigest, Rights};
use covey_core::id::{OrgId, UnixMs};
use covey_core::port::{Found, TxResult};

use crate::rows;
use crate::sqlite::Sqlite;
use crate::sqlite::transaction::SqliteTransaction;

impl AccessReader for Sqlite {
    fn api_key_of_every_org(&self, digest: KeyDigest) -> Found<'_, Option<ApiKey>> {
        self.row(rows::API_KEY, [digest], rows::api_key)
    }

    fn api_key_list_of_every_org(&self) -> Found<'_, Vec<ApiKey>> {
        self.rows(rows::API_KEY_LIST, [], rows::api_key)
    }
}

impl AccessSteps for SqliteTransaction<'_> {
    fn org_ensure(&mut self, name: &str) -> TxResult<OrgId> {
        self.only(rows::ORG_ENSURE, (name, self.now.0), rows::first)
    }

    fn api_key_insert(
        &mut self,
        org: OrgId,
        name: &str,
        rights: Rights,
        digest: &KeyDigest,
    ) -> TxResult<ApiKey> {
        let values = (org.0, name, rights.0, digest.as_slice(), self.now.0);
        self.only(rows::API_KEY_INSERT, values, rows::api_key)
    }

    fn api_key_exists(&mut self) -> TxResult<bool> {
        self.exists(rows::API_KEY_EXISTS, [])
    }

    fn api_key_use(&mut self, id: i64, before: UnixMs) -> TxResult<()> {
        let sql = "UPDATE api_keys SET last_used_at = ?1 WHERE id = ?2 AND coalesce(last_used_at, ?3) <= ?3";
        self.change(sql, (self.now.0, id, before.0)).map(drop)
    }

    fn api_key_revoke(&mut self, id: i64) -> TxResult<bool> {
        // The digest makes room: a certificate that stood for this key may be registered anew.
        let revoked = self.change(
            "UPDATE api_keys SET revoked_at = ?2, digest = randomblob(32) WHERE id = ?1 AND revoked_at IS NULL",
            (id, self.now.0),
        )?;
        Ok(revoked > 0)
    }
}
