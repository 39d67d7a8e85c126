//! Organisations and API keys.

use covey_core::access::{AccessReader, AccessSteps, ApiKey, KeyDigest, Rights};
use covey_core::error::Result;
use covey_core::id::{OrgId, UnixMs};
use covey_core::port::{BoxFuture, TxResult};
use rusqlite::OptionalExtension;

use crate::rows;
use crate::sqlite::transaction::SqliteTransaction;
use crate::sqlite::{Sqlite, by};

impl AccessReader for Sqlite {
    fn api_key_of_every_org(&self, digest: KeyDigest) -> BoxFuture<'_, Result<Option<ApiKey>>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(rows::API_KEY)?;
            statement.query_row([digest.as_slice()], by(rows::api_key)).optional()
        })
    }

    fn api_key_list_of_every_org(&self) -> BoxFuture<'_, Result<Vec<ApiKey>>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(rows::API_KEY_LIST)?;
            statement.query_map([], by(rows::api_key))?.collect()
        })
    }
}

impl AccessSteps for SqliteTransaction<'_> {
    fn org_ensure(&mut self, name: &str) -> TxResult<OrgId> {
        self.sql(rows::ORG_ENSURE, |statement| statement.query_row((name, self.now.0), by(rows::first)))
    }

    fn api_key_insert(
        &mut self,
        org: OrgId,
        name: &str,
        rights: Rights,
        digest: &KeyDigest,
    ) -> TxResult<ApiKey> {
        self.sql(rows::API_KEY_INSERT, |statement| {
            let values = (org.0, name, rights.0, digest.as_slice(), self.now.0);
            statement.query_row(values, by(rows::api_key))
        })
    }

    fn api_key_exists(&mut self) -> TxResult<bool> {
        self.sql(rows::API_KEY_EXISTS, |statement| statement.exists([]))
    }

    fn api_key_use(&mut self, id: i64, before: UnixMs) -> TxResult<()> {
        self.sql(
            "UPDATE api_keys SET last_used_at = ?1 WHERE id = ?2 AND coalesce(last_used_at, ?3) <= ?3",
            |statement| statement.execute((self.now.0, id, before.0)).map(drop),
        )
    }

    fn api_key_revoke(&mut self, id: i64) -> TxResult<bool> {
        // The digest makes room: a certificate that stood for this key may be registered anew.
        self.sql(
            "UPDATE api_keys SET revoked_at = ?2, digest = randomblob(32) WHERE id = ?1 AND revoked_at IS NULL",
            |statement| Ok(statement.execute((id, self.now.0))? > 0),
        )
    }
}
