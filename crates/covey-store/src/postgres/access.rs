//! Organisations and API keys.

use covey_core::access::{AccessReader, AccessSteps, ApiKey, KeyDigest, Rights};
use covey_core::error::Result;
use covey_core::id::{OrgId, UnixMs};
use covey_core::port::{BoxFuture, TxResult};

use crate::postgres::Postgres;
use crate::postgres::locks::LockClass;
use crate::postgres::pipeline::{Reply, execute, query};
use crate::postgres::statements::prepared;
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows;

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// An organisation of a name.
        org_ensure: rows::ORG_ENSURE;
        /// A new API key.
        api_key_insert: rows::API_KEY_INSERT;
        /// Whether there is or was a key, after those who are about to make one.
        api_key_lock: "SELECT pg_advisory_xact_lock($1::int4, 0)";
        /// Whether there is or was a key.
        api_key_exists: rows::API_KEY_EXISTS;
        /// Remembers that a key was used: now, key, before. Waits for nobody, so that
        /// servers that do so at once do not stand in each other's way.
        api_key_use: "UPDATE api_keys SET last_used_at = $1 WHERE id IN (SELECT id FROM api_keys \
            WHERE id = $2 AND coalesce(last_used_at, $3) <= $3 FOR NO KEY UPDATE SKIP LOCKED)";
        /// Revokes a key. Its digest is free again: a certificate may be registered anew.
        api_key_revoke: "UPDATE api_keys SET revoked_at = $2, digest = sha256(uuid_send(gen_random_uuid())) \
            WHERE id = $1 AND revoked_at IS NULL";
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// The API key of a digest.
        api_key: rows::API_KEY;
        /// All API keys.
        api_key_list: rows::API_KEY_LIST;
    }
}

impl AccessReader for Postgres {
    fn api_key_of_every_org(&self, digest: KeyDigest) -> BoxFuture<'_, Result<Option<ApiKey>>> {
        self.row(|sql| &sql.access.api_key, vec![Box::new(digest.to_vec())], rows::api_key)
    }

    fn api_key_list_of_every_org(&self) -> BoxFuture<'_, Result<Vec<ApiKey>>> {
        self.rows(|sql| &sql.access.api_key_list, Vec::new(), rows::api_key)
    }
}

impl AccessSteps for PostgresTransaction<'_> {
    fn org_ensure(&mut self, name: &str) -> TxResult<OrgId> {
        let values = vec![Box::new(name.to_owned()) as _, Box::new(self.now.0) as _];
        let rows =
            self.write_and_ask(query(&self.session.client, &self.session.sql.access.org_ensure, values))?;
        self.only(&rows, rows::first)
    }

    fn api_key_insert(
        &mut self,
        org: OrgId,
        name: &str,
        rights: Rights,
        digest: &KeyDigest,
    ) -> TxResult<ApiKey> {
        let values = vec![
            Box::new(org.0) as _,
            Box::new(name.to_owned()) as _,
            Box::new(i64::from(rights.0)) as _,
            Box::new(digest.to_vec()) as _,
            Box::new(self.now.0) as _,
        ];
        let rows =
            self.write_and_ask(query(&self.session.client, &self.session.sql.access.api_key_insert, values))?;
        self.only(&rows, rows::api_key)
    }

    /// Waits for those who are about to make the first key.
    fn api_key_exists(&mut self) -> TxResult<bool> {
        let (client, sql) = (&self.session.client, &self.session.sql);
        let steps = vec![
            query(client, &sql.access.api_key_lock, vec![Box::new(LockClass::FirstKey.number())]),
            query(client, &sql.access.api_key_exists, Vec::new()),
        ];
        let rows = self.trip(steps)?.pop().map(Reply::rows).unwrap_or_default();
        Ok(!rows.is_empty())
    }

    fn api_key_use(&mut self, id: i64, before: UnixMs) -> TxResult<()> {
        let values = vec![Box::new(self.now.0) as _, Box::new(id) as _, Box::new(before.0) as _];
        self.write(execute(&self.session.client, &self.session.sql.access.api_key_use, values)).map(drop)
    }

    fn api_key_revoke(&mut self, id: i64) -> TxResult<bool> {
        let values = vec![Box::new(id) as _, Box::new(self.now.0) as _];
        Ok(self.write(execute(&self.session.client, &self.session.sql.access.api_key_revoke, values))? > 0)
    }
}
