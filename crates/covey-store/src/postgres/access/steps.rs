//! Steps on organisations and API keys.

use covey_core::access::{AccessSteps, ApiKey, KeyDigest, Rights};
use covey_core::id::{OrgId, UnixMs};
use covey_core::port::TxResult;

use crate::postgres::locks::LockClass;
use crate::postgres::pipeline::{Reply, execute, query};
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows;

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
