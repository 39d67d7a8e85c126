//! What can be asked of API keys, and of the credentials that stand for them.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::access::{
    Access, ApiKey, ApiKeyAdd, ApiKeyExists, ApiKeyRevoke, ApiKeyUse, Caller, FirstKeyAdd,
    LAST_USED_GRAIN_MS, MadeKey, Rights, ShownCertificate,
};
use crate::audit::AuditActor;
use crate::budget::Weight;
use crate::engine::{Engine, ForCaller, ForServer};
use crate::error::{Error, Result};
use crate::id::{CallerId, OrgId};

impl Engine {
    /// A new API key in clear text, not stored anywhere.
    #[must_use]
    pub fn api_key_text(&self) -> String {
        self.parts.ids.api_key()
    }

    fn key_to_add(
        &self,
        org_name: &str,
        name: &str,
        access: Access,
        clear_text: &str,
        (by, from): (AuditActor, Option<IpAddr>),
    ) -> Result<ApiKeyAdd> {
        ApiKeyAdd::validate(org_name, name)?;
        let digest = (self.parts.key_hasher)(clear_text);
        let (org_name, name) = (org_name.to_owned(), name.to_owned());
        Ok(ApiKeyAdd { org: None, org_name, name, access, digest, certificate: None, by, from })
    }
}

impl ForCaller<'_> {
    /// Makes an API key.
    ///
    /// # Errors
    /// A missing right, a field out of range, or the store's.
    pub async fn api_key_add(self, org_name: &str, name: &str, access: impl Into<Access>) -> Result<MadeKey> {
        let access = access.into();
        may_grant(self.caller, org_name, &access)?;
        self.charge(Weight::WRITE)?;
        let clear_text = self.engine.parts.ids.api_key();
        let by = (AuditActor::of(self.caller), self.caller.from);
        let mut operation = self.engine.key_to_add(org_name, name, access, &clear_text, by)?;
        operation.org = self.own_org(org_name);
        Ok(MadeKey { key: self.engine.execute(operation).await?.key, clear_text })
    }

    /// Takes a credential that its owner brings, such as a certificate, in
    /// place of a key: `text` is what [`ForServer::api_key_check`] will be asked, and
    /// `serial_hex` its serial number: what it may do ends when it is that of a device
    /// that is retired.
    ///
    /// # Errors
    /// A missing right, a field out of range, [`Error::Conflict`] for a
    /// credential that is in use already, or the store's.
    pub async fn credential_add(
        self,
        org_name: &str,
        name: &str,
        access: impl Into<Access>,
        text: &str,
        serial_hex: &str,
    ) -> Result<ApiKey> {
        let access = access.into();
        may_grant(self.caller, org_name, &access)?;
        self.charge(Weight::WRITE)?;
        let by = (AuditActor::of(self.caller), self.caller.from);
        let mut operation = self.engine.key_to_add(org_name, name, access, text, by)?;
        operation.certificate = Some(ShownCertificate::of(text, serial_hex.to_owned()));
        operation.org = self.own_org(org_name);
        if self.engine.server().api_key_check(text).await?.is_some() {
            return Err(Error::Conflict { problem: "this credential is in use already; revoke it first" });
        }
        Ok(self.engine.execute(operation).await?.key)
    }

    /// The caller's organisation, where the name is its own: it may be called something else by now, and another so.
    pub(crate) fn own_org(self, name: &str) -> Option<OrgId> {
        (name == &*self.caller.org_name).then_some(self.caller.org)
    }

    /// The API keys of the caller's organisation, or of all for whom that may be said.
    ///
    /// # Errors
    /// A missing right, or the store's.
    pub async fn api_key_list(self) -> Result<Vec<ApiKey>> {
        self.caller.require(Rights::KEYS_WRITE)?;
        let mut keys = self.engine.parts.store.api_key_list_of_every_org().await?;
        if !self.caller.rights.contains(Rights::ORGS_ADMIN) {
            keys.retain(|key| key.org == self.caller.org);
        }
        Ok(keys)
    }

    /// Revokes an API key.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], [`Error::LastKey`], or the store's.
    pub async fn api_key_revoke(self, id: i64) -> Result<()> {
        self.caller.require(Rights::KEYS_WRITE)?;
        self.charge_relief(Weight::WRITE)?;
        self.engine.execute(ApiKeyRevoke { caller: self.caller.clone(), id }).await.map(drop)
    }
}

impl ForServer<'_> {
    /// The API key of a text. Whoever lets somebody in by it looks at its bounds, too.
    ///
    /// # Errors
    /// The store's.
    pub async fn api_key_check(self, clear_text: &str) -> Result<Option<ApiKey>> {
        self.engine.parts.store.api_key_of_every_org((self.engine.parts.key_hasher)(clear_text)).await
    }

    /// Remembers that an API key let somebody in, if that was not known of the last
    /// [`LAST_USED_GRAIN_MS`]. Nobody waits for it, and a request does not fail with it.
    /// `certificate`: the one that stood for it.
    pub fn api_key_used(self, key: &ApiKey, certificate: Option<ShownCertificate>) {
        let now = self.engine.now();
        let is_due = key.last_used_at.is_none_or(|at| now.since_ms(at) >= LAST_USED_GRAIN_MS);
        if is_due && self.engine.parts.store.write_fault().is_none() {
            // A store that takes no jobs now is asked again when the key is used next.
            let used = ApiKeyUse { org: key.org, id: key.id, certificate };
            let _ = self.engine.submit(used, |_, _| ());
        }
    }

    /// Whether there is or was any API key; one that was revoked counts.
    ///
    /// # Errors
    /// The store's.
    pub async fn api_key_exists(self) -> Result<bool> {
        self.engine.execute(ApiKeyExists).await
    }

    /// Makes the first key, with this clear text, if there never was one;
    /// answers whether it did.
    ///
    /// # Errors
    /// The store's.
    pub async fn api_key_first(self, org_name: &str, name: &str, clear_text: &str) -> Result<bool> {
        let by = (AuditActor::server("first start"), None);
        let add = self.engine.key_to_add(org_name, name, Rights::ALL.into(), clear_text, by)?;
        let operation = FirstKeyAdd(add);
        Ok(self.engine.execute(operation).await?.is_some())
    }

    /// Whom all credentials stand for that are valid.
    ///
    /// # Errors
    /// The store's.
    pub async fn callers(self) -> Result<Vec<Caller>> {
        let (keys, now) = (self.engine.parts.store.api_key_list_of_every_org().await?, self.engine.now());
        Ok(keys.iter().filter(|key| !key.bounds.is_over_at(now)).map(Caller::of).collect())
    }

    /// Those whose credentials are valid.
    ///
    /// # Errors
    /// The store's.
    pub async fn callers_valid(self) -> Result<HashSet<CallerId>> {
        let now = self.engine.now();
        let numbers = self.engine.parts.store.api_key_numbers_valid_of_every_org(now).await?;
        Ok(numbers.into_iter().map(CallerId).collect())
    }
}

/// Nobody hands out a right that it does not hold, or for longer or elsewhere than it holds it, or makes keys for others
/// without the right to.
fn may_grant(caller: &Caller, org_name: &str, access: &Access) -> Result<()> {
    caller.require(Rights::KEYS_WRITE)?;
    if org_name != &*caller.org_name {
        caller.require(Rights::ORGS_ADMIN)?;
    }
    let grants = access.grants.list();
    may_give_devices(caller, Rights(access.rights.0 | access.grants.rights().0))?;
    if !caller.rights.contains(access.rights)
        || !grants.iter().all(|grant| caller.grants.contains(caller.rights, grant))
    {
        return Err(Error::Forbidden { right: "of the key to be made" });
    }
    caller.bounds.require(&access.bounds)
}

/// Whoever gets devices:write could set the tags that the giver's own grants name, which the giver may not.
pub(crate) fn may_give_devices(caller: &Caller, rights: Rights) -> Result<()> {
    let is_bound = caller.grants.list().iter().any(|grant| !grant.tags.is_empty());
    if rights.contains(Rights::DEVICES_WRITE) && is_bound {
        return Err(Error::Forbidden {
            right: "devices:write of a key whose own grants name tags, to give it away,",
        });
    }
    Ok(())
}
