//! Steps on organisations and API keys.

use covey_core::access::{AccessSteps, ApiKey, KeyDigest, Rights};
use covey_core::id::{OrgId, UnixMs};
use covey_core::port::TxResult;

use crate::postgres::locks::LockClass;
use crate::postgres::pipeline::values;
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows;

impl AccessSteps for PostgresTransaction<'_> {
    fn org_ensure(&mut self, name: &str) -> TxResult<OrgId> {
        let values = values![name.to_owned(), self.now.0];
        self.write_only(|sql| &sql.access.org_ensure, values, rows::first)
    }

    fn api_key_insert(
        &mut self,
        org: OrgId,
        name: &str,
        rights: Rights,
        digest: &KeyDigest,
    ) -> TxResult<ApiKey> {
        let values = values![org.0, name.to_owned(), i64::from(rights.0), digest.to_vec(), self.now.0];
        self.write_only(|sql| &sql.access.api_key_insert, values, rows::api_key)
    }

    /// Waits for those who are about to make the first key.
    fn api_key_exists(&mut self) -> TxResult<bool> {
        let steps = vec![
            self.query(|sql| &sql.access.api_key_lock, values![LockClass::FirstKey.number()]),
            self.query(|sql| &sql.access.api_key_exists, Vec::new()),
        ];
        Ok(!self.ask_last(steps)?.is_empty())
    }

    fn api_key_use(&mut self, id: i64, before: UnixMs) -> TxResult<()> {
        self.write(|sql| &sql.access.api_key_use, values![self.now.0, id, before.0]).map(drop)
    }

    fn api_key_revoke(&mut self, id: i64) -> TxResult<bool> {
        Ok(self.write(|sql| &sql.access.api_key_revoke, values![id, self.now.0])? > 0)
    }
}
