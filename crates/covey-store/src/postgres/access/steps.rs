//! Steps on organisations and API keys.

use covey_core::access::{Access, AccessSteps, ApiKey, EndedKey, KeyDigest, Org, Rights};
use covey_core::id::{DeviceKey, OrgId, UnixMs};
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

    fn org_insert(&mut self, name: &str) -> TxResult<Option<Org>> {
        let values = values![name.to_owned(), self.now.0];
        self.write_first(|sql| &sql.access.org_insert, values, rows::org)
    }

    fn org_named(&mut self, name: &str) -> TxResult<Option<OrgId>> {
        self.ask_first(|sql| &sql.access.org_named, values![name.to_owned()], rows::first)
    }

    fn org_rename(&mut self, id: OrgId, name: &str) -> TxResult<Option<Org>> {
        self.write(|sql| &sql.access.org_rename, values![name.to_owned(), id.0])?;
        self.ask_first(|sql| &sql.access.org, values![id.0], rows::org)
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
        let (serial, name) = (certificate_serial_hex.map(ToOwned::to_owned), name.to_owned());
        let (expires_at, addresses) = (bounds.expires_at.map(|at| at.0), rows::api_key_addresses(bounds));
        let (rights, grants) = (i64::from(rights.0), rows::grants_text(grants));
        let values =
            values![org.0, name, rights, digest.to_vec(), self.now.0, serial, expires_at, addresses, grants];
        self.write_only(|sql| &sql.access.api_key_insert, values, rows::api_key)
    }

    fn api_key(&mut self, id: i64) -> TxResult<Option<ApiKey>> {
        self.ask_first(|sql| &sql.access.api_key_of_id, values![id], rows::api_key)
    }

    fn api_key_count(&mut self, rights: Rights) -> TxResult<i64> {
        self.ask_only(|sql| &sql.access.api_key_count, values![i64::from(rights.0), self.now.0], rows::first)
    }

    /// Waits for those who are about to make the first key.
    fn api_key_exists(&mut self) -> TxResult<bool> {
        let steps = vec![
            self.query(|sql| &sql.access.api_key_lock, values![LockClass::FirstKey.number()]),
            self.query(|sql| &sql.access.api_key_exists, Vec::new()),
        ];
        Ok(!self.ask_last(steps)?.is_empty())
    }

    fn api_key_use(&mut self, id: i64, before: UnixMs, certificate_serial_hex: Option<&str>) -> TxResult<()> {
        let values = values![self.now.0, id, before.0, certificate_serial_hex.map(ToOwned::to_owned)];
        self.write(|sql| &sql.access.api_key_use, values).map(drop)
    }

    fn api_key_revoke(&mut self, id: i64) -> TxResult<bool> {
        Ok(self.write(|sql| &sql.access.api_key_revoke, values![id, self.now.0])? > 0)
    }

    fn api_keys_revoke_of_device(&mut self, device: DeviceKey) -> TxResult<Vec<EndedKey>> {
        let values = values![device.0, self.now.0];
        self.write_rows(|sql| &sql.access.api_keys_revoke_of_device, values, rows::ended_key)
    }

    fn certificate_imported(&mut self, sha256_hex: &str) -> TxResult<Option<String>> {
        self.ask_first(|sql| &sql.access.certificate_imported, values![sha256_hex.to_owned()], rows::first)
    }

    fn certificate_is_of_device(&mut self, serial_hex: &str) -> TxResult<bool> {
        let step = self.query(|sql| &sql.access.certificate_is_of_device, values![serial_hex.to_owned()]);
        Ok(!self.ask(step)?.is_empty())
    }

    fn certificate_is_revoked(&mut self, serial_hex: &str) -> TxResult<bool> {
        let step = self.query(|sql| &sql.access.certificate_is_revoked, values![serial_hex.to_owned()]);
        Ok(!self.ask(step)?.is_empty())
    }
}
